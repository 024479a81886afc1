"""The list of all workloads, each with its targets.

A workload measures one server once and returns its figures by name (see FIGURES). A target is a bound
either on a figure or on its ratio to Redis's figure.
"""

from bench.cluster import Failover, Promises, Reads
from bench.handover import Handover
from bench.keyspace import Expiry, Idle, Memory
from bench.library import Library
from bench.load import KEY_PATTERN, VALUE, VALUE_BYTES
from bench.log import Compaction, Recovery
from bench.memory import Flood, HitRatio
from bench.pubsub import Fanout, Storm
from bench.replication import Cost, FullCopy, Lag
from bench.seeing import Monitored, Sampling
from bench.throughput import Insert, Throughput
from bench.workload import Target

GROUPS = {
    "cache": "Cache: nothing is written to disk (`appendonly no`)",
    "log": "Log: `appendonly yes`, never rewritten by itself",
    "replication": "Replication: a leader and one follower with logs, `everysec`, all on the two cores",
    "cluster": "Elections: three nodes with logs, `everysec`; Redis under three Sentinels with down-after 1000",
    "seeing": "Observers: the same server with and without one",
    "memory-limit": "Memory limit: keys are evicted to make room",
    "pubsub": "Pub/Sub: PUBLISH to subscribers that read, 64 bytes a message",
}


def at_least(throughput, cpu=None):
    """Bounds on ratios to Redis: throughput at least, CPU per request at most."""
    targets = (Target("throughput", throughput, at_least=True),)
    return targets if cpu is None else (*targets, Target("cpu_us", cpu))


def cache_throughput():
    """1 client, 50 clients, and 50 clients with 16 requests in flight; GET and SET."""
    for command in ("get", "set"):
        for suffix, title, clients, pipeline, requests, targets in (
            ("1", "1 client", 1, 1, 60_000, at_least(1.2)),
            ("50", "50 clients", 50, 1, 200_000, at_least(0.95, cpu=1.1)),
            ("50-p16", "50 clients, pipeline of 16", 50, 16, 2_000_000, at_least(1.4, cpu=0.7)),
        ):
            name, title = f"{command}-{suffix}", f"{command.upper()}, {title}"
            yield Throughput(name, title, command, clients, pipeline, requests, targets, "none")
        name, title = f"{command}-1000", f"{command.upper()}, 1,000 clients"
        yield Throughput(name, title, command, 1_000, 1, 200_000, (), "none")
        name, title = f"{command}-50-pinned", f"{command.upper()}, 50 clients, server and clients on a core each"
        yield Throughput(name, title, command, 50, 1, 200_000, at_least(1.0), "none", is_pinned=True)


def log_throughput():
    """The same three, SET only, with a log. They run for some seconds, so that `everysec` syncs several times."""
    for policy, suffix, title, clients, pipeline, requests, targets in (
        ("everysec", "1", "1 client", 1, 1, 100_000, at_least(1.1)),
        ("everysec", "50", "50 clients", 50, 1, 250_000, at_least(0.9)),
        ("everysec", "50-p16", "50 clients, pipeline of 16", 50, 16, 1_500_000, at_least(1.4)),
        ("always", "1", "1 client", 1, 1, 20_000, at_least(1.1)),
        ("always", "50", "50 clients", 50, 1, 120_000, at_least(0.95)),
        ("always", "50-p16", "50 clients, pipeline of 16", 50, 16, 800_000, at_least(1.2)),
    ):
        name, title = f"{policy}-{suffix}", f"SET, `{policy}`, {title}"
        yield Throughput(name, title, "set", clients, pipeline, requests, targets, policy)


assert len(KEY_PATTERN % 0) == 16 and len(VALUE) == VALUE_BYTES

WORKLOADS = [
    *cache_throughput(),
    Library("client-library", "GET, 1 client, a bare socket and the client library in turns"),
    Memory("memory", "1 million keys of 16 bytes, values of 64"),
    Idle("idle", "9,000 clients that are silent"),
    Insert("insert", "SET of 5 million new keys, 50 clients"),
    Expiry("expiry", "1 million keys expire in one second"),
    *log_throughput(),
    Cost("follow", "SET, 50 clients, pipeline of 16, one follower"),
    Lag("lag", "SET, 50 clients, one follower"),
    FullCopy("copy", "full copy of 1 million keys"),
    Failover("failover-kill", "kill -9 of the leader", "kill -9"),
    Failover("failover-stop", "SIGSTOP of the leader", "SIGSTOP"),
    Failover("failover-isolation", "isolation of the leader from the other nodes", "isolation"),
    Handover("handover", "PROMOTE of a follower, 4 writers, keys that expire, clocks set forward by an hour"),
    Promises("ack-set-p16", "SET, 50 clients, pipeline of 16", 16, 1_000_000),
    Promises("ack-set", "SET, 50 clients", 1, 150_000),
    Reads("reads-get-p16", "GET, 50 clients, pipeline of 16", 16, 1_000_000),
    Reads("reads-get", "GET, 50 clients", 1, 150_000),
    Sampling("sample-get", "GET, 50 clients, 1 in 100 traced", "get", 1, 100_000),
    Sampling("sample-set-p16", "SET, 50 clients, pipeline of 16, 1 in 100 traced", "set", 16, 800_000),
    Monitored("monitor", "SET, 50 clients, one that monitors"),
    Fanout("publish-1", "PUBLISH to 1 subscriber, 8 clients", 1, 200_000),
    Fanout("publish-1-p16", "PUBLISH to 1 subscriber, 8 clients, pipeline of 16", 1, 1_000_000, 16),
    Fanout("publish-50", "PUBLISH to 50 subscribers, 8 clients", 50, 20_000),
    Fanout("publish-1000", "PUBLISH to 1,000 subscribers, 8 clients", 1_000, 1_000),
    Storm("publish-storm", "2,000 messages/s of 1 KB to 50 subscribers and a stalled one"),
    HitRatio("hits-lru", "Zipf-distributed reads of a cache, allkeys-lru", "allkeys-lru"),
    HitRatio("hits-lfu", "Zipf-distributed reads of a cache, allkeys-lfu", "allkeys-lfu"),
    Flood("flood", "10 GB of values of 10 bytes to 64 KiB, limit 100 MB"),
    Recovery("recovery", "restart after 2 million SETs over 1 million keys"),
    Compaction("compaction", "compaction of 1 million keys under 4,000 SETs a second"),
]
