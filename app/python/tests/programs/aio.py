"""Every call of `baton.aio`, against a stack of one host."""

import asyncio
import socket
import unittest

import baton
import baton.aio

DVIPA = "127.0.0.1"


class Calls(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.accepted = asyncio.Queue()
        # Its protocol reads ahead as streams do.
        self.server = await asyncio.start_server(lambda *streams: self.accepted.put_nowait(streams), DVIPA, 0)
        self.port = self.server.sockets[0].getsockname()[1]
        self.router = await baton.aio.RoutingApplication.register("router", DVIPA, [self.port])
        self.target = await baton.aio.TargetApplication.register("counter", DVIPA, [self.port], hold_accepts=True)
        self.client = await asyncio.open_connection(DVIPA, self.port)
        self.streams = await self.soon(self.accepted.get())

    async def asyncTearDown(self):
        self.router.close()
        self.target.close()
        self.client[1].close()
        self.streams[1].close()
        self.server.close()

    async def soon(self, call):
        return await asyncio.wait_for(call, 20)

    async def say(self, words):
        self.client[1].write(words)
        await self.client[1].drain()

    async def heard(self, words):
        self.assertEqual(await self.soon(self.client[0].readexactly(len(words))), words)

    async def test_streams_move_with_their_state(self):
        self.streams[1].write(b"from the router, ")
        transfer = asyncio.ensure_future(
            self.router.transfer(self.streams, "counter@here", state=bytearray(b"state"), unacknowledged=5)
        )
        offer = await self.soon(self.target.next_offer())
        self.assertEqual((offer.client, offer.dvipa), (self.client[1].get_extra_info("sockname"), (DVIPA, self.port)))
        self.assertEqual((offer.job, offer.state), ("counter", b"state"))
        reader, writer = await self.soon(offer.accept_streams())
        await self.soon(transfer)
        self.assertTrue(self.streams[1].is_closing())
        self.assertEqual(await self.soon(self.streams[0].read()), b"", "its protocol was told")
        self.assertEqual(self.streams[1].get_extra_info("socket").fileno(), -1)
        await self.say(b"unread\n")
        writer.write(b"the target has " + await self.soon(reader.readline()))
        await self.heard(b"from the router, the target has unread\n")
        writer.close()

    async def test_the_cluster_chooses_and_shows_what_from(self):
        client = self.streams[1].get_extra_info("peername")
        self.assertEqual(await self.soon(self.router.choose(self.port, client, "counter")), "counter@here")
        with self.assertRaises(baton.Refused):
            await self.soon(self.router.choose(self.port, client, besides=["counter@here"]))
        views = await self.soon(self.router.target_views(self.port))
        self.assertEqual([(view.target, view.cpu_permille) for view in views], [("counter@here", 250)])

    async def test_streams_that_do_not_move_are_read_on_as_if_nothing_had_been(self):
        await self.say(b"first\nsecond\n")
        self.assertEqual(await self.soon(self.streams[0].readline()), b"first\n")
        while len(self.streams[0]._buffer) < 7:  # so that it has read ahead
            await asyncio.sleep(0.001)
        with self.assertRaises(baton.Refused) as refused:
            # The stack of this test moves descriptors, and says so of what is given back.
            await self.soon(self.router.transfer(self.streams, "counter@here", give_back=b"first\n"))
        self.assertIn("13 bytes given back", str(refused.exception))
        await self.say(b"third\n")
        self.assertEqual(await self.soon(self.streams[0].readexactly(13)), b"second\nthird\n")

    async def test_a_transport_moves_and_its_protocol_is_told(self):
        lost = asyncio.get_running_loop().create_future()

        class Protocol(asyncio.Protocol):
            def connection_lost(self, error):
                lost.set_result(error)

        listener = socket.create_server((DVIPA, 0))
        listener.setblocking(False)
        port = listener.getsockname()[1]
        loop = asyncio.get_running_loop()
        async with await baton.aio.RoutingApplication.register("router", DVIPA, [port]) as router:
            async with await baton.aio.TargetApplication.register("counter", DVIPA, [port]) as target:
                client = await asyncio.open_connection(DVIPA, port)
                sock, _ = await self.soon(loop.sock_accept(listener))
                transport, _ = await loop.connect_accepted_socket(Protocol, sock)
                transfer = asyncio.ensure_future(router.transfer(transport, "counter@here"))
                offer = await self.soon(target.__anext__())
                moved, _ = await self.soon(offer.accept_protocol(asyncio.Protocol))
                await self.soon(transfer)
                self.assertIsNone(await self.soon(lost))
                moved.write(b"moved")
                self.assertEqual(await self.soon(client[0].readexactly(5)), b"moved")
                moved.close()
                client[1].close()
        listener.close()

    async def test_a_socket_is_given_and_taken(self):
        # The agent hears that the router takes offers before it hears what it gives.
        back = asyncio.ensure_future(self.router.next_offer())
        await asyncio.sleep(0)
        await self.soon(self.router.give_connection(self.streams, "counter@here", state=b"given"))
        taken = await self.soon(self.target.take_connection())
        self.assertEqual((taken.state, taken.client), (b"given", self.client[1].get_extra_info("sockname")))
        await asyncio.get_running_loop().sock_sendall(taken.socket, b"taken")
        await self.heard(b"taken")
        # A socket that no transport has moves too.
        complete = asyncio.ensure_future(self.target.complete(taken.socket, unacknowledged="carry"))
        with await self.soon((await self.soon(back)).accept()) as sock:
            await self.soon(complete)
            self.assertEqual(taken.socket.fileno(), -1)
            await asyncio.get_running_loop().sock_sendall(sock, b"back")
            await self.heard(b"back")

    async def test_a_rejected_connection_goes_on_here(self):
        transfer = asyncio.ensure_future(self.router.transfer(self.streams, "counter@here"))
        await self.soon((await self.soon(self.target.next_offer())).reject("no seat left"))
        with self.assertRaisesRegex(baton.Refused, "no seat left"):
            await self.soon(transfer)
        self.streams[1].write(b"sorry")
        await self.heard(b"sorry")

    async def test_a_transfer_that_is_cancelled_is_finished(self):
        transfer = asyncio.ensure_future(self.router.transfer(self.streams, "counter@here"))
        offer = await self.soon(self.target.next_offer())
        transfer.cancel()
        reader, writer = await self.soon(offer.accept_streams())
        self.assertEqual(await self.soon(self.streams[0].read()), b"", "it is closed here")
        writer.write(b"there")
        await self.heard(b"there")
        writer.close()

    async def test_calls_that_are_cancelled_take_nothing(self):
        for call in (self.target.next_offer, self.target.take_connection):
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(call(), 0.01)
        transfer = asyncio.ensure_future(self.router.transfer(self.streams, "counter@here"))
        (await self.soon((await self.soon(self.target.next_offer())).accept())).close()
        await self.soon(transfer)

    async def test_targets_come_and_go_and_a_closed_application_is_none(self):
        self.assertEqual(await self.soon(self.router.targets(self.port)), ["counter@here"])
        beyond = asyncio.ensure_future(self.router.targets_beyond(self.port, ["counter@here"]))
        other = await baton.aio.TargetApplication.register("another", DVIPA, [self.port])
        self.assertEqual(await self.soon(beyond), ["another@here", "counter@here"])

        async def all_of_it():
            return [offer async for offer in other]

        ends = asyncio.ensure_future(all_of_it())
        await asyncio.sleep(0)
        other.close()
        self.assertEqual(await self.soon(ends), [])
        gone = self.router.targets_beyond(self.port, ["another@here", "counter@here"])
        self.assertEqual(await self.soon(gone), ["counter@here"])
        with self.assertRaisesRegex(ValueError, "closed"):
            await self.soon(other.next_offer())

    async def test_what_can_not_move_is_said(self):
        with self.assertRaisesRegex(TypeError, "may have read ahead"):
            await self.router.transfer(self.streams[1].transport, "counter@here")
        with self.assertRaisesRegex(TypeError, "the pair"):
            await self.router.transfer(self.streams[1], "counter@here")
        with self.assertRaisesRegex(ValueError, "JOB@STACK"):
            await self.router.transfer(self.streams, "counter")
        with self.assertRaisesRegex(baton.NoAgent, "is baton-agent running"):
            await baton.aio.TargetApplication.register("job", DVIPA, [80], socket="/nowhere/at.all")
        self.streams[1].close()
        with self.assertRaisesRegex(ValueError, "closing"):
            await self.router.transfer(self.streams, "counter@here")


if __name__ == "__main__":
    unittest.main()
