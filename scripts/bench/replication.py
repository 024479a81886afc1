"""Workloads with a leader and one follower: the cost for the leader, the follower's lag, and the time of a
full copy."""

import time

from bench import BenchError
from bench.latency import Probe, percentile
from bench.load import Connection, redis_benchmark
from bench.servers import Server
from bench.workload import Target, Workload, memory_figures

CATCH_UP_SECONDS_MAX = 120.0
POLL_SECONDS = 0.01
# Markers that measure the lag; a full run has hundreds.
SAMPLES_MIN = 10


class Following(Workload):
    """Shared: servers with a log, and a follower of the same product in its own directory."""

    durability = "everysec"
    group = "replication"

    def follower(self, leader):
        """A second server that follows the first."""
        return Server(leader.product, self.durability, leader.product.following(leader.port))


class Cost(Following):
    """SETs in a pipeline of 16, without and with a follower; all share two cores."""

    requests = 1_500_000
    clients = 50
    pipeline = 16
    keyspace = 100_000
    targets = (Target("kept_share", 0.85, at_least=True, of_redis=False),)

    def run(self, server, quick):
        requests = 20_000 if quick else self.requests
        with Connection(server) as connection:
            connection.load(1_000 if quick else self.keyspace)
            self._load(server, requests // 10)
            alone = self._load(server, requests)
            with self.follower(server) as follower, Connection(follower) as other:
                wait_until_equal(connection, other)
                followed = self._load(server, requests)
                ended = time.monotonic()
                wait_until_equal(connection, other)
                catch_up = time.monotonic() - ended
        return {
            "throughput_alone": alone,
            "throughput_followed": followed,
            "kept_share": followed / alone,
            "catch_up_s": catch_up,
        }

    def _load(self, server, requests):
        arguments = ["-r", str(self.keyspace), "-t", "set"]
        return redis_benchmark(server, requests, self.clients, self.pipeline, arguments).throughput


class Lag(Following):
    """50 unpipelined clients write; a marker is written every 10 ms and read on the follower."""

    requests = 300_000
    clients = 50
    keyspace = 100_000
    targets = (Target("lag_p99_ms", 20, of_redis=False),)

    def run(self, server, quick):
        import threading

        requests = 20_000 if quick else self.requests
        samples = []
        with Connection(server) as leader, self.follower(server) as follower:
            with Connection(follower) as other:
                wait_until_equal(leader, other)
                done = threading.Event()

                def load():
                    arguments = ["-r", str(self.keyspace), "-t", "set"]
                    try:
                        redis_benchmark(server, requests, self.clients, 1, arguments)
                    finally:
                        done.set()

                thread = threading.Thread(target=load)
                thread.start()
                time.sleep(0.2)
                # The load of a smoke run may end before the first look.
                while not done.is_set() or len(samples) < SAMPLES_MIN:
                    samples.append(marker_delay(leader, other, len(samples)))
                    time.sleep(0.01)
                thread.join()
        return {
            "lag_p50_ms": percentile(samples, 50) * 1000,
            "lag_p99_ms": percentile(samples, 99) * 1000,
        }


class FullCopy(Following):
    """A follower with nothing gets a million keys from a leader whose log has been compacted, while `probe.py` sends
    the leader 4,000 GETs a second."""

    keys = 1_000_000
    is_long = True
    targets = (
        Target("copy_s", 1.0),
        Target("p99_growth", 2.0, of_redis=False),
        Target("memory_growth", 1.05, of_redis=False),
    )

    def run(self, server, quick):
        keys, idle_seconds = (20_000, 0.5) if quick else (self.keys, 3.0)
        with Connection(server) as leader:
            leader.load(keys)
            compact(leader, server.product)
            idle_from = time.time() + 0.5
            seconds_max = idle_seconds + CATCH_UP_SECONDS_MAX
            with Probe(server, "get", "key", keys, idle_from, seconds_max) as probe:
                time.sleep(max(0.0, idle_from + idle_seconds - time.time()))
                memory_before = server.memory_mib()
                began = time.time()
                memory_peak = self._copy(server, leader, keys)
                ended = time.time()
                probe.end()
        return {
            "copy_s": ended - began,
            **probe.figures((idle_from, began), (began, ended)),
            **memory_figures(memory_before, memory_peak),
        }

    def _copy(self, server, leader, keys):
        """Returns the leader's highest memory."""
        peak = server.memory_mib()
        with self.follower(server) as follower, Connection(follower) as other:
            give_up = time.monotonic() + CATCH_UP_SECONDS_MAX
            while not is_equal(leader, other):
                peak = max(peak, server.memory_mib())
                if time.monotonic() > give_up:
                    raise BenchError("the copy does not end")
                time.sleep(POLL_SECONDS)
            if other.dbsize() != keys:
                raise BenchError(f"{other.dbsize()} keys were copied, not {keys}")
        return peak


def replication(connection):
    """The fields of INFO replication."""
    lines = connection.ask("INFO", "replication").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def is_equal(leader, follower):
    """True if the follower's link is up and it has all of the leader's data."""
    here, there = replication(leader), replication(follower)
    up = there.get("master_link_status") == "up"
    return up and there["slave_repl_offset"] == here["master_repl_offset"]


def wait_until_equal(leader, follower):
    """Waits until it has."""
    give_up = time.monotonic() + CATCH_UP_SECONDS_MAX
    while not is_equal(leader, follower):
        if time.monotonic() > give_up:
            raise BenchError("the follower does not catch up")
        time.sleep(POLL_SECONDS)


def marker_delay(leader, follower, number):
    """Seconds from the leader's OK until the follower shows the write."""
    leader.ask("SET", "marker", str(number))
    began = time.monotonic()
    while follower.ask("GET", "marker") != str(number):
        if time.monotonic() > began + CATCH_UP_SECONDS_MAX:
            raise BenchError("a marker never came")
        time.sleep(0.000_2)
    return time.monotonic() - began


def compact(connection, product):
    """Makes the leader keep no backlog, so that a follower needs a full copy."""
    for name, value in product.no_backlog:
        connection.ask("CONFIG", "SET", name, value)
    before = int(connection.persistence()["aof_rewrites"])
    connection.ask("BGREWRITEAOF")
    give_up = time.monotonic() + CATCH_UP_SECONDS_MAX
    while time.monotonic() < give_up:
        fields = connection.persistence()
        begun = int(fields["aof_rewrites"]) > before
        if begun and fields["aof_rewrite_in_progress"] == "0":
            return
        time.sleep(POLL_SECONDS)
    raise BenchError("the compaction does not end")
