"""The side-by-side benchmark, in reading order: servers, load, probe and latency, workload,
throughput, keyspace and log (the kinds of workloads), workloads (the list), report."""


class BenchError(Exception):
    """A measurement that cannot be taken. The message says what, where and what to do."""
