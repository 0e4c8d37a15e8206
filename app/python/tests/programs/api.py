"""Every call of the module `baton`, against a stack of one host."""

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
        for s in (self.listener, self.client, self.stream):
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
            with offer.accept() as connection:
                connection.sendall(b"target has " + connection.recv(100))
            with self.assertRaisesRegex(ValueError, "answered already"):
                offer.accept()

        self.later(serve)
        self.router.transfer(self.stream, "counter@here", state=b"\0state", unacknowledged="carry")
        self.assertEqual(self.stream.fileno(), -1)
        self.assertEqual(self.client.recv(100), b"target has unread")
        self.assertEqual(self.client.recv(100), b"")

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
        connection, state = self.target.take_connection(20)
        self.assertEqual(state, b"")
        connection.sendall(b"taken")
        self.assertEqual(self.client.recv(100), b"taken")
        connection.close()

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
        del other
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
