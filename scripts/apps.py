#!/usr/bin/env python3
"""Runs real applications with kvstore instead of Redis, and shows what does not work and what to use instead.

Starts, one after the other: target/release/kvstore (or $KVSTORE) on a free port of 127.0.0.1, with its files in a
directory that is removed, and the application. Ends both, on Ctrl-C too.
Installs with pip and npm into target/apps and target/clients (or $CLIENTS_DIR), and as root also packages of Debian,
whose services do not start. An application that cannot be installed is skipped, and its row says what it lacks.

Type next:
    scripts/apps.py                    installs and runs all, some minutes the first time; `make apps` does so
    scripts/apps.py --short            those that need only pip and npm, half a minute without the installation
    scripts/apps.py --no-install       what is there
    scripts/apps.py Django monit       these, by the beginning of their names

Prints a row for each, then a table and a total. Exit code 1 if one failed.
"""

import argparse
import os
import signal
import sys

sys.dont_write_bytecode = True

from apps.catalogue import APPS  # noqa: E402
from apps.install import install  # noqa: E402
from apps.runner import BINARY, run  # noqa: E402


def chosen(options):
    """The applications that the command line names."""
    apps = [app for app in APPS if app.short or not options.short]
    names = [name.lower() for name in options.names]
    return [app for app in apps if not names or any(app.name.lower().startswith(name) for name in names)]


def print_table(title, rows):
    """Application and version, what was done, outcome."""
    if not rows:
        return
    cells = [(row.name, row.done or "-", row.outcome.partition("\n")[0]) for row in rows]
    widths = [max(len(cell[column]) for cell in cells) for column in range(2)]
    print(f"\n{title}")
    for name, done, outcome in cells:
        print(f"  {name:<{widths[0]}}  {done:<{widths[1]}}  {outcome}")


def main():
    """Exit code 1 if an application failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="applications")
    parser.add_argument("--short", action="store_true", help="those that need only pip and npm")
    parser.add_argument("--no-install", action="store_true", help="install nothing")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if not os.access(BINARY, os.X_OK):
        sys.exit(f"{BINARY} does not exist: cargo build --release")
    apps = chosen(options)
    if not apps:
        sys.exit(f"no such application; there are: {', '.join(app.name for app in APPS)}")
    if not options.no_install:
        install(apps)
    rows = []
    for app in apps:
        rows.append((app, run(app)))
        print(rows[-1][1], flush=True)
    print_table("Works", [row for app, row in rows if not app.refused])
    print_table("Does not work, and what does", [row for app, row in rows if app.refused])
    outcomes = [row.outcome.partition(":")[0] for _, row in rows]
    failed = outcomes.count("FAIL")
    print(f"\n{outcomes.count('ok')} passed, {failed} failed, {outcomes.count('skipped')} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
