#!/usr/bin/env python3
"""uvicorn_target.py JOB DVIPA PORT MODULE:APPLICATION: uvicorn on connections that are transferred to it."""

import asyncio
import sys

import baton
import baton.aio
import uvicorn


async def take(server: uvicorn.Server, offer: baton.aio.Offer) -> None:
    named = {"config": server.config, "server_state": server.server_state}
    if hasattr(server.lifespan, "state"):  # uvicorn 0.21 and newer
        named["app_state"] = server.lifespan.state
    try:
        await offer.accept_protocol(lambda: server.config.http_protocol_class(**named))
    except baton.Error as error:  # it has not come, and stays where it was
        print(error, file=sys.stderr)


async def main(job: str, dvipa: str, port: int, application: str) -> None:
    server = uvicorn.Server(uvicorn.Config(application))
    serving = asyncio.ensure_future(server.serve(sockets=[]))  # no socket of its own
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    async with await baton.aio.TargetApplication.register(job, dvipa, [port]) as target:
        serving.add_done_callback(lambda _: target.close())
        tasks = set()
        async for offer in target:
            task = asyncio.ensure_future(take(server, offer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    await serving


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
