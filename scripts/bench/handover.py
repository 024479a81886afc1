"""Workload: PROMOTE under load, again and again, and how long the writers wait meanwhile.

Beside the writers, keys expire all the time, so that the sweeper deletes. In the middle the wall clocks of all nodes are
set forward by an hour (the variable KVSTORE_CLOCK_JUMP): then all of the keys with a TTL expire at once.
"""

import random
import tempfile
import threading
import time

from bench.cluster import OPTIONS, Clustered
from bench.latency import percentile
from bench.workload import Target
from failover import FailoverError
from failover.client import Client, Refusal
from failover.nodes import Nodes, wait_until

WRITERS = 4
HANDOVERS, HANDOVERS_QUICK = 200, 5
# Between two handovers, so that the next one meets a steady load.
PAUSE_SECONDS = 0.1
# What the clocks are set forward by, and when: about in the middle.
JUMP_SECONDS, JUMP_AFTER, JUMP_AFTER_QUICK = 3600, 20, 3
# Keys that expire when the clocks jump, and those that are written in a packet, each for a moment.
LASTING_KEYS, LASTING_KEYS_QUICK = 100_000, 1_000
EXPIRING_BATCH, EXPIRING_MS, EXPIRING_PAUSE = 50, 200, 0.02


class Handover(Clustered):
    """The time without an OK, from the old leader's last one to the next leader's first, for each kind of `ack`."""

    targets = tuple(
        Target(f"gap_{ack}_{figure}_ms", bound, of_redis=False)
        for ack in ("leader", "majority") for figure, bound in (("p50", 20), ("p99", 60))
    ) + (Target("lost_writes", 0, of_redis=False),)

    def rounds(self, wanted):
        # Each round has enough handovers for a p99.
        return 1

    def of_kvstore(self, product, directory, quick):
        figures = {"handovers": 0, "refused_handovers": 0, "readonly_per_handover": 0, "other_errors": 0, "lost_writes": 0}
        jump = {"KVSTORE_CLOCK_JUMP": f"{JUMP_AFTER_QUICK if quick else JUMP_AFTER}:{JUMP_SECONDS}"}
        for ack in ("leader", "majority"):
            with tempfile.TemporaryDirectory(dir=directory) as inside:
                with Nodes(product.binary, inside, OPTIONS, environment=jump) as nodes:
                    nodes.set_policy("ack", ack)
                    self._measure(nodes, ack, quick, figures)
        figures["readonly_per_handover"] /= figures["handovers"]
        return figures

    def of_redis(self, product, directory, quick):
        return {}  # Sentinel has no handover that holds writes

    @staticmethod
    def _measure(nodes, ack, quick, figures):
        with Client(nodes.leader().port) as client:
            keys = range(LASTING_KEYS_QUICK if quick else LASTING_KEYS)
            for first in keys[::500]:
                client.ask_all([("SET", f"lasting:{key}", key, "EX", JUMP_SECONDS // 2) for key in keys[first:first + 500]])
        writers = [Writer(number, nodes) for number in range(WRITERS)]
        expiring = Expiring(nodes)
        threads = [*writers, expiring]
        for thread in threads:
            thread.start()
        try:
            gaps, waits = [], []
            for _ in range(HANDOVERS_QUICK if quick else HANDOVERS):
                began, ended = hand_over(nodes, figures)
                time.sleep(PAUSE_SECONDS)
                go_on = lambda: all(writer.recent[-1:] > [ended] for writer in writers)
                wait_until(go_on, "a write of each writer after the handover")
                gaps.append(1000 * gap([at for writer in writers for at in writer.recent], began, ended))
                waits.append(1000 * max(gap(writer.recent, began, ended) for writer in writers))
                for writer in writers:
                    del writer.recent[:-1]
        finally:
            for thread in threads:
                thread.stopping = True
            for thread in threads:
                thread.join()
        for name, values in (("gap", gaps), ("wait", waits)):
            for percent in (50, 99) if name == "gap" else (99,):
                figures[f"{name}_{ack}_p{percent}_ms"] = percentile(values, percent)
        figures["handovers"] += len(gaps)
        figures["readonly_per_handover"] += sum(writer.refused for writer in writers)
        figures["other_errors"] += sum(writer.other_errors for writer in writers)
        figures["lost_writes"] += sum(lost(nodes.converge(), writer) for writer in writers)


def hand_over(nodes, figures):
    """Lets another node lead; when that was asked for first, and when it was answered with OK."""
    leader = nodes.leader()
    followers = [node for node in nodes.all if node is not leader]
    began = time.monotonic()

    def done():
        # After a refusal another node may lead already.
        answer = random.choice(followers).ask("PROMOTE", 1000)
        figures["refused_handovers"] += answer != "OK"
        return answer == "OK"

    wait_until(done, "OK to PROMOTE")
    return began, time.monotonic()


def gap(times, began, ended):
    """The longest time between two of these moments around a handover."""
    before = max((at for at in times if at < began), default=began)
    after = min((at for at in times if at > ended), default=None)
    if after is None:
        raise FailoverError("no write was answered with OK after the handover")
    around = sorted(at for at in times if before <= at <= after)
    return max(later - earlier for earlier, later in zip(around, around[1:]))


class Following(threading.Thread):
    """Sends commands to the node that leads, wherever it is, until it is told to stop."""

    def __init__(self, nodes):
        super().__init__(daemon=True)
        self.ports = [node.port for node in nodes.all]
        self.port = self.ports[0]
        self.stopping = False

    def run(self):
        while not self.stopping:
            try:
                with Client(self.port) as client:
                    while not self.stopping and self.turn(client):
                        pass
            except OSError:
                self.go_on()

    def turn(self, client):
        """Sends something. False if another node is to be asked."""
        raise NotImplementedError

    def go_on(self, refusal=""):
        """Turns to the leader that a refusal names, else to the next node."""
        named = refusal.rpartition(":")[2] if "The leader is " in refusal else ""
        following = self.ports[(self.ports.index(self.port) + 1) % len(self.ports)]
        self.port = int(named) if named.isdigit() else following
        return False


class Writer(Following):
    """Writes its own keys, one after another."""

    def __init__(self, number, nodes):
        super().__init__(nodes)
        self.prefix = f"writer:{number}"
        self.number = 0
        self.acknowledged = []
        self.recent = []  # when each was acknowledged, since the last handover
        self.refused = 0
        self.other_errors = 0

    def turn(self, client):
        self.number += 1
        try:
            answer = client.ask("SET", f"{self.prefix}:{self.number}", self.number)
        except OSError:
            self.other_errors += 1
            raise
        if answer == "OK":
            self.recent.append(time.monotonic())
            self.acknowledged.append(self.number)
            return True
        if not answer.startswith("READONLY "):
            self.other_errors += 1
            return True
        self.refused += 1
        return self.go_on(answer)


class Expiring(Following):
    """Writes keys that expire in a moment."""

    number = 0

    def turn(self, client):
        self.number += EXPIRING_BATCH
        keys = range(self.number - EXPIRING_BATCH, self.number)
        answers = client.ask_all([("SET", f"expiring:{key}", key, "PX", EXPIRING_MS) for key in keys])
        time.sleep(EXPIRING_PAUSE)
        refusal = next((answer for answer in answers if isinstance(answer, Refusal)), None)
        return refusal is None or self.go_on(refusal)


def lost(leader, writer):
    """How many acknowledged writes the leader does not have."""
    count = 0
    with Client(leader.port) as client:
        for at in range(0, len(writer.acknowledged), 500):
            numbers = writer.acknowledged[at:at + 500]
            values = client.ask_all([("GET", f"{writer.prefix}:{number}") for number in numbers])
            count += sum(value != str(number) for number, value in zip(numbers, values))
    return count
