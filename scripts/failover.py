#!/usr/bin/env python3
"""Shows what the failure of a leader costs: how long nobody can write, and which acknowledged writes are gone.

Starts target/release/kvstore (or $KVSTORE) three times on free ports of 127.0.0.1, in a temporary directory, with
a proxy between each two of them, and a client for each that numbers its writes. Then the leader is killed
(kill -9), stopped (SIGSTOP) and isolated from the other nodes, first under `ack leader`, then under
`ack majority`. After each failure all acknowledged writes are looked for. Ends what it has started, on Ctrl-C too.

Type next: `scripts/failover.py`, half a minute. `make cluster ARGS=--demo` runs it after the tour; with `make cluster`
you can do the same by hand.

Exit code 1 if a write is gone that `ack majority` had acknowledged, or if one that `ack leader` had acknowledged
is neither in the data nor in `diverged/`. Needs only Python's standard library.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True

from failover import FailoverError  # noqa: E402
from failover.losses import missing_writes, named, saved_keys  # noqa: E402
from failover.network import Network  # noqa: E402
from failover.nodes import Nodes, wait_until  # noqa: E402
from failover.writers import Writer, first_of_others, last_of, leads  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
ELECTION_TIMEOUT_MS = 500
# Writes before each failure, and the time that the load goes on after the next leader's first OK and after the repair.
WARM_UP_WRITES = 400
GOES_ON_SECONDS = 0.3
SECONDS_MAX = 150
FAILURES = {
    "kill -9": "the process of {} is gone; it starts again later",
    "SIGSTOP": "{} stands still, and later wakes up as if nothing had happened",
    "isolation": "{} loses the other nodes, not its client",
}


def run_round(nodes, writers, ack, failure):
    """One failure. Prints what it cost; returns what is wrong with that, if anything is."""
    nodes.converge()
    for writer in writers:
        writer.start()
    # On a busy machine another node may lead by now.
    leader = wait_until(lambda: leads(writers, WARM_UP_WRITES), "writes before the failure")
    began = time.monotonic()
    nodes.fail(leader, failure)
    first = wait_until(lambda: first_of_others(writers, leader, began), "a write that another node accepts")
    time.sleep(GOES_ON_SECONDS)
    nodes.repair(leader, failure)
    time.sleep(GOES_ON_SECONDS)
    for writer in writers:
        writer.stop()
    now_leads = nodes.converge()
    count, missing = missing_writes(now_leads, writers)
    last = last_of(writers, leader, began)
    print(f"\n{ack:<8}  {failure:<9}  {FAILURES[failure].format(leader.name)}")
    late = "" if last is None else f", {leader.name}'s last OK after {1000 * (last - began):.0f} ms"
    print(f"    first OK of another node after {1000 * (first - began):.0f} ms{late}; {now_leads.name} leads now")
    doubt = sum(writer.in_doubt for writer in writers)
    print(f"    {count} writes acknowledged, {doubt} in doubt, lost: {named(missing) or 'none'}")
    if ack == "majority":
        return f"lost under ack majority: {named(missing)}" if missing else None
    saved = saved_keys(nodes.binary, leader) if missing else ()
    unsaved = [key for key in missing if key not in saved]
    if missing and not unsaved:
        print(f"    `kvstore log` finds the lost ones again in {leader.name}/data/diverged/")
    return f"neither in the data nor in diverged/: {named(unsaved)}" if unsaved else None


def run(binary, directory):
    """All rounds. Returns what is wrong."""
    faults = []
    options = [f"--election-timeout={ELECTION_TIMEOUT_MS}"]
    with Nodes(binary, directory, options, Network) as nodes:
        try:
            writers = [Writer(node) for node in nodes.all]
            leader = nodes.leader()
            print(f"A, B, C elect by themselves (election-timeout {ELECTION_TIMEOUT_MS}); {leader.name} leads.")
            for ack in ("leader", "majority"):
                nodes.set_policy("ack", ack)
                for failure in FAILURES:
                    if fault := run_round(nodes, writers, ack, failure):
                        print(f"    FAILED: {fault}")
                        faults.append(fault)
        except FailoverError:
            print(nodes.log_tails())
            raise
    return faults


def too_late(*_):
    """Ends a run that hangs."""
    raise FailoverError(f"not done after {SECONDS_MAX} s")


def main():
    """Exit code 1 if a promise was broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    binary = os.path.abspath(os.environ.get("KVSTORE", ROOT / "target/release/kvstore"))
    if not os.access(binary, os.X_OK):
        sys.exit(f"{binary} does not exist: cargo build --release")
    # As Ctrl-C: ends the started processes, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, too_late)
    signal.alarm(SECONDS_MAX)
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="kvstore-failover-") as directory:
            faults = run(binary, directory)
    except FailoverError as error:
        sys.exit(f"FAILED: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"\n=== {f'{len(faults)} FAILED' if faults else 'every promise kept'} ({time.monotonic() - began:.0f} s)")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
