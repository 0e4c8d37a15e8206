#!/usr/bin/env python3
"""asyncio_target.py JOB DVIPA PORT: answers HTTP requests on connections that are transferred to it."""

import asyncio
import sys

import baton
import baton.aio


def job_of(head: bytes) -> str:
    """Who serves the request with this head."""
    return "images" if head.partition(b" ")[2].startswith(b"/images/") else "pages"


async def serve(application: baton.aio.TargetApplication, offer: baton.aio.Offer, job: str) -> None:
    reader, writer = await offer.accept_streams()
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if job_of(head) != job:
                try:
                    # The client has the last answer by now, or it would not ask for more: its acknowledgement is on its way.
                    return await application.complete((reader, writer), give_back=head, unacknowledged=5)
                except baton.Refused as error:  # better this one's answer than none
                    print(error, file=sys.stderr)
            body = f"{job} has {head.split()[1].decode()}\n".encode()
            writer.write(b"HTTP/1.1 200 OK\r\nServer: asyncio\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
    except asyncio.IncompleteReadError:
        pass  # the client has ended
    finally:
        writer.close()


def say(task: "asyncio.Task[None]") -> None:
    if task.exception():  # a connection that has not come stays where it was
        print(task.exception(), file=sys.stderr)


async def main(job: str, dvipa: str, port: int) -> None:
    async with await baton.aio.TargetApplication.register(job, dvipa, [port]) as application:
        tasks = set()
        async for offer in application:
            task = asyncio.ensure_future(serve(application, offer, job))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            task.add_done_callback(say)


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
