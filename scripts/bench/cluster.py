"""Workloads with three nodes that elect their leader: the time without one, and the price of each promise.

Beside them run three redis-servers under three Sentinels, the usual way to have such an election with Redis.
"""

import tempfile
import time

from bench import BenchError
from bench.latency import percentile
from bench.load import Connection, redis_benchmark
from bench.replication import wait_until_equal
from bench.sentinels import Sentinels
from bench.servers import Kvstore, Server
from bench.workload import Workload
from failover import FailoverError
from failover.client import Client
from failover.network import Network
from failover.nodes import Nodes, wait_until

POLL_SECONDS = 0.001
# All failovers of a workload's round, of one product. Three workloads and two products make three minutes.
FAILOVERS_SECONDS = 30.0
ELECTION_TIMEOUTS_MS = (500, 200)
OPTIONS = ["--auto-compact-percentage=0"]


class Clustered(Workload):
    """Shared: a group of servers in place of one."""

    durability = "everysec"
    group = "cluster"

    def measure(self, product, quick):
        try:
            with tempfile.TemporaryDirectory(prefix="kvstore-bench-") as directory:
                if isinstance(product, Kvstore):
                    return self.of_kvstore(product, directory, quick)
                return self.of_redis(product, directory, quick)
        except (OSError, FailoverError) as error:
            raise BenchError(f"{self.name} on {product.name}: {error}") from error

    def of_kvstore(self, product, directory, quick):
        """The figures of three nodes that elect their leader."""
        raise NotImplementedError

    def of_redis(self, product, directory, quick):
        """The figures of what is compared with them."""
        raise NotImplementedError


class Failover(Clustered):
    """The time from a failure of the leader to the first write that another node accepts, again and again."""

    def __init__(self, name, title, failure):
        super().__init__(name, title)
        self.failure = failure

    def rounds(self, wanted):
        # As many failovers as fit the time: a second round would only be more of the same.
        return 1

    def of_kvstore(self, product, directory, quick):
        figures = {}
        for timeout in ELECTION_TIMEOUTS_MS:
            options = [f"--election-timeout={timeout}", *OPTIONS]
            with tempfile.TemporaryDirectory(dir=directory) as inside:
                with Nodes(product.binary, inside, options, Network) as nodes:
                    seconds = FAILOVERS_SECONDS / len(ELECTION_TIMEOUTS_MS)
                    figures |= self._figures(timeout, self._failovers(nodes, 0 if quick else seconds))
        return figures

    def of_redis(self, product, directory, quick):
        with Sentinels(product, directory) as group:
            times = self._failovers(group, 0 if quick else FAILOVERS_SECONDS)
        # The same figures stand beside those of each timeout.
        return {name: value for timeout in ELECTION_TIMEOUTS_MS for name, value in self._figures(timeout, times).items()}

    @staticmethod
    def _figures(timeout, times):
        return {
            f"failover_{timeout}_p50_s": percentile(times, 50),
            f"failover_{timeout}_p99_s": percentile(times, 99),
            f"failovers_{timeout}": len(times),
        }

    def _failovers(self, group, seconds):
        """At least one failover; the time that each took."""
        times = []
        began = time.monotonic()
        try:
            while not times or time.monotonic() < began + seconds:
                leader = group.leader()
                writers = [Impatient(node) for node in group.all if node is not leader]
                failed = time.monotonic()
                group.fail(leader, self.failure)
                times.append(first_write(writers) - failed)
                for writer in writers:
                    writer.hang_up()
                group.repair(leader, self.failure)
        except FailoverError as error:
            raise FailoverError(f"{error}\n{group.log_tails()}") from error
        return times


class Impatient:
    """A client that tries to write to one node, and dials again when it is cut off: Sentinel does that."""

    def __init__(self, node):
        self.node = node
        self.client = Client(node.port)

    def writes(self):
        """True if the node accepts a write."""
        try:
            self.client = self.client or Client(self.node.port)
            return self.client.ask("SET", "first", "write") == "OK"
        except OSError:
            self.hang_up()
            return False

    def hang_up(self):
        """Closes the connection."""
        if self.client:
            self.client.close()
        self.client = None


def first_write(writers):
    """Writes to all of these nodes until one accepts; returns when that was."""

    def accepted():
        return any(writer.writes() for writer in writers) and time.monotonic()

    return wait_until(accepted, "a write that is accepted", POLL_SECONDS)


class Loaded(Clustered):
    """One command from 50 clients, after a tenth of the load to warm up."""

    keyspace = 100_000
    command = None

    def __init__(self, name, title, pipeline, requests):
        super().__init__(name, title)
        self.pipeline = pipeline
        self.requests = requests

    def _load(self, server, quick):
        requests = 20_000 if quick else self.requests
        arguments = ["-r", str(self.keyspace), "-t", self.command]
        redis_benchmark(server, requests // 10, 50, self.pipeline, arguments)
        return redis_benchmark(server, requests, 50, self.pipeline, arguments)


class Promises(Loaded):
    """The same load on a leader with one follower by hand, and on an elected one under both kinds of `ack`."""

    command = "set"

    def of_kvstore(self, product, directory, quick):
        figures = self._followed(product, quick)
        with Nodes(product.binary, directory, OPTIONS) as nodes:
            for ack in ("leader", "majority"):
                nodes.set_policy("ack", ack)
                outcome = self._load(nodes.converge(), quick)
                figures |= {f"throughput_{ack}": outcome.throughput, f"p99_{ack}_ms": outcome.p99_ms}
        for ack in ("leader", "majority"):
            figures[f"{ack}_share"] = figures[f"throughput_{ack}"] / figures["throughput_followed"]
        return figures

    def of_redis(self, product, directory, quick):
        return self._followed(product, quick)

    def _followed(self, product, quick):
        with Server(product, self.durability) as leader, Connection(leader) as here:
            with Server(product, self.durability, product.following(leader.port)) as follower:
                with Connection(follower) as there:
                    wait_until_equal(here, there)
                    outcome = self._load(leader, quick)
        return {"throughput_followed": outcome.throughput, "p99_followed_ms": outcome.p99_ms}


class Reads(Loaded):
    """GET from an elected leader, under both kinds of `reads`, beside a Redis alone."""

    command = "get"

    def of_kvstore(self, product, directory, quick):
        figures = {}
        with Nodes(product.binary, directory, OPTIONS) as nodes:
            with Connection(nodes.leader()) as connection:
                connection.load(1_000 if quick else self.keyspace)
            for reads in ("local", "index"):
                nodes.set_policy("reads", reads)
                outcome = self._load(nodes.converge(), quick)
                figures |= {f"throughput_{reads}": outcome.throughput, f"p99_{reads}_ms": outcome.p99_ms}
        return figures | {"index_share": figures["throughput_index"] / figures["throughput_local"]}

    def of_redis(self, product, directory, quick):
        with Server(product, self.durability) as server:
            with Connection(server) as connection:
                connection.load(1_000 if quick else self.keyspace)
            outcome = self._load(server, quick)
        return {"throughput_local": outcome.throughput, "p99_local_ms": outcome.p99_ms}
