"""Reporting, waiting, and the processes that the checks start."""

import contextlib
import os
import re
import subprocess
import tempfile
import time
import traceback
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Far longer than any answer takes: a wait this long means a hang.
DEADLINE_SECONDS = 20
# No request leaves this machine, even if the environment names a proxy.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Checks:
    """Counts, and prints a line each."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    @contextlib.contextmanager
    def check(self, name):
        """A check: the `with` body passes unless it raises."""
        try:
            yield
        except Exception as error:  # whatever it is, it is reported and counted
            self.failed += 1
            print(f"FAIL {name}\n     | {error}", flush=True)
            if not isinstance(error, AssertionError):
                traceback.print_exc()
        else:
            self.passed += 1
            print(f"ok   {name}", flush=True)

    def skip(self, name, why):
        self.skipped += 1
        print(f"skip {name}: {why}", flush=True)

    def finish(self):
        """Prints the total and returns the exit code."""
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        return 1 if self.failed else 0


def equal(got, wanted, what=""):
    """An assert that prints both values."""
    assert got == wanted, f"{what}: got {got!r}, wanted {wanted!r}"


def wait_until(condition, what):
    """Polls until the condition returns a true value, and returns it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)


def fetch(url):
    with OPENER.open(url, timeout=DEADLINE_SECONDS) as answer:
        return answer.read().decode()


@contextlib.contextmanager
def process(arguments, directory, name):
    """A child process whose output goes to a file. It is ended with the `with` body, by its process id."""
    log = Path(directory, f"{name}.log")
    with log.open("ab") as output:
        child = subprocess.Popen(
            arguments, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    child.log = log
    try:
        yield child
    except Exception:
        print(f"     | the end of {log.name}:\n" + log.read_text(errors="replace")[-2000:])
        raise
    finally:
        child.terminate()
        try:
            child.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def logged(child, pattern):
    """Waits for a line of a child's log that matches; returns the first group."""

    def look():
        found = re.search(pattern, child.log.read_text(errors="replace"))
        assert found or child.poll() is None, f"{child.args[0]} has ended"
        return found and found[1]

    return wait_until(look, f"{pattern} in {child.log}")


@contextlib.contextmanager
def temporary_directory():
    # A browser that is ending may still write to its profile.
    options = {"prefix": "kvstore-observe-", "ignore_cleanup_errors": True}
    with tempfile.TemporaryDirectory(**options) as directory:
        yield directory


@contextlib.contextmanager
def kvstore(directory, *options):
    """A server in a new directory; its ports are `port` and `page_port`."""
    binary = os.environ.get("KVSTORE", str(ROOT / "target/release/kvstore"))
    binary = str(Path(binary).resolve())
    options = options or ("--port", "0")
    with process([binary, "serve", *options], directory, "kvstore") as child:
        child.port = int(logged(child, r"ready on 127\.0\.0\.1:(\d+)"))
        child.page_port = int(logged(child, r"(?m)^status page on http://127\.0\.0\.1:(\d+)/"))
        yield child
