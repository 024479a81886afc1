#!/usr/bin/env python3
"""Labs: each lets something go wrong, says first what to expect, then shows it and checks it.

Starts target/release/kvstore (or $KVSTORE) on free ports of 127.0.0.1, which are printed, with all files in a new
directory below $TMPDIR (or /tmp). On Ctrl-C too, it ends what it has started and removes that directory.

Type next:
    scripts/lab.py              lists the labs; `make lab` does so
    scripts/lab.py 3            runs one; `make lab N=3` does so
    scripts/lab.py 3 --step     waits for Enter before each part, so that you can look around from another terminal
    scripts/lab.py 3 --keep     keeps the directory
    scripts/lab.py --all        runs all, some minutes

Exit code 1 if what happened differs from what the lab said. Needs only Python's standard library; a part that needs
another program is skipped without it, and says so.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True

from labs import LABS  # noqa: E402
from labs.frame import Lab  # noqa: E402
from labs.runner import SECONDS_MAX, run_each, tell  # noqa: E402


def run(number, binary, options):
    """Runs a lab in a directory of its own. Returns what differs from what it said."""
    title, module = LABS[number]
    began = time.monotonic()
    directory = tempfile.mkdtemp(prefix=f"kvstore-lab{number}-")
    print(f"\n=== Lab {number}. {title}\n\n    Files are in {directory}", flush=True)
    signal.alarm(0 if options.step else SECONDS_MAX)
    try:
        with Lab(binary, directory, options.step) as lab:
            tell(lab, f"labs.{module}")
    finally:
        signal.alarm(0)
        if options.keep:
            print(f"    kept: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    result = f"{len(lab.faults)} FAILED" if lab.faults else "all as expected"
    print(f"\n=== Lab {number}: {result} ({time.monotonic() - began:.0f} s)", flush=True)
    return lab.faults


def main():
    """Exit code 1 if a lab failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("number", type=int, nargs="?", choices=sorted(LABS), help="which lab")
    parser.add_argument("--all", action="store_true", help="all labs, one after the other")
    parser.add_argument("--step", action="store_true", help="wait for Enter before each part")
    parser.add_argument("--keep", action="store_true", help="keep the directory")
    options = parser.parse_args()
    numbers = sorted(LABS) if options.all else [options.number] if options.number else []
    if not numbers:
        print("\n".join(f"{number:>2}. {title}" for number, (title, _) in sorted(LABS.items())))
        print("\nmake lab N=3 runs the third, make lab N=3 ARGS=--step part by part, make lab ARGS=--all all of them.")
        return
    run_each(numbers, lambda number, binary: run(number, binary, options),
             lambda number: f"lab {number}, {LABS[number][0]}")


if __name__ == "__main__":
    main()
