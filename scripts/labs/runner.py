"""How labs, and scripts that are told like one, are run: in a directory of their own, within a time, one by one."""

import importlib
import os
import signal
import sys
from pathlib import Path

from failover import FailoverError

ROOT = Path(__file__).resolve().parent.parent.parent
# Of one run. With --step a person decides.
SECONDS_MAX = 120


def too_late(*_):
    """Ends a run that hangs."""
    raise FailoverError(f"not done after {SECONDS_MAX} s")


def tell(lab, module):
    """Runs the module. A deadline that passes or a connection that breaks is a fault of it."""
    try:
        importlib.import_module(module).run(lab)
    except (FailoverError, OSError) as error:
        lab.expect(f"{type(error).__name__}: {error}", False)
    if lab.faults:
        print(lab.log_tails())


def run_each(keys, run, title):
    """Calls `run(key, binary)` for each key, which returns what differs. Ends the program with 1 if anything does."""
    binary = os.path.abspath(os.environ.get("KVSTORE", ROOT / "target/release/kvstore"))
    if not os.access(binary, os.X_OK):
        sys.exit(f"{binary} does not exist: cargo build --release")
    # As Ctrl-C: ends the started processes, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, too_late)
    try:
        failed = [key for key in keys if run(key, binary)]
    except KeyboardInterrupt:
        sys.exit(130)
    for key in failed:
        print(f"FAILED: {title(key)}")
    sys.exit(bool(failed))
