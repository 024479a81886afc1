"""The side-by-side benchmark, in reading order: servers, load, probe, workloads, report."""


class BenchError(Exception):
    """A measurement that cannot be taken. The message says what, where and what to do."""
