"""A workload: a name, a way to measure one server once, and targets for its figures."""

from dataclasses import dataclass

from bench import BenchError
from bench.servers import Server

# name -> (name in the table, format)
FIGURES = {
    "throughput": ("throughput, requests/s", "{:,.0f}"),
    "p50_ms": ("p50, ms", "{:.3f}"),
    "p99_ms": ("p99, ms", "{:.3f}"),
    "p9999_ms": ("p99.99, ms", "{:.3f}"),
    "max_ms": ("longest, ms", "{:.1f}"),
    "throughput_bare": ("over a bare socket, requests/s", "{:,.0f}"),
    "throughput_library": ("by `client.get`, requests/s", "{:,.0f}"),
    "library_share": ("the latter over the former", "{:.2f}"),
    "deliveries": ("messages delivered/s", "{:,.0f}"),
    "cpu_delivery_us": ("server CPU per delivery, µs", "{:.2f}"),
    "cpu_us": ("server CPU per request, µs", "{:.2f}"),
    "records_per_fsync": ("writes per fsync", "{:,.1f}"),
    "hit_percent": ("reads that hit, %", "{:.2f}"),
    "rss_peak_mib": ("most resident memory (VmRSS), MiB", "{:.1f}"),
    "written_mib_s": ("written, MiB/s", "{:,.0f}"),
    "evictions": ("keys evicted", "{:,.0f}"),
    "rss_mib": ("resident memory (VmRSS), MiB", "{:.1f}"),
    "rss_grown_mib": ("of it grown by the load, MiB", "{:.1f}"),
    "client_kib": ("resident memory (VmRSS) of a silent client, KiB", "{:.1f}"),
    "gone_s": ("all gone after, s", "{:.2f}"),
    "rss_left_mib": ("VmRSS one second later, MiB", "{:.1f}"),
    "ready_s": ("ready to serve after, s", "{:.2f}"),
    "loading_s": ("of it reading back, as it says itself, s", "{:.2f}"),
    "log_mib": ("size of its files, MiB", "{:.0f}"),
    "throughput_alone": ("throughput without a follower, requests/s", "{:,.0f}"),
    "throughput_followed": ("throughput with a follower, requests/s", "{:,.0f}"),
    "kept_share": ("the latter over the former", "{:.2f}"),
    "catch_up_s": ("follower equal after the load's end, s", "{:.2f}"),
    "lag_p50_ms": ("p50 until a write shows on the follower, ms", "{:.2f}"),
    "lag_p99_ms": ("p99 until a write shows on the follower, ms", "{:.2f}"),
    "failover_500_p50_s": ("p50 without a leader, election-timeout 500, s", "{:.2f}"),
    "failover_500_p99_s": ("p99 without a leader, election-timeout 500, s", "{:.2f}"),
    "failovers_500": ("failovers measured, election-timeout 500", "{:,.0f}"),
    "failover_200_p50_s": ("p50 without a leader, election-timeout 200, s", "{:.2f}"),
    "failover_200_p99_s": ("p99 without a leader, election-timeout 200, s", "{:.2f}"),
    "failovers_200": ("failovers measured, election-timeout 200", "{:,.0f}"),
    "gap_leader_p50_ms": ("p50 of a handover without an OK, `ack leader`, ms", "{:.1f}"),
    "gap_leader_p99_ms": ("p99 of a handover without an OK, `ack leader`, ms", "{:.1f}"),
    "wait_leader_p99_ms": ("p99 of the longest wait of a writer in a handover, `ack leader`, ms", "{:.1f}"),
    "gap_majority_p50_ms": ("p50 of a handover without an OK, `ack majority`, ms", "{:.1f}"),
    "gap_majority_p99_ms": ("p99 of a handover without an OK, `ack majority`, ms", "{:.1f}"),
    "wait_majority_p99_ms": ("p99 of the longest wait of a writer in a handover, `ack majority`, ms", "{:.1f}"),
    "handovers": ("handovers measured", "{:,.0f}"),
    "refused_handovers": ("PROMOTEs that were not answered with OK", "{:,.0f}"),
    "readonly_per_handover": ("writes answered READONLY in a handover", "{:.1f}"),
    "other_errors": ("writes answered otherwise or not at all, in all handovers", "{:,.0f}"),
    "lost_writes": ("acknowledged writes lost, in all handovers", "{:,.0f}"),
    "p99_followed_ms": ("p99 with a follower, ms", "{:.3f}"),
    "throughput_leader": ("throughput of three nodes, `ack leader`, requests/s", "{:,.0f}"),
    "p99_leader_ms": ("p99, `ack leader`, ms", "{:.3f}"),
    "leader_share": ("throughput of `ack leader` over that with a follower", "{:.2f}"),
    "throughput_majority": ("throughput of three nodes, `ack majority`, requests/s", "{:,.0f}"),
    "p99_majority_ms": ("p99, `ack majority`, ms", "{:.3f}"),
    "majority_share": ("throughput of `ack majority` over that with a follower", "{:.2f}"),
    "throughput_local": ("throughput, `reads local`, requests/s", "{:,.0f}"),
    "p99_local_ms": ("p99, `reads local`, ms", "{:.3f}"),
    "throughput_index": ("throughput, `reads index`, requests/s", "{:,.0f}"),
    "p99_index_ms": ("p99, `reads index`, ms", "{:.3f}"),
    "index_share": ("throughput of `reads index` over `reads local`", "{:.2f}"),
    "copy_s": ("follower equal after, s", "{:.2f}"),
    "compaction_s": ("compaction took, s", "{:.2f}"),
    "p99_before_ms": ("p99 of other traffic before, ms", "{:.3f}"),
    "p99_during_ms": ("p99 of other traffic meanwhile, ms", "{:.3f}"),
    "p99_growth": ("the latter over the former", "{:.2f}"),
    "throughput_unseen": ("throughput without an observer, requests/s", "{:,.0f}"),
    "throughput_seen": ("with one, requests/s", "{:,.0f}"),
    "seen_share": ("the latter over the former", "{:.3f}"),
    "memory_before_mib": ("memory before, children included, MiB", "{:.1f}"),
    "memory_peak_mib": ("its peak meanwhile, MiB", "{:.1f}"),
    "memory_growth": ("the latter over the former", "{:.2f}"),
}
# Share of a core that the client used. Not a row of the table: it shows if the client was the limit.
CLIENT_SHARE = "client_share"


def memory_figures(before, peak):
    """Memory in MiB, and how much it grew."""
    return {"memory_before_mib": before, "memory_peak_mib": peak, "memory_growth": peak / before}


@dataclass(frozen=True)
class Target:
    """A bound on a figure, or (`of_redis`) on its ratio to Redis's."""

    figure: str
    bound: float
    at_least: bool = False
    of_redis: bool = True

    def is_met(self, value):
        """Compares the value before rounding."""
        return value >= self.bound if self.at_least else value <= self.bound

    def text(self):
        """As the table shows it."""
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}{' ×' if self.of_redis else ''}"


class Workload:
    """One line of the list in `workloads.py`.

    `durability` is the level that the servers are started with, `is_pinned` on a core of their own. `is_long` means
    half as many rounds.
    """

    durability = "none"
    is_pinned = False
    is_long = False
    targets = ()

    def __init__(self, name, title):
        self.name = name
        self.title = title

    @property
    def group(self):
        """`cache` if nothing is written to disk, else `log`. Other kinds override it."""
        return "cache" if self.durability == "none" else "log"

    def rounds(self, wanted):
        """The number of rounds if `wanted` were asked for."""
        return (wanted + 1) // 2 if self.is_long else wanted

    def measure(self, product, quick):
        """Starts a server and returns its figures."""
        with Server(product, self.durability, is_pinned=self.is_pinned) as server:
            try:
                return self.run(server, quick)
            except (OSError, BenchError) as error:
                raise BenchError(
                    f"{self.name} on {product.name}: {error}\nserver log:\n{server.log_tail()}"
                ) from error

    def run(self, server, quick):
        """Loads and measures a server that was just started."""
        raise NotImplementedError
