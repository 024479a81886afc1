"""What the programs of this directory share: a child process, requests over HTTP, commands to kvstore."""

import contextlib
import subprocess
import sys
import tempfile
import urllib.request

from failover.client import Client
from failover.nodes import free_ports, wait_until

__all__ = ["fetch", "folder", "free_ports", "running", "set_keys", "version_of", "wait_until"]

SECONDS_MAX = 20
# No request leaves this machine, even if the environment names a proxy.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def folder():
    """A directory that is removed at the end."""
    return tempfile.TemporaryDirectory(prefix="kvstore-app-")


@contextlib.contextmanager
def running(*argv, **options):
    """Runs a program while the `with` body does. Its output goes to standard error."""
    process = subprocess.Popen([str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=sys.stderr, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def fetch(address, **options):
    """The body of an HTTP answer; None while nothing listens there."""
    try:
        with OPENER.open(urllib.request.Request(address, **options), timeout=SECONDS_MAX) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError:
        raise
    except OSError:
        return None


def set_keys(port, keys):
    """Sets these keys to these values in kvstore."""
    with Client(port, SECONDS_MAX) as client:
        for key, value in keys.items():
            assert client.ask("SET", key, value) == "OK"


def version_of(*argv, word):
    """The word with this number in what a program says about its version."""
    said = subprocess.run(argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    return said.split()[word]
