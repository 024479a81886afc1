#!/usr/bin/env python3
"""Checks that unchanged clients of Redis Sentinel follow the leader of three nodes which elect it. No Sentinel runs.

Usage: cluster.py KVSTORE CLIENTS_DIR, as scripts/clients.sh calls it, or with the name of one program in cluster/.
Starts three nodes with a password on free ports of 127.0.0.1, and one program of scripts/clients/cluster after another.
Each is told a key at a time on standard input, writes it to the leader and reads it from a follower with what its
library does by itself, and answers with a line. In between the leader is killed, or hands over.
Ends all that it started.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from failover import FailoverError  # noqa: E402
from failover.nodes import DEADLINE_SECONDS, Nodes  # noqa: E402

KVSTORE, CLIENTS_DIR = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
PROGRAMS = Path(__file__).resolve().parent / "cluster"
PASSWORD = "open-sesame"
# What happens to one leader after another: four failovers, or with KVSTORE_LONG=1 twenty.
FATES = ("kill -9", "PROMOTE", "kill -9", "kill -9") * (5 if os.environ.get("KVSTORE_LONG") == "1" else 1)


def tell(program, key):
    """Has the program write and read a key. Returns the seconds that it took."""
    began = time.monotonic()
    program.stdin.write(f"{key}\n")
    program.stdin.flush()
    answer = program.stdout.readline().strip()
    assert answer == key, answer or f"the program ended with exit code {program.wait()}"
    return time.monotonic() - began


def follow(program, name, nodes):
    """One program, while one leader after another goes. Returns the slowest write after that."""
    tell(program, f"{name}:before")
    slowest = 0
    for number, fate in enumerate(FATES):
        leader, key = nodes.leader(), f"{name}:{number}"
        if fate == "kill -9":
            nodes.fail(leader, fate)
        else:
            # It stays there as a follower.
            other = next(node for node in nodes.all if node is not leader)
            answer = other.ask(fate, seconds_max=DEADLINE_SECONDS)
            assert answer == "OK", f"{fate}: {answer}"
        slowest = max(slowest, tell(program, key))
        if fate == "kill -9":
            nodes.repair(leader, fate)
        assert nodes.leader().ask("GET", key) == key, f"{key} is not on the leader"
    return slowest


def check(name, command, environment, nodes):
    """Runs one program. Returns whether it did all that it was told."""
    program = subprocess.Popen(command, env={**os.environ, **environment}, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        seconds = follow(program, name, nodes)
    except (AssertionError, FailoverError, OSError) as error:
        print(f"FAIL {name} without a Sentinel: {str(error)[:500]}", flush=True)
        return False
    finally:
        program.kill()
        program.wait()
    changes = f"{len(FATES)} changes of the leader, {FATES.count('kill -9')} of them kill -9"
    print(f"ok   {name} without a Sentinel: after each of {changes}, writes go on within {seconds:.1f} s", flush=True)
    return True


def programs(ports):
    """The name, the command and the environment of each program whose library is installed."""
    node = CLIENTS_DIR / "node/node_modules"
    arguments = [PASSWORD, *ports]
    for library in ("redis-py", "redis-py-5"):
        command = [sys.executable, "-B", PROGRAMS / "redis_py.py", *arguments]
        yield library, CLIENTS_DIR / library, command, {"PYTHONPATH": str(CLIENTS_DIR / library)}
    for name, library in (("node_redis", "redis"), ("ioredis", "ioredis")):
        yield name, node / library, ["node", PROGRAMS / f"{name}.js", *arguments], {"NODE_PATH": str(node)}


def main():
    """All programs, one after another, with the same nodes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    passed, environment = True, {"KVSTORE_REQUIREPASS": PASSWORD}
    with tempfile.TemporaryDirectory() as work, Nodes(KVSTORE, work, environment=environment) as nodes:
        for name, library, command, variables in programs([str(node.port) for node in nodes.all]):
            if sys.argv[3:] and name not in sys.argv[3:]:
                continue
            if not library.is_dir() or not shutil.which(command[0]):
                print(f"skip {name} without a Sentinel: not installed", flush=True)
                continue
            for dead in (node for node in nodes.all if node.process.poll() is not None):
                nodes.start(dead)
            nodes.leader()
            passed &= check(name, command, variables, nodes)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
