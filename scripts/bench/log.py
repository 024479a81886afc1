"""Workloads about the log as a whole: reading it back, and compacting it."""

import os
import time

from bench import BenchError
from bench.latency import Probe
from bench.load import VALUE_BYTES, Connection
from bench.probe import STRIDE
from bench.workload import Target, Workload, memory_figures


class Recovery(Workload):
    """Two million SETs over a million keys; then how long a restart takes to read them back.

    The files were just written, so both read them from the kernel's cache. This measures parsing, checking
    and building the table. Redis verifies no checksums here.
    """

    durability = "everysec-plain"
    keys = 1_000_000
    is_long = True
    targets = (Target("ready_s", 0.5),)

    def run(self, server, quick):
        keys = 20_000 if quick else self.keys
        with Connection(server) as connection:
            connection.load(keys)
            # The same keys once more, in another order.
            connection.load(keys, value=b"z" * VALUE_BYTES, stride=STRIDE)
        server.stop()
        size = size_mib(server.directory)
        ready = server.start()
        with Connection(server) as connection:
            persistence = connection.persistence()
            if persistence["loading"] != "0" or connection.dbsize() != keys:
                raise BenchError(f"{keys} keys were there, now {connection.dbsize()}")
            for key in ("key:%012d" % n for n in range(0, keys, keys // 100)):
                if connection.ask("GET", key) != "z" * VALUE_BYTES:
                    raise BenchError(f"{key} has not the value that it was set to last")
        loading = server.product.loading_seconds(server.stdout(), persistence)
        return {"ready_s": ready, "loading_s": loading, "log_mib": size}


class Compaction(Workload):
    """BGREWRITEAOF of a million keys under a write load: how much it slows the load, and its memory.

    The load is `probe.py`: 4,000 SETs a second over all keys, latency counted from when each was
    due. Memory includes what a forked child holds (see `Server.memory_mib`).
    """

    MEANWHILE_SECONDS_MIN = 0.25
    POLL_SECONDS = 0.05
    END_SECONDS_MAX = 120.0
    SETTLE_SECONDS = 1.0
    durability = "everysec"
    keys = 1_000_000
    is_long = True
    targets = (
        Target("p99_growth", 1.5, of_redis=False),
        Target("memory_growth", 1.1, of_redis=False),
    )

    def run(self, server, quick):
        keys, idle_seconds = (20_000, 1.0) if quick else (self.keys, 4.0)
        with Connection(server) as connection:
            connection.load(keys)
            start = time.time() + 0.5
            seconds_max = idle_seconds + self.END_SECONDS_MAX + 10
            with Probe(server, "set", "key", keys, start, seconds_max) as probe:
                # The first writes allocate memory: not counted.
                idle_from = start + self.SETTLE_SECONDS
                memory_before = self._watch_idle(server, connection, idle_from + idle_seconds)
                began = time.time()
                memory_peak = self._compact(server, connection)
                ended = time.time()
                # The p99 of a quick run needs enough requests, too.
                time.sleep(max(0.0, began + self.MEANWHILE_SECONDS_MIN - ended))
                probe.end()
        meanwhile = (began, max(ended, began + self.MEANWHILE_SECONDS_MIN))
        return {
            "compaction_s": ended - began,
            **probe.figures((idle_from, began), meanwhile),
            **memory_figures(memory_before, memory_peak),
        }

    def _watch_idle(self, server, connection, until):
        """Polls as during the compaction, so that polling costs the same."""
        memory = server.memory_mib()
        while time.time() < until:
            connection.persistence()
            memory = max(memory, server.memory_mib())
            time.sleep(self.POLL_SECONDS)
        return memory

    def _compact(self, server, connection):
        """Waits until it is done; returns the peak of memory."""
        rewrites_before = int(connection.persistence()["aof_rewrites"])
        give_up = time.time() + self.END_SECONDS_MAX
        connection.ask("BGREWRITEAOF")
        peak = 0.0
        while time.time() < give_up:
            peak = max(peak, server.memory_mib())
            fields = connection.persistence()
            if fields["aof_last_bgrewrite_status"] != "ok":
                raise BenchError("the compaction failed")
            # Redis counts one when it begins, kvstore when it ends.
            begun = int(fields["aof_rewrites"]) > rewrites_before
            if begun and fields["aof_rewrite_in_progress"] == "0":
                return peak
            time.sleep(self.POLL_SECONDS)
        raise BenchError(f"the compaction does not end within {self.END_SECONDS_MAX:.0f} s")


def size_mib(directory):
    """Size of all files below a directory."""
    sizes = [
        os.path.getsize(os.path.join(path, name))
        for path, _, names in os.walk(directory)
        for name in names
    ]
    return sum(sizes) / 2**20
