"""Every call of the module `baton`, against a stack of one host."""

import array
import asyncio
import os
import select
import signal
import socket
import threading
import time
import unittest

import baton

DVIPA = "127.0.0.1"


class Calls(unittest.TestCase):
    def setUp(self):
        self.listener = socket.create_server((DVIPA, 0))
        self.port = self.listener.getsockname()[1]
        self.router = baton.RoutingApplication("router", DVIPA, [self.port])
        self.target = baton.TargetApplication("counter", DVIPA, [self.port], hold_accepts=True)
        self.client = socket.create_connection((DVIPA, self.port), timeout=20)
        self.stream, _ = self.listener.accept()

    def tearDown(self):
        for s in (self.router, self.target, self.listener, self.client, self.stream):
            s.close()

    def later(self, call):
        thread = threading.Thread(target=call)
        thread.start()
        self.addCleanup(thread.join)

    def test_a_connection_moves_with_its_state(self):
        self.client.sendall(b"unread")

        def serve():
            offer = self.target.next_offer(20)
            self.assertEqual(offer.client, self.client.getsockname())
            self.assertEqual(offer.dvipa, (DVIPA, self.port))
            self.assertEqual((offer.job, offer.state), ("counter", b"\0state"))
            self.assertEqual(offer.giver, "router@here")
            with offer.accept() as connection:
                connection.sendall(b"target has " + connection.recv(100))
            with self.assertRaisesRegex(ValueError, "answered already"):
                offer.accept()

        self.later(serve)
        self.router.transfer(self.stream, "counter@here", state=b"\0state", unacknowledged="carry")
        self.assertEqual(self.stream.fileno(), -1)
        self.assertEqual(self.client.recv(100), b"target has unread")
        self.assertEqual(self.client.recv(100), b"")

    def test_applications_talk_to_each_other(self):
        about = self.client.getsockname()
        self.assertIsNone(self.target.hear(0))
        self.router.say(self.port, "counter@here", bytearray(b"one"), client=about)
        self.router.say(self.port, "counter@here", b"two")
        self.assertEqual(select.select([self.target], [], [], 20)[0], [self.target])
        heard = self.target.hear(20)
        self.assertEqual((heard.sender, heard.port), ("router@here", self.port))
        self.assertEqual((heard.client, heard.message), (about, b"one"))
        heard = self.target.hear(20)
        self.assertEqual((heard.client, heard.message), (None, b"two"))
        self.assertIsNone(self.target.hear(0))
        with self.assertRaises(baton.Refused):
            self.router.say(1, "counter@here", b"of another port")
        self.router.give_connection(self.stream, "counter@here")
        self.assertEqual(self.target.take_connection(20).giver, "router@here")

    def test_the_cluster_chooses_and_shows_what_from(self):
        with baton.TargetApplication("other", DVIPA, [self.port]):
            client = self.stream.getpeername()
            turns = [self.router.choose(self.port, client) for _ in range(4)]
            self.assertEqual(sorted(turns), ["counter@here"] * 2 + ["other@here"] * 2)
            self.assertEqual(self.router.choose(self.port, client, "nobody", "other"), "other@here")
            self.assertEqual(self.router.choose(self.port, client, besides=["other@here"]), "counter@here")
            with self.assertRaises(baton.Refused) as refused:
                self.router.choose(self.port, (client[0], client[1], 0, 0), "other", besides=["other@here"])
            self.assertEqual(refused.exception.reason, "no_target")
            with self.assertRaises(ValueError):
                self.router.choose(self.port, ("nowhere", 1))
            with self.assertRaises(ValueError):
                self.router.choose(self.port, client, "no job")
            counter, other = self.router.target_views(self.port)
            self.assertIsInstance(other, baton.TargetView)
            self.assertEqual((counter.target, other.target), ("counter@here", "other@here"))
            self.assertEqual((counter.state, counter.weight, counter.weight_from), ("ready", 1, "equal"))
            self.assertEqual((counter.connections, counter.holds_accepts), (7, False))
            load = (counter.cpu_permille, counter.accept_queue_permille, counter.memory_pressure_permille)
            self.assertEqual(load, (250, 0, 0))

    def test_a_listener_is_named_and_what_is_none_is_refused(self):
        baton.RoutingApplication("named", DVIPA, [self.port], listener=self.listener).close()
        with self.assertRaises(baton.Refused) as refused:
            baton.TargetApplication("named", DVIPA, [self.port], listener=self.client)
        self.assertEqual(refused.exception.reason, "no_listener")
        with socket.socket() as closed:
            pass
        with self.assertRaisesRegex(ValueError, "is closed"):
            baton.TargetApplication("named", DVIPA, [self.port], listener=closed)

    def test_state_is_anything_that_is_like_bytes(self):
        for state in (b"state", bytearray(b"state"), memoryview(b"a state")[2:], array.array("B", b"state")):
            self.later(lambda: self.target.next_offer(20).reject("seen"))
            with self.assertRaisesRegex(baton.Refused, "seen"):
                self.router.transfer(self.stream, "counter@here", state=state)
        self.router.give_connection(self.stream, "counter@here", state=memoryview(bytearray(b"0state"))[1:])
        self.assertEqual(self.target.take_connection(20).state, b"state")
        with self.assertRaisesRegex(TypeError, "bytes-like"):
            self.router.transfer(self.client, "counter@here", state="state")

    def test_what_asyncio_has_is_refused_before_it_moves(self):
        async def transfer():
            server = await asyncio.open_connection(sock=self.stream)
            with self.assertRaisesRegex(TypeError, "TransportSocket can't be closed.*baton.aio"):
                self.router.transfer(server[1].get_extra_info("socket"), "counter@here")
            server[1].write(b"still here")
            await server[1].drain()
            server[1].close()

        asyncio.run(transfer())
        self.assertEqual(self.client.recv(100), b"still here")

    def test_a_closed_application_is_registered_no_longer(self):
        with baton.TargetApplication("another", DVIPA, [self.port]) as other:
            both = self.router.targets_beyond(self.port, ["counter@here"], 20)
            waiting = []
            self.later(lambda: waiting.extend(other))
            self.assertFalse(other.closed)
        self.assertTrue(other.closed)
        self.assertEqual(self.router.targets_beyond(self.port, both, 20), ["counter@here"])
        self.assertEqual(waiting, [])
        for call in (other.next_offer, other.take_connection, other.fileno, lambda: other.targets(self.port)):
            with self.assertRaisesRegex(ValueError, "closed"):
                call()
        other.close()

    def test_a_forked_child_is_told_that_it_is_not_registered(self):
        self.router.targets(self.port)
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            calls = (
                lambda: self.router.targets(self.port),
                lambda: self.router.transfer(self.stream, "counter@here"),
                lambda: self.target.next_offer(0),
                self.target.fileno,
            )
            for call in calls:
                try:
                    os.write(tell, f"{call()}\n".encode())
                except baton.Error as error:
                    os.write(tell, f"{error}\n".encode())
            # It keeps its descriptors until the parent has looked.
            signal.pause()
        os.close(tell)
        told = os.fdopen(told)
        self.addCleanup(told.close)
        for line in (told.readline() for _ in range(4)):
            self.assertRegex(line, f"process {os.getpid()} registered .*: register in the child")
        # And the copies of descriptors that it has keep nothing registered.
        self.target.close()
        self.assertEqual(self.router.targets_beyond(self.port, ["counter@here"], 20), [])
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    def test_errors_are_told_apart(self):
        for kind in (baton.Refused, baton.NoAgent, baton.Closed, baton.InDoubt):
            self.assertTrue(issubclass(kind, baton.Error))
        self.assertTrue(issubclass(baton.Error, OSError))
        with self.assertRaises(baton.NoAgent) as caught:
            baton.TargetApplication("job", DVIPA, [80], socket="/nowhere/at.all")
        self.assertIsNone(caught.exception.reason)

    def test_everything_has_a_docstring(self):
        for name in baton.__all__:
            member = getattr(baton, name)
            self.assertTrue(member.__doc__, name)
            for own in (own for own in vars(member) if not own.startswith("_")):
                self.assertTrue(own == "reason" or getattr(member, own).__doc__, f"{name}.{own}")

    def test_what_was_read_can_be_given_back(self):
        # The stack of this test moves descriptors, and can't change what is in them.
        with self.assertRaisesRegex(baton.Refused, "6 bytes given back"):
            self.router.transfer(self.stream, "counter@here", give_back=b"unread")
        with self.assertRaises(baton.Refused) as caught:
            self.router.transfer(self.stream, "counter@here", give_back=bytes(32769))
        self.assertEqual(caught.exception.reason, "given_back")

    def test_a_rejected_connection_goes_on_here(self):
        self.later(lambda: next(iter(self.target)).reject("no seat left"))
        with self.assertRaisesRegex(baton.Refused, "no seat left") as caught:
            self.router.transfer(self.stream, "counter@here", unacknowledged=0.25)
        self.assertEqual(caught.exception.reason, "rejected")
        self.assertIsInstance(caught.exception, baton.Error)
        self.stream.sendall(b"sorry")
        self.assertEqual(self.client.recv(100), b"sorry")

    def test_a_given_connection_is_taken(self):
        self.assertIsNone(self.target.take_connection(0))
        self.router.give_connection(self.stream, "counter@here", state=b"")
        taken = self.target.take_connection(20)
        self.assertEqual(taken.state, b"")
        self.assertEqual((taken.client, taken.dvipa), (self.client.getsockname(), (DVIPA, self.port)))
        with taken.socket as connection:
            connection.sendall(b"taken")
            self.assertEqual(self.client.recv(100), b"taken")

    def test_a_complete_connection_comes_back(self):
        self.router.fileno()  # from now on it takes offers
        self.later(lambda: self.target.complete(self.target.next_offer(20).accept(), state=b"done"))
        self.router.transfer(self.stream, "counter@here")
        offer = self.router.next_offer(20)
        self.assertEqual(offer.state, b"done")
        offer.accept().close()
        self.assertEqual(self.client.recv(100), b"")

    def test_targets_come_and_go(self):
        self.assertEqual(self.router.targets(self.port), ["counter@here"])
        other = baton.TargetApplication("another", DVIPA, [self.port])
        both = self.router.targets_beyond(self.port, ["counter@here"], 20)
        self.assertEqual(both, ["another@here", "counter@here"])
        other.close()
        self.assertEqual(self.router.targets_beyond(self.port, both, 20), ["counter@here"])
        self.assertEqual(self.router.targets_beyond(self.port, ["counter@here"], 0.01), ["counter@here"])

    def test_what_is_wrong_is_said(self):
        with self.assertRaises(baton.Refused) as caught:
            self.router.transfer(self.stream, "nobody@here")
        self.assertEqual(caught.exception.reason, "unknown_target")
        with self.assertRaisesRegex(ValueError, "JOB@STACK"):
            self.router.transfer(self.stream, "nobody")
        with self.assertRaisesRegex(TypeError, "seconds to wait"):
            self.router.transfer(self.stream, "counter@here", unacknowledged="maybe")
        with self.assertRaisesRegex(ValueError, "not an IP address"):
            baton.TargetApplication("job", "198.18.9", [80])
        with self.assertRaisesRegex(ValueError, "not a job name"):
            baton.TargetApplication("a job", DVIPA, [80])
        with self.assertRaisesRegex(baton.Error, "is baton-agent running"):
            baton.TargetApplication("job", DVIPA, [80], socket="/nowhere/at.all")
        for ports in ([], range(1, 1026)):
            with self.assertRaisesRegex(ValueError, "1 to 1024 ports"):
                baton.TargetApplication("job", DVIPA, ports)
        self.stream.close()
        with self.assertRaisesRegex(ValueError, "closed"):
            self.router.transfer(self.stream, "counter@here")

    def test_an_event_loop_is_woken(self):
        self.assertEqual(select.select([self.target], [], [], 0)[0], [])
        self.later(lambda: self.router.transfer(self.stream, "counter@here"))
        self.assertEqual(select.select([self.target], [], [], 20)[0], [self.target])
        self.target.next_offer(20).accept().close()

    def test_a_waiting_call_hears_signals(self):
        class Woken(Exception):
            pass

        def wake(*_):
            raise Woken

        former = signal.signal(signal.SIGUSR1, wake)
        self.later(lambda: (time.sleep(0.05), os.kill(os.getpid(), signal.SIGUSR1)))
        with self.assertRaises(Woken):
            self.target.next_offer()
        signal.signal(signal.SIGUSR1, former)


if __name__ == "__main__":
    unittest.main()
