"""What is measured, one class per kind of workload, and the list of all of them at the end.

A workload measures one server once and returns its figures by name (see FIGURES). It says which
of them have a target, and whether the target is about the ratio to Redis or about the figure.
A workload that needs another life cycle than "start, load, measure, stop" (recovery, replication)
overrides `measure`; one under an fsync policy sets `durability`.
"""

import array
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass

from bench import BenchError
from bench.load import KEY_PATTERN, VALUE, VALUE_BYTES, Connection, redis_benchmark
from bench.servers import Server

# name -> (what the table calls it, format)
FIGURES = {
    "throughput": ("throughput, requests/s", "{:,.0f}"),
    "p50_ms": ("p50, ms", "{:.3f}"),
    "p99_ms": ("p99, ms", "{:.3f}"),
    "p9999_ms": ("p99.99, ms", "{:.3f}"),
    "max_ms": ("longest, ms", "{:.1f}"),
    "cpu_us": ("server CPU per request, µs", "{:.2f}"),
    "rss_mib": ("resident memory (VmRSS), MiB", "{:.1f}"),
    "rss_grown_mib": ("of it grown by the load, MiB", "{:.1f}"),
    "gone_s": ("all gone after, s", "{:.2f}"),
    "rss_left_mib": ("VmRSS one second later, MiB", "{:.1f}"),
    "p99_before_ms": ("p99 of other traffic before, ms", "{:.3f}"),
    "p99_during_ms": ("p99 of other traffic meanwhile, ms", "{:.3f}"),
    "p99_growth": ("the latter over the former", "{:.2f}"),
}
# Measured to judge the measurement itself; not a row of the table.
CLIENT_SHARE = "client_share"


@dataclass(frozen=True)
class Target:
    """A bound on a figure, or (`of_redis`) on its ratio to Redis's."""

    figure: str
    bound: float
    at_least: bool = False
    of_redis: bool = True

    def is_met(self, value):
        """Judged on the unrounded value."""
        return value >= self.bound if self.at_least else value <= self.bound

    def text(self):
        """As the table shows it."""
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}{' ×' if self.of_redis else ''}"


class Workload:
    """One line of the list at the end of this file."""

    durability = "none"
    targets = ()

    def __init__(self, name, title):
        self.name = name
        self.title = title

    def measure(self, product, quick):
        """Figures of one fresh server."""
        with Server(product, self.durability) as server:
            try:
                return self.run(server, quick)
            except (OSError, BenchError) as error:
                raise BenchError(
                    f"{self.name} on {product.name}: {error}\nserver log:\n{server.log_tail()}"
                ) from error

    def run(self, server, quick):
        """Loads and measures a server that has just been started."""
        raise NotImplementedError


class Throughput(Workload):
    """redis-benchmark's GET or SET over keys that are all there."""

    keyspace = 100_000

    def __init__(self, name, title, command, clients, pipeline, requests, targets):
        super().__init__(name, title)
        self.command = command
        self.clients = clients
        self.pipeline = pipeline
        self.requests = requests
        self.targets = targets

    def run(self, server, quick):
        requests = max(1_000, self.requests // 100) if quick else self.requests
        with Connection(server) as connection:
            connection.load(self.keyspace)
        self._benchmark(server, max(1_000, requests // 20))  # warm-up
        cpu_before = server.cpu_seconds()
        outcome = self._benchmark(server, requests)
        cpu = server.cpu_seconds() - cpu_before
        return {
            "throughput": outcome.throughput,
            "p50_ms": outcome.p50_ms,
            "p99_ms": outcome.p99_ms,
            "cpu_us": cpu / requests * 1e6,
            CLIENT_SHARE: outcome.client_share,
        }

    def _benchmark(self, server, requests):
        arguments = ["-r", str(self.keyspace), "-t", self.command]
        return redis_benchmark(server, requests, self.clients, self.pipeline, arguments)


class Insert(Workload):
    """SET of keys that are new (but for one in hundreds): does a growing table make a pause?"""

    requests = 5_000_000
    clients = 50
    targets = (Target("p9999_ms", 1.0),)

    def run(self, server, quick):
        requests = 20_000 if quick else self.requests
        command = ["SET", "key:__rand_int__", VALUE.decode()]
        cpu_before = server.cpu_seconds()
        outcome = redis_benchmark(
            server, requests, self.clients, 1, ["-r", "1000000000", *command]
        )
        cpu = server.cpu_seconds() - cpu_before
        return {
            "throughput": outcome.throughput,
            "p99_ms": outcome.p99_ms,
            "p9999_ms": outcome.percentile_ms(99.99),
            "max_ms": outcome.max_ms,
            "cpu_us": cpu / requests * 1e6,
            CLIENT_SHARE: outcome.client_share,
        }


class Memory(Workload):
    """Resident memory of a million small keys."""

    keys = 1_000_000
    settle_seconds = 1.0
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


class Expiry(Workload):
    """A million keys with one deadline: how soon they are gone, and what others feel of it.

    Other traffic is `probe.py`: 4,000 GETs a second of keys that stay, latency counted from when
    each was due. "Before" is measured while the million keys wait for their deadline, "meanwhile"
    from the deadline until DBSIZE shows them gone, but for MEANWHILE_SECONDS_MIN at least, so that
    the p99 of a quick sweep stands on enough requests.
    """

    MEANWHILE_SECONDS_MIN = 0.25
    before_seconds = 2.5
    gone_seconds_max = 60.0
    poll_seconds = 0.01
    staying_keys = 1_000
    targets = (Target("gone_s", 2.0, of_redis=False), Target("p99_growth", 2.0, of_redis=False))

    def run(self, server, quick):
        keys, allowance = (20_000, 4.0) if quick else (1_000_000, 15.0)
        deadline_ms = int((time.time() + allowance) * 1000)
        deadline = deadline_ms / 1000
        probe_start = deadline - self.before_seconds
        with Connection(server) as connection:
            connection.load(self.staying_keys, prefix="stay")
            connection.load(keys, deadline_ms=deadline_ms)
            if time.time() > probe_start:
                raise BenchError(f"loading {keys} keys took longer than the {allowance} s allowed")
            probe = self._start_probe(server, probe_start)
            try:
                time.sleep(max(0.0, deadline - 0.2 - time.time()))
                if connection.dbsize() != keys + self.staying_keys:
                    raise BenchError(f"keys are missing before the deadline: {connection.dbsize()}")
                gone = self._wait_until_gone(connection, deadline)
                time.sleep(1.0)
                rss_left = server.resident_mib()
                probe.terminate()
                output, _ = probe.communicate(timeout=self.gone_seconds_max)
            finally:
                probe.kill()
                probe.wait()
        if probe.returncode != 0:
            raise BenchError("the latency probe failed (see above)")
        samples = array.array("d")
        samples.frombytes(output)
        pairs = list(zip(samples[0::2], samples[1::2]))
        until = deadline + max(gone, self.MEANWHILE_SECONDS_MIN)
        before = percentile([took for due, took in pairs if due < deadline - 0.25], 99)
        during = percentile([took for due, took in pairs if deadline <= due < until], 99)
        return {
            "gone_s": gone,
            "rss_left_mib": rss_left,
            "p99_before_ms": before * 1000,
            "p99_during_ms": during * 1000,
            "p99_growth": during / before,
        }

    def _start_probe(self, server, start):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "probe.py")
        key = "stay:%012d" % 7
        seconds_max = self.before_seconds + self.gone_seconds_max + 5
        argv = [sys.executable, "-B", script, str(server.port), key, repr(start), repr(seconds_max)]
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def _wait_until_gone(self, connection, deadline):
        while True:
            left = connection.dbsize() - self.staying_keys
            waited = time.time() - deadline
            if left <= 0:
                return max(0.0, waited)
            if waited > self.gone_seconds_max:
                raise BenchError(f"{left} keys are still there {waited:.0f} s after their deadline")
            time.sleep(self.poll_seconds)


def percentile(values, percent):
    """Nearest rank."""
    if not values:
        raise BenchError("no samples in the window")
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


def throughput_workloads():
    """1 client, 50 clients, and 50 clients with 16 requests in flight; GET and SET."""
    one = (Target("throughput", 1.2, at_least=True),)
    fifty = (Target("throughput", 0.95, at_least=True), Target("cpu_us", 1.1))
    deep = (Target("throughput", 1.4, at_least=True), Target("cpu_us", 0.7))
    for command in ("get", "set"):
        big = command.upper()
        yield Throughput(f"{command}-1", f"{big}, 1 client", command, 1, 1, 60_000, one)
        yield Throughput(f"{command}-50", f"{big}, 50 clients", command, 50, 1, 200_000, fifty)
        title = f"{big}, 50 clients, pipeline of 16"
        yield Throughput(f"{command}-50-p16", title, command, 50, 16, 2_000_000, deep)


assert len(KEY_PATTERN % 0) == 16 and len(VALUE) == VALUE_BYTES

WORKLOADS = [
    *throughput_workloads(),
    Memory("memory", "1 million keys of 16 bytes, values of 64"),
    Insert("insert", "SET of 5 million new keys, 50 clients"),
    Expiry("expiry", "1 million keys expire in one second"),
]
