"""Workloads about many keys or clients in memory: their size, and the expiry of keys."""

import contextlib
import time

from bench import BenchError
from bench.latency import Probe
from bench.load import Connection
from bench.workload import Target, Workload


class Memory(Workload):
    """Resident memory of a million small keys."""

    keys = 1_000_000
    settle_seconds = 1.0
    is_long = True
    targets = (Target("rss_mib", 0.9),)

    def run(self, server, quick):
        keys = 20_000 if quick else self.keys
        before = server.resident_mib()
        with Connection(server) as connection:
            connection.load(keys)
            if connection.dbsize() != keys:
                raise BenchError(f"loaded {keys} keys, DBSIZE says {connection.dbsize()}")
        time.sleep(self.settle_seconds)
        after = server.resident_mib()
        return {"rss_mib": after, "rss_grown_mib": after - before}


class Idle(Workload):
    """Resident memory of clients that have set and read a key, and are silent now."""

    clients, clients_quick = 9_000, 100
    settle_seconds = 1.0
    targets = (Target("client_kib", 12, of_redis=False),)

    def run(self, server, quick):
        count = self.clients_quick if quick else self.clients
        before = server.resident_mib()
        with contextlib.ExitStack() as stack:
            for number in range(count):
                client = stack.enter_context(Connection(server))
                client.ask("SET", f"idle:{number}", "1")
                client.ask("GET", f"idle:{number}")
            time.sleep(self.settle_seconds)
            grown = server.resident_mib() - before
        return {"client_kib": 1024 * grown / count}


class Expiry(Workload):
    """A million keys with one deadline: how soon they are removed, and how much that slows other traffic.

    Other traffic is `probe.py`: 4,000 GETs a second of keys that stay, latency counted from when
    each was due. "Before" is measured while the million keys wait for their deadline, "meanwhile"
    from the deadline until DBSIZE shows them gone, but for MEANWHILE_SECONDS_MIN at least, so that
    the p99 of a quick sweep stands on enough requests.
    """

    MEANWHILE_SECONDS_MIN = 0.25
    GONE_SECONDS_MAX = 60.0
    POLL_SECONDS = 0.01
    ATTEMPTS_MAX = 3
    staying_keys = 1_000
    is_long = True
    targets = (Target("gone_s", 2.0, of_redis=False), Target("p99_growth", 2.0, of_redis=False))

    def run(self, server, quick):
        keys, loading_seconds, probe_seconds = (20_000, 1.0, 1.0) if quick else (1_000_000, 8.0, 2.5)
        with Connection(server) as connection:
            connection.load(self.staying_keys, prefix="stay")
            for attempt in range(1, self.ATTEMPTS_MAX + 1):
                # The deadline is set before it is known how long loading takes. Keys that exist
                # already only get a later one.
                deadline_ms = int((time.time() + loading_seconds * attempt + probe_seconds) * 1000)
                connection.load(keys, deadline_ms=deadline_ms)
                if time.time() <= deadline_ms / 1000 - probe_seconds:
                    return self._observe(server, connection, keys, deadline_ms / 1000, probe_seconds)
        raise BenchError(f"loading {keys} keys takes longer than {loading_seconds * attempt:.0f} s")

    def _observe(self, server, connection, keys, deadline, probe_seconds):
        start = deadline - probe_seconds
        seconds_max = probe_seconds + self.GONE_SECONDS_MAX + 5
        with Probe(server, "get", "stay", self.staying_keys, start, seconds_max) as probe:
            time.sleep(max(0.0, deadline - 0.2 - time.time()))
            if connection.dbsize() != keys + self.staying_keys:
                raise BenchError(f"keys are missing before the deadline: {connection.dbsize()}")
            gone = self._wait_until_gone(connection, deadline)
            time.sleep(1.0)
            rss_left = server.resident_mib()
            probe.end()
        meanwhile = (deadline, deadline + max(gone, self.MEANWHILE_SECONDS_MIN))
        return {
            "gone_s": gone,
            "rss_left_mib": rss_left,
            **probe.figures((start, deadline - 0.25), meanwhile),
        }

    def _wait_until_gone(self, connection, deadline):
        while True:
            left = connection.dbsize() - self.staying_keys
            waited = time.time() - deadline
            if left <= 0:
                return max(0.0, waited)
            if waited > self.GONE_SECONDS_MAX:
                raise BenchError(f"{left} keys are still there {waited:.0f} s after their deadline")
            time.sleep(self.POLL_SECONDS)
