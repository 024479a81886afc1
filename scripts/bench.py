#!/usr/bin/env python3
"""Benchmark of kvstore beside Redis (and Valkey where installed), with and without a log.

Starts one server at a time on a free port of 127.0.0.1, in a temporary directory below $TMPDIR (or /tmp),
and stops it again. Needs redis-server, redis-benchmark and a release build of kvstore. Leave the machine
alone while it runs. Ctrl-C cleans up.

    make bench                              everything, five rounds, about half an hour
    make bench ROUNDS=3                     about 20 minutes
    make bench ARGS=--write                 also writes the tables to scripts/bench/RESULTS.md
    make bench ARGS='--group log'           only the workloads with a log on disk
    make bench ARGS='--group cluster'       only the nodes that elect their leader
    make bench ARGS='--only get-50 --rounds 9 --json get.json'
    make bench ARGS='--old target/old/kvstore'         two builds of kvstore, without Redis
    make bench-quick                        a smoke run: do the scripts work?
    TMPDIR=/mnt/disk make bench ARGS='--group log'      on another disk
    python3 scripts/bench.py --subject redis            Redis against itself: the noise of the machine
    python3 scripts/bench.py --subject echo             a thread for each connection and no work, the limit of the
                                                        shape, with kvstore beside it
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
from bench.report import RESULTS, Report  # noqa: E402
from bench.servers import Echo, Kvstore, OldKvstore, Redis, RedisAgain, Valkey, filesystem  # noqa: E402
from bench.throughput import Throughput  # noqa: E402
from bench.workload import CLIENT_SHARE, FIGURES  # noqa: E402
from bench.workloads import GROUPS, WORKLOADS  # noqa: E402
from programs import built  # noqa: E402

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
        "--rounds", type=int, help="rounds per workload (default 5); long workloads get half as many"
    )
    parser.add_argument("--json", metavar="FILE", help="write every single figure to FILE")
    parser.add_argument(
        "--write",
        metavar="FILE",
        nargs="?",
        const=RESULTS,
        help="replace the tables of the measured groups in FILE (default scripts/bench/RESULTS.md)",
    )
    parser.add_argument(
        "--subject",
        choices=["kvstore", "redis", "valkey", "echo"],
        default="kvstore",
        help="what is compared with Redis (default kvstore)",
    )
    parser.add_argument(
        "--kvstore",
        metavar="PATH",
        default=os.environ.get("KVSTORE", os.path.join(ROOT, "target/release/kvstore")),
        help="the release binary (default $KVSTORE or target/release/kvstore)",
    )
    parser.add_argument(
        "--old",
        metavar="PATH",
        help="another build of kvstore, which is measured in turn and compared with in place of Redis",
    )
    arguments = parser.parse_args()
    if arguments.rounds is None:
        arguments.rounds = 1 if arguments.quick else 5
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    if arguments.write == RESULTS and (arguments.quick or arguments.old or arguments.only):
        parser.error("RESULTS.md is for whole groups beside Redis: name another file to write to")
    if arguments.old and arguments.subject != "kvstore":
        parser.error("--old is compared with kvstore only")
    # Servers run in directories of their own, so a relative path would not be found.
    arguments.kvstore = os.path.abspath(arguments.kvstore)
    arguments.old = arguments.old and os.path.abspath(arguments.old)
    arguments.workloads = choose_workloads(arguments, parser)
    return arguments


def choose_workloads(arguments, parser):
    """All workloads, or those that `--group` and `--only` name."""
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
        and (arguments.subject != "echo" or is_for_echo(workload))
    ]
    if not chosen:
        parser.error(f"group {arguments.group} has no workload {' or '.join(wanted)}")
    return chosen


def is_for_echo(workload):
    """True for the throughput without a log: it has no data and no log."""
    return isinstance(workload, Throughput) and workload.durability == "none"


def is_named(workload, name):
    """True if `--only name` means this workload."""
    return (workload.name + "-").startswith(name + "-")


def check_disk(workloads):
    """Refuses a temporary directory that is in memory: syncing it would cost nothing."""
    if filesystem() in ("tmpfs", "ramfs") and any(w.durability != "none" for w in workloads):
        raise BenchError(
            f"{tempfile.gettempdir()} is memory, not a disk: set TMPDIR to a directory on a disk, "
            "or take --group cache"
        )


def find_products(arguments):
    """(what is compared with, the subject, [others shown beside them])."""
    if not os.path.isdir("/proc/self/task"):
        raise BenchError("CPU and memory are read from /proc: this needs Linux")
    needs_kvstore = arguments.subject in ("kvstore", "echo")
    for tool in ["redis-benchmark"] if arguments.old else ["redis-server", "redis-benchmark"]:
        if shutil.which(tool) is None:
            raise BenchError(f"{tool} is not installed: apt-get install redis-server redis-tools")
    for binary in [arguments.old, arguments.kvstore] if needs_kvstore else []:
        if binary and not os.access(binary, os.X_OK):
            raise BenchError(f"{binary} does not exist: cargo build --release")
    if arguments.old:
        return OldKvstore(arguments.old), Kvstore(arguments.kvstore), []
    baseline = Redis(shutil.which("redis-server"))
    valkey = shutil.which("valkey-server")
    if arguments.subject == "redis":
        return baseline, RedisAgain(baseline.binary), []
    if arguments.subject == "echo":
        program = built("echo")
        if program is None:
            raise BenchError("the echo server needs cargo")
        return baseline, Echo(program), [Kvstore(arguments.kvstore)]
    if arguments.subject == "valkey":
        if valkey is None:
            raise BenchError("valkey-server is not installed")
        return baseline, Valkey(valkey), []
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
            # Every second round in the opposite order, so that a drift affects both alike.
            for product in report.products[:: 1 if number % 2 else -1]:
                os.sync()  # what the server before has left to write does not slow this one
                figures = workload.measure(product, arguments.quick)
                report.add(workload, product, figures)
                show_round(number, product, figures)
    if arguments.json:
        report.save_json(arguments.json)
    if arguments.write:
        report.write(arguments.write)
    print("\n" + report.markdown())
    if judged:
        missed = report.missed()
        print("\nMissed targets: " + ("; ".join(missed) if missed else "none"))


def main():
    """Exit code 1 if a measurement could not be taken; a missed target is a result."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `with` blocks clean up
    try:
        run(parse_arguments())
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
