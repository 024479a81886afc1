#!/usr/bin/env python3
"""Checks metrics and status page with the tools that operators use: Prometheus, promtool, Chromium.

Starts, each on free ports of 127.0.0.1, and ends on Ctrl-C:
  - target/release/kvstore (or $KVSTORE) twice, in temporary directories
  - prometheus, which scrapes the first each second while clients load it with known traffic
  - chromium under chromedriver, which watches the status page of the second
Type next:
  scripts/observe.py                a minute of load
  scripts/observe.py --short        the same in ten seconds
  scripts/observe.py --only page    or metrics: one half of it
  scripts/observe.py --shots DIR    keeps pictures of the page

Prints one line per check and a total. Exit code 1 if one failed. A tool that is not installed is skipped
(apt-get install prometheus chromium chromium-driver). Needs only Python's standard library.
"""

import argparse
import signal
import sys

sys.dont_write_bytecode = True

from observe import metrics, page  # noqa: E402
from observe.checks import Checks  # noqa: E402


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="ten seconds of load, not a minute")
    parser.add_argument("--only", choices=["metrics", "page"], help="one half of it")
    parser.add_argument("--shots", metavar="DIR", help="keep pictures of the page here")
    options = parser.parse_args()
    # As Ctrl-C: ends the started processes, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    checks = Checks()
    if options.only != "page":
        metrics.run(checks, seconds=10 if options.short else 60)
    if options.only != "metrics":
        page.run(checks, options.shots)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
