"""Workloads about a memory limit: the hit rate under it, and the peak of memory."""

import itertools
import random
import threading
import time

from bench import BenchError
from bench.load import Connection
from bench.workload import Target, Workload

GROUP = "memory-limit"


class HitRatio(Workload):
    """A cache in front of something slow: GET, and on a miss SET, of keys that follow Zipf's law.

    Both servers see the same keys in the same order. The values are large beside what a server needs
    for a key, so that about as many fit into the same memory; a quarter of all keys does. Counted from
    when the cache has been full for a while.
    """

    group = GROUP
    is_long = True
    keys = 300_000
    value = b"x" * 1_000
    limit = "80mb"
    skew = 0.9
    batch = 50
    # Two points below Redis, which hits about 75 %.
    targets = (Target("hit_percent", 0.973, at_least=True),)

    def __init__(self, name, title, policy):
        super().__init__(name, title)
        self.policy = policy

    def run(self, server, quick):
        keys, accesses, limit = self.keys, 2_000_000, self.limit
        if quick:
            keys, accesses, limit = 30_000, 60_000, "15mb"
        weights = list(itertools.accumulate(n**-self.skew for n in range(1, keys + 1)))
        draw = random.Random(4711)
        with Connection(server) as connection:
            connection.ask("CONFIG", "SET", "maxmemory", limit, "maxmemory-policy", self.policy)
            hits = counted = 0
            for done in range(0, accesses, self.batch):
                wanted = draw.choices(range(keys), cum_weights=weights, k=self.batch)
                missing = self._access(connection, wanted)
                if done >= accesses // 2:
                    counted += self.batch
                    hits += self.batch - missing
            evicted = connection.fields("stats")["evicted_keys"]
            if evicted == "0" and not quick:
                raise BenchError("nothing was evicted")
        return {"hit_percent": 100 * hits / counted, "evictions": int(evicted)}

    def _access(self, connection, wanted):
        """Runs one batch; returns the number of misses."""
        connection.send([(b"GET", b"key:%d" % key) for key in wanted])
        missing = [key for key, found in zip(wanted, connection.values(len(wanted))) if not found]
        if missing:
            connection.send([(b"SET", b"key:%d" % key, self.value) for key in set(missing)])
            connection.expect_ok(len(set(missing)))
        return len(missing)


class Flood(Workload):
    """10 GB written under a limit of 100 MB: values of 10 bytes to 64 KiB, a million keys, 16 clients.

    The figure is the peak of resident memory that the kernel reports.
    """

    group = GROUP
    is_long = True
    durability = "everysec"
    targets = (Target("rss_peak_mib", 130, of_redis=False),)
    clients = 16
    pipeline = 16
    keys = 1_000_000
    value_bytes = (10, 64 << 10)
    rewrite_bytes = 1 << 30

    def run(self, server, quick):
        total = (100 << 20) if quick else 10_000 << 20
        left = [total]
        with Connection(server) as connection:
            connection.ask("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
            writers = [
                threading.Thread(target=self._write, args=(server, left, seed))
                for seed in range(self.clients)
            ]
            began = time.monotonic()
            for writer in writers:
                writer.start()
            peak = self._watch(server, connection, writers, left)
            seconds = time.monotonic() - began
            if left[0] > 0:
                raise BenchError(f"the writers gave up with {left[0]} bytes left")
            evicted = int(connection.fields("stats")["evicted_keys"])
        return {"rss_peak_mib": peak, "written_mib_s": total / 2**20 / seconds, "evictions": evicted}

    def _watch(self, server, connection, writers, left):
        """Returns the peak. Meanwhile it keeps the log from filling the disk."""
        peak, rewritten = 0.0, left[0]
        while any(writer.is_alive() for writer in writers):
            peak = max(peak, server.resident_mib())
            if rewritten - left[0] > self.rewrite_bytes:
                rewritten = left[0]
                if connection.persistence()["aof_rewrite_in_progress"] == "0":
                    connection.ask("BGREWRITEAOF")
            time.sleep(0.02)
        return peak

    def _write(self, server, left, seed):
        """One thread's share. The rest is counted without a lock: one batch more or less does not matter."""
        low, high = self.value_bytes
        draw, noise = random.Random(seed), random.Random(0).randbytes(2 * high)
        with Connection(server) as connection:
            while left[0] > 0:
                batch = []
                for _ in range(self.pipeline):
                    size = int(low * (high / low) ** draw.random())
                    start, key = draw.randrange(high), b"key:%d" % draw.randrange(self.keys)
                    batch.append((b"SET", key, noise[start : start + size]))
                left[0] -= connection.send(batch)
                connection.expect_ok(self.pipeline)
