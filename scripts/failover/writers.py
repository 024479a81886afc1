"""Clients that number their writes: one for each node, which writes to that node only.

So a leader that has been deposed, stopped or cut off is still written to, as by a client that has not heard of it.
"""

import threading
import time

from failover import FailoverError
from failover.client import Client, Refusal

# In one packet. A pipeline fills the time between two packets to a follower, where a crash loses most.
BATCH = 8
PAUSE_SECONDS = 0.002


class Writer:
    """Writes `A-1` = 1, `A-2` = 2, … to node A until it is stopped. Two writers of a node need different names."""

    def __init__(self, node, name=None):
        self.node = node
        self.name = name or node.name
        self.number = 0
        self.acknowledged = []  # (when, key, value)
        self.in_doubt = 0  # answered INDOUBT, or not at all
        self.error = None
        self.stopping = False
        self.thread = None

    def start(self):
        """Goes on where it stopped; forgets what it has counted."""
        self.acknowledged, self.in_doubt, self.stopping = [], 0, False
        self.thread = threading.Thread(target=self._run, name=f"writer-{self.name}", daemon=True)
        self.thread.start()

    def stop(self):
        """Waits for the last answer."""
        self.stopping = True
        self.thread.join()
        if self.error:
            raise self.error

    def _run(self):
        try:
            while not self.stopping:
                try:
                    with Client(self.node.port) as client:
                        while not self.stopping:
                            self._write(client)
                            time.sleep(PAUSE_SECONDS)
                except OSError:
                    time.sleep(PAUSE_SECONDS)  # it does not run, or has just died
        except FailoverError as error:
            self.error = error

    def _write(self, client):
        first = self.number + 1
        self.number += BATCH
        batch = [(f"{self.name}-{number}", str(number)) for number in range(first, first + BATCH)]
        client.send([("SET", key, value) for key, value in batch])
        answered = 0
        try:
            for key, value in batch:
                self._take(client.read(), key, value)
                answered += 1
        finally:
            self.in_doubt += BATCH - answered

    def _take(self, answer, key, value):
        if answer == "OK":
            self.acknowledged.append((time.monotonic(), key, value))
        elif isinstance(answer, Refusal) and answer.startswith("INDOUBT "):
            self.in_doubt += 1
        elif not (isinstance(answer, Refusal) and answer.startswith(("READONLY ", "LOADING "))):
            raise FailoverError(f"SET on {self.node.name} was answered {answer!r}")


def leads(writers, least):
    """The node that has acknowledged so many writes, the last of all among them; None if there is none yet."""
    newest = max(writers, key=lambda writer: writer.acknowledged[-1][0] if writer.acknowledged else 0)
    return newest.node if len(newest.acknowledged) >= least else None


def first_of_others(writers, victim, since):
    """When a node other than this one acknowledged its first write after this moment; None if none has."""
    others = [writer for writer in writers if writer.node is not victim]
    times = [next((at for at, _, _ in writer.acknowledged if at > since), None) for writer in others]
    return min((at for at in times if at is not None), default=None)


def last_of(writers, victim, since):
    """When this node acknowledged its last write after this moment; None if it has not."""
    writer = next(writer for writer in writers if writer.node is victim)
    at = writer.acknowledged[-1][0] if writer.acknowledged else since
    return at if at > since else None
