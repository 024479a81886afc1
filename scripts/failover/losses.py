"""Looks for acknowledged writes: in the data of a node, and in what a node gave up."""

import subprocess
from pathlib import Path

from failover import FailoverError
from failover.client import Client

NAMES_SHOWN = 3
# In one packet.
BATCH = 500


def missing_writes(leader, writers):
    """The acknowledged writes that the leader does not have, in the order of their acknowledgement."""
    acknowledged = sorted(write for writer in writers for write in writer.acknowledged)
    missing = []
    with Client(leader.port) as client:
        for at in range(0, len(acknowledged), BATCH):
            part = acknowledged[at:at + BATCH]
            values = client.ask_all([("GET", key) for _, key, _ in part])
            missing += [key for (_, key, value), found in zip(part, values) if found != value]
    return len(acknowledged), missing


def saved_keys(binary, node):
    """The keys that were written by what this node gave up, as `kvstore log` prints it."""
    found = set()
    for path in Path(node.directory, "data", "diverged").rglob("*"):
        if path.is_file() and path.suffix == ".aof":
            done = subprocess.run([binary, "log", path], capture_output=True, text=True, timeout=30, check=False)
            if done.returncode != 0:
                raise FailoverError(f"kvstore log {path} failed: {done.stderr}")
            words = (line.split() for line in done.stdout.splitlines())
            found |= {word.strip('"') for line in words for word in line if "-" in word}
    return found


def named(keys):
    """A few of the keys, and how many there are."""
    if len(keys) <= NAMES_SHOWN:
        return ", ".join(keys)
    return f"{', '.join(keys[:NAMES_SHOWN - 1])} … {keys[-1]} ({len(keys)})"
