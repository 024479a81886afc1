#!/usr/bin/env python3
"""When one machine is not enough: more reads, more data or more safety, each set up, tried and checked.

Starts target/release/kvstore (or $KVSTORE) three times and haproxy or nutcracker, on free ports of 127.0.0.1, which are
printed, with all files in a new directory below $TMPDIR (or /tmp). On Ctrl-C too, it ends what it has started and removes
that directory.

Type next:
    scripts/scale.py reads      followers answer reads, behind haproxy; a token makes a reader see its own writes
    scripts/scale.py data       nutcracker spreads the keys over three servers; which commands work through it
    scripts/scale.py safety     haproxy follows the leader that the nodes elect; leaders die, and no OK is lost
    scripts/scale.py            all three
    scripts/scale.py reads --stay   goes on until Ctrl-C, so that you can type into it

Exit code 1 if something differs from what was said. Needs Python's standard library, haproxy and nutcracker (Debian
packages); what needs a program that is missing is skipped, and says so.
"""

import argparse
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True

from failover import FailoverError  # noqa: E402
from labs.frame import Lab  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("reads", "data", "safety")
# Of one of them.
SECONDS_MAX = 120


def too_late(*_):
    """Ends a run that hangs."""
    raise FailoverError(f"not done after {SECONDS_MAX} s")


def run(name, binary, stay):
    """Runs one. Returns what differs from what it said."""
    began = time.monotonic()
    directory = tempfile.mkdtemp(prefix=f"kvstore-scale-{name}-")
    print(f"\n=== More {name}\n\n    Files are in {directory}", flush=True)
    signal.alarm(SECONDS_MAX)
    try:
        with Lab(binary, directory) as lab:
            try:
                importlib.import_module(f"scale.{name}").run(lab)
            except (FailoverError, OSError) as error:
                lab.expect(f"{type(error).__name__}: {error}", False)
            signal.alarm(0)
            if lab.faults:
                print(lab.log_tails())
            if stay:
                print("\n    All of it goes on. Ctrl-C ends it.", flush=True)
                signal.pause()
    finally:
        signal.alarm(0)
        shutil.rmtree(directory, ignore_errors=True)
    result = f"{len(lab.faults)} FAILED" if lab.faults else "all as expected"
    print(f"\n=== More {name}: {result} ({time.monotonic() - began:.0f} s)", flush=True)
    return lab.faults


def main():
    """Exit code 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=NAMES, help="what there is to be more of")
    parser.add_argument("--stay", action="store_true", help="go on until Ctrl-C")
    options = parser.parse_args()
    binary = os.path.abspath(os.environ.get("KVSTORE", ROOT / "target/release/kvstore"))
    if not os.access(binary, os.X_OK):
        sys.exit(f"{binary} does not exist: cargo build --release")
    # As Ctrl-C: ends the started processes, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, too_late)
    try:
        failed = [name for name in ([options.name] if options.name else NAMES) if run(name, binary, options.stay)]
    except KeyboardInterrupt:
        sys.exit(130)
    for name in failed:
        print(f"FAILED: more {name}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
