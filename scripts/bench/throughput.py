"""Workloads by redis-benchmark: as many requests as the server takes."""

from bench.load import VALUE, Connection, redis_benchmark
from bench.workload import CLIENT_SHARE, Target, Workload


class Throughput(Workload):
    """GET or SET of existing keys."""

    keyspace = 100_000
    keyspace_quick = 1_000

    def __init__(self, name, title, command, clients, pipeline, requests, targets, durability, is_pinned=False):
        super().__init__(name, title)
        self.command = command
        self.clients = clients
        self.pipeline = pipeline
        self.requests = requests
        self.targets = targets
        self.durability = durability
        self.is_pinned = is_pinned

    def run(self, server, quick):
        requests = max(1_000, self.requests // 100) if quick else self.requests
        keyspace = self.keyspace_quick if quick else self.keyspace
        with Connection(server) as connection:
            connection.load(keyspace)
            self._benchmark(server, max(500, requests // 20), keyspace)  # warm-up
            log_before = connection.persistence()
            cpu_before = server.cpu_seconds()
            outcome = self._benchmark(server, requests, keyspace)
            cpu = server.cpu_seconds() - cpu_before
            log_after = connection.persistence()
        return {
            "throughput": outcome.throughput,
            "p50_ms": outcome.p50_ms,
            "p99_ms": outcome.p99_ms,
            "cpu_us": cpu / requests * 1e6,
            CLIENT_SHARE: outcome.client_share,
            **records_per_fsync(log_before, log_after),
        }

    def _benchmark(self, server, requests, keyspace):
        arguments = ["-r", str(keyspace), "-t", self.command]
        core = server.client_core
        return redis_benchmark(server, requests, self.clients, self.pipeline, arguments, core)


class Insert(Workload):
    """SET of keys of which nearly all are new: does a growing table pause?"""

    requests = 5_000_000
    clients = 50
    is_long = True
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


def records_per_fsync(before, after):
    """From INFO persistence before and after. Empty for Redis, which does not count its fsyncs."""
    if "kvstore_fsyncs" not in before:
        return {}
    fsyncs = int(after["kvstore_fsyncs"]) - int(before["kvstore_fsyncs"])
    records = int(after["kvstore_appended_seq"]) - int(before["kvstore_appended_seq"])
    return {"records_per_fsync": records / max(1, fsyncs)}
