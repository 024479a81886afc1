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
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KVSTORE, CLIENTS_DIR = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
PROGRAMS = Path(__file__).resolve().parent / "cluster"
PASSWORD = "open-sesame"
SECONDS_MAX = 30
# What happens to one leader after another: four failovers, or with KVSTORE_LONG=1 twenty.
FATES = ("kill -9", "PROMOTE", "kill -9", "kill -9") * (5 if os.environ.get("KVSTORE_LONG") == "1" else 1)


class Node:
    """A node: its port, its directory, and its process while it runs."""

    def __init__(self, directory):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.directory, self.process = directory, None

    def start(self, nodes):
        """Starts it, again or for the first time."""
        listed = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        options = ["--port", str(self.port), "--metrics-port", "0", "--dir", str(self.directory)]
        with open(f"{self.directory}.log", "ab") as log:
            self.process = subprocess.Popen(
                [KVSTORE, "serve", "--cluster-nodes", listed, *options],
                env={**os.environ, "KVSTORE_REQUIREPASS": PASSWORD}, stdout=log, stderr=log)

    def ask(self, *lines):
        """Sends lines of text as a person would; the answer to the last one, or nothing if the node is down."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), SECONDS_MAX) as connection:
                connection.sendall("\n".join((f"AUTH {PASSWORD}", *lines, "")).encode())
                connection.shutdown(socket.SHUT_WR)
                return connection.makefile().read().removeprefix("OK\n").strip()
        except OSError:
            return ""

    def leads(self):
        """True if it takes writes."""
        return self.ask("ROLE").startswith("1) master")


def eventually(what, condition):
    """Waits until something is true, and returns it."""
    end = time.monotonic() + SECONDS_MAX
    while time.monotonic() < end:
        if result := condition():
            return result
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


def leader_of(nodes):
    """The node that leads, once the two others follow it."""
    def settled():
        leaders = [node for node in nodes if node.leads()]
        followed = len(leaders) == 1 and leaders[0].ask("ROLE").count("127.0.0.1") == len(nodes) - 1
        return leaders[0] if followed else None
    return eventually("a leader with all followers", settled)


def tell(program, key):
    """Has the program write and read a key. Returns the seconds that it took."""
    began = time.monotonic()
    program.stdin.write(f"{key}\n")
    program.stdin.flush()
    answer = program.stdout.readline().strip()
    assert answer == key, answer or f"the program ended with exit code {program.wait()}"
    return time.monotonic() - began


def meets(leader, fate, nodes):
    """The leader leads no longer: it dies, or hands over to another node and stays there as a follower."""
    if fate == "kill -9":
        leader.process.kill()
        leader.process.wait()
    else:
        other = next(node for node in nodes if node is not leader)
        answer = other.ask(fate)
        assert answer == "OK", f"{fate}: {answer}"


def follow(program, name, nodes):
    """One program, while one leader after another goes. Returns the slowest write after that."""
    tell(program, f"{name}:before")
    slowest = 0
    for number, fate in enumerate(FATES):
        leader, key = leader_of(nodes), f"{name}:{number}"
        meets(leader, fate, nodes)
        slowest = max(slowest, tell(program, key))
        if fate == "kill -9":
            leader.start(nodes)
        assert leader_of(nodes).ask(f"GET {key}") == key, f"{key} is not on the leader"
    return slowest


def check(name, command, environment, nodes):
    """Runs one program. Returns whether it did all that it was told."""
    program = subprocess.Popen(command, env={**os.environ, **environment}, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        seconds = follow(program, name, nodes)
    except (AssertionError, OSError) as error:
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
    work, passed = Path(tempfile.mkdtemp()), True
    nodes = [Node(work / f"node-{number}") for number in range(3)]
    try:
        for node in nodes:
            node.start(nodes)
        for name, library, command, environment in programs([str(node.port) for node in nodes]):
            if sys.argv[3:] and name not in sys.argv[3:]:
                continue
            if not library.is_dir() or not shutil.which(command[0]):
                print(f"skip {name} without a Sentinel: not installed", flush=True)
                continue
            for dead in (node for node in nodes if node.process.poll() is not None):
                dead.start(nodes)
            leader_of(nodes)
            passed &= check(name, command, environment, nodes)
    finally:
        for node in nodes:
            if node.process:
                node.process.kill()
                node.process.wait()
        shutil.rmtree(work)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
