#!/usr/bin/env python3
"""Side-by-side benchmark of kvstore and Redis (and Valkey where installed), with and without a log.

Starts one server at a time on a free port of 127.0.0.1, in a temporary directory below $TMPDIR (or
/tmp), and stops it again; needs redis-server and redis-benchmark, and a release build of kvstore.
Five rounds of everything take up to 20 minutes, three about 12; leave the machine alone meanwhile.
What takes long is measured in every second round only. Ctrl-C cleans up.

    make bench                              everything, five rounds
    make bench ROUNDS=3                     about 12 minutes
    make bench ARGS='--group log'           only the workloads with a log on disk; or: cache,
                                            pubsub, replication, seeing
    make bench ARGS='--only get-50 --rounds 9 --json /tmp/get.json'
    make bench-quick                        a smoke run: do the scripts work?
    TMPDIR=/mnt/disk make bench ARGS='--group log'      another disk
    python3 scripts/bench.py --subject redis            Redis against itself: the machine's noise
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile

# Before the imports below, which would otherwise leave caches in the source tree.
sys.dont_write_bytecode = True

from bench import BenchError  # noqa: E402  (the package beside this file)
from bench.report import Report  # noqa: E402
from bench.servers import Kvstore, Redis, RedisAgain, Valkey, filesystem  # noqa: E402
from bench.workload import CLIENT_SHARE, FIGURES  # noqa: E402
from bench.workloads import GROUPS, WORKLOADS  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def parse_arguments():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ", ".join(workload.name for workload in WORKLOADS)
    parser.add_argument("--quick", action="store_true", help="tiny counts, one round, not judged")
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        help=f"only workloads whose name is or begins with NAME-; may be repeated: {names}",
    )
    parser.add_argument("--group", choices=list(GROUPS), help="only workloads of this group")
    parser.add_argument(
        "--rounds", type=int, help="rounds per workload (default 5); long ones get half of them"
    )
    parser.add_argument("--json", metavar="FILE", help="write every single figure to FILE")
    parser.add_argument(
        "--subject",
        choices=["kvstore", "redis", "valkey"],
        default="kvstore",
        help="what is compared with Redis (default kvstore)",
    )
    parser.add_argument(
        "--kvstore",
        metavar="PATH",
        default=os.environ.get("KVSTORE", os.path.join(ROOT, "target/release/kvstore")),
        help="the release binary (default $KVSTORE or target/release/kvstore)",
    )
    arguments = parser.parse_args()
    if arguments.rounds is None:
        arguments.rounds = 1 if arguments.quick else 5
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    arguments.kvstore = os.path.abspath(arguments.kvstore)  # servers run in directories of their own
    arguments.workloads = choose_workloads(arguments, parser)
    return arguments


def choose_workloads(arguments, parser):
    """All, or those that `--group` and `--only` name."""
    wanted = arguments.only or []
    for name in wanted:
        if not any(is_named(workload, name) for workload in WORKLOADS):
            known = ", ".join(workload.name for workload in WORKLOADS)
            parser.error(f"no workload {name!r}; there are: {known}")
    chosen = [
        workload
        for workload in WORKLOADS
        if arguments.group in (None, workload.group)
        and (not wanted or any(is_named(workload, name) for name in wanted))
    ]
    if not chosen:
        parser.error(f"group {arguments.group} has no workload {' or '.join(wanted)}")
    return chosen


def is_named(workload, name):
    """Whether `--only name` means this one."""
    return (workload.name + "-").startswith(name + "-")


def check_disk(workloads):
    """Under a policy that syncs, memory in the guise of a disk would make every figure a fiction."""
    if filesystem() in ("tmpfs", "ramfs") and any(w.durability != "none" for w in workloads):
        raise BenchError(
            f"{tempfile.gettempdir()} is memory, not a disk: set TMPDIR to a directory on a disk, "
            "or take --group cache"
        )


def find_products(arguments):
    """(Redis, the subject, [others shown beside them])."""
    if not os.path.isdir("/proc/self/task"):
        raise BenchError("CPU and memory are read from /proc: this needs Linux")
    for tool in ("redis-server", "redis-benchmark"):
        if shutil.which(tool) is None:
            raise BenchError(f"{tool} is not installed: apt-get install redis-server redis-tools")
    baseline = Redis(shutil.which("redis-server"))
    valkey = shutil.which("valkey-server")
    if arguments.subject == "redis":
        return baseline, RedisAgain(baseline.binary), []
    if arguments.subject == "valkey":
        if valkey is None:
            raise BenchError("valkey-server is not installed")
        return baseline, Valkey(valkey), []
    if not os.access(arguments.kvstore, os.X_OK):
        raise BenchError(f"{arguments.kvstore} is not there: cargo build --release")
    return baseline, Kvstore(arguments.kvstore), [Valkey(valkey)] if valkey else []


def show_round(number, product, figures):
    """One line while it runs."""
    parts = [
        f"{FIGURES[name][0]} {FIGURES[name][1].format(value)}"
        for name, value in figures.items()
        if name in FIGURES
    ]
    if CLIENT_SHARE in figures:
        parts.append(f"client at {figures[CLIENT_SHARE]:.0%} of a core")
    print(f"  round {number}  {product.name:<7} {' · '.join(parts)}", flush=True)


def run(arguments):
    """All rounds of all chosen workloads."""
    baseline, subject, others = find_products(arguments)
    if not arguments.quick:
        check_disk(arguments.workloads)
    judged = not arguments.quick and arguments.subject == "kvstore"
    report = Report(baseline, subject, others, judged, arguments.quick, arguments.rounds)
    labels = ", ".join(report.labels.values())
    print(f"Starts {labels} in turn, each on a free port of 127.0.0.1. Ctrl-C stops and cleans up.")
    for workload in arguments.workloads:
        print(f"{workload.name}: {workload.title}", flush=True)
        for number in range(1, workload.rounds(arguments.rounds) + 1):
            for product in report.products:
                os.sync()  # nobody pays for what the one before him left to write
                figures = workload.measure(product, arguments.quick)
                report.add(workload, product, figures)
                show_round(number, product, figures)
    if arguments.json:
        report.save_json(arguments.json)
    print("\n" + report.markdown())
    if judged:
        missed = report.missed()
        print("\nMissed targets: " + ("; ".join(missed) if missed else "none"))


def main():
    """Exit code 1 where a measurement could not be taken; a missed target is a result."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `with` blocks clean up
    try:
        run(parse_arguments())
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
