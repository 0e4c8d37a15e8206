"""A gunicorn worker whose connections are transferred to it: --worker-class gunicorn_worker.Worker

BATON_TARGET in the environment is "JOB DVIPA PORT".
"""

import errno
import os

import baton
from gunicorn.workers.gthread import ThreadWorker


class Offers:
    """What gunicorn has for a listening socket: accept() gives the connections that are offered."""

    def __init__(self, job, dvipa, port):
        self.address = (dvipa, port)
        self.application = baton.TargetApplication(job, dvipa, [port])

    def fileno(self):
        return self.application.fileno()

    def getsockname(self):
        return self.address

    def setblocking(self, _):
        pass  # accept() waits for nothing but the move

    def accept(self):
        offer = self.application.next_offer(0)
        if offer is None:
            raise BlockingIOError(errno.EAGAIN, "nothing is offered")
        try:
            return offer.accept(), offer.client
        except baton.Error as error:  # it has not come, and stays where it was
            raise ConnectionAbortedError(errno.ECONNABORTED, str(error)) from error

    def close(self):
        self.application.close()


class Worker(ThreadWorker):
    def run(self):
        # Here, after the fork.
        job, dvipa, port = os.environ["BATON_TARGET"].split()
        self.sockets = [Offers(job, dvipa, int(port))]
        super().run()
