"""More safety: the leader dies, and clients go on through haproxy. With `ack majority` no OK is lost."""

import signal
import time

from failover.client import Client, Refusal
from failover.nodes import DEADLINE_SECONDS
from labs.elected import remember
from scale.proxies import haproxy, program

WRITES = 300
CRASHES = 2


def run(lab):
    """Writes through haproxy, while one leader after another dies."""
    if not program("haproxy"):
        return lab.skip("needs haproxy (apt-get install haproxy)")
    lab.say("Three nodes elect their leader. haproxy asks each of them four times a second whether it leads (/readyz?leader), "
            "and connects clients to the one that does. A client that knows nothing of all this has one address.")
    nodes = lab.nodes("--election-timeout=500", "--ack=majority", status=True)
    remember(nodes)
    port, _ = haproxy(lab, nodes)
    lab.say(f"writes: redis-cli -p {port}")
    writer = Writer(port)
    for _ in range(CRASHES):
        lab.part("kill -9 of the leader")
        lab.predict("writes stop for one to two seconds: the others notice, elect one of them, and haproxy notices. "
                    "A write that was on its way may be in doubt. All with an OK are there.")
        leader = remember(nodes)
        writer.write(WRITES)
        lab.command(f"kill -9 {leader.process.pid}    # {leader.name}, which leads")
        leader.signal(signal.SIGKILL)
        began = time.monotonic()
        writer.write(1)
        lab.say(f"the next OK came after {time.monotonic() - began:.1f} s, on the same address")
        writer.write(WRITES)
        with Client(port) as client:
            found = client.ask("MGET", *writer.acknowledged)
        lost = [key for key, value in zip(writer.acknowledged, found) if value != key]
        lab.expect(f"of {len(found)} writes with an OK, {len(lost)} are lost; {writer.in_doubt} are in doubt", not lost)
        nodes.start(leader)
    lab.part("What does not work")
    lab.say("With two of three nodes gone, nothing takes writes: the third cannot know whether the others go on without it. A "
            "client must expect broken connections, and must not repeat a write in doubt without reading first.")


class Writer:
    """A client that has one address. It writes each key once, and dials again when its connection breaks."""

    def __init__(self, port):
        self.port = port
        self.client = None
        self.number = 0
        self.acknowledged = []
        self.in_doubt = 0

    def write(self, count):
        """Writes until so many more writes have their OK."""
        until, deadline = len(self.acknowledged) + count, time.monotonic() + DEADLINE_SECONDS
        while len(self.acknowledged) < until and time.monotonic() < deadline:
            self.number += 1
            if not self._try(f"key-{self.number}"):
                time.sleep(0.02)

    def _try(self, key):
        try:
            self.client = self.client or Client(self.port)
            answer = self.client.ask("SET", key, key)
        except OSError:
            self.client, self.in_doubt = None, self.in_doubt + 1
            return False
        if isinstance(answer, Refusal):
            self.in_doubt += answer.startswith("INDOUBT")
            return False
        self.acknowledged.append(key)
        return True
