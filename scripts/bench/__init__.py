"""The benchmark beside Redis. Reading order: servers, load, probe, latency, workload; then the kinds of
workloads: throughput, keyspace, log, replication, cluster (with sentinels), pubsub, seeing, memory; then workloads
(the list), report."""


class BenchError(Exception):
    """A measurement that cannot be taken. The message says what, where and what to do."""
