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
import shutil
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True

from labs.frame import Lab  # noqa: E402
from labs.runner import SECONDS_MAX, run_each, tell  # noqa: E402

NAMES = ("reads", "data", "safety")


def run(name, binary, stay):
    """Runs one. Returns what differs from what it said."""
    began = time.monotonic()
    directory = tempfile.mkdtemp(prefix=f"kvstore-scale-{name}-")
    print(f"\n=== More {name}\n\n    Files are in {directory}", flush=True)
    signal.alarm(SECONDS_MAX)
    try:
        with Lab(binary, directory) as lab:
            tell(lab, f"scale.{name}")
            signal.alarm(0)
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
    names = [options.name] if options.name else NAMES
    run_each(names, lambda name, binary: run(name, binary, options.stay), lambda name: f"more {name}")


if __name__ == "__main__":
    main()
