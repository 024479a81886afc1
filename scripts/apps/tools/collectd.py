#!/usr/bin/env python3
"""collectd: its plugin for Redis writes figures to files. Started by scripts/apps.py."""

import re
import subprocess
import sys
from pathlib import Path

from common import folder, running, set_keys, wait_until

PORT = int(sys.argv[1])
CONFIG = """
Hostname "here"
BaseDir "{folder}"
PIDFile "{folder}/pid"
Interval 0.2
LoadPlugin csv
<Plugin csv>
    DataDir "{folder}/csv"
</Plugin>
LoadPlugin redis
<Plugin redis>
    <Node "kvstore">
        Host "127.0.0.1"
        Port "{port}"
        Timeout 2000
        <Query "STRLEN name">
            Type "queue_length"
            Instance "name"
        </Query>
    </Node>
</Plugin>
"""
WANTED = {"records-0": 3, "queue_length-name": 5}
PRESENT = ("memory", "current_connections-clients", "total_operations", "uptime")


def figures(directory):
    """The newest value of each figure, by its name."""
    found = {}
    for path in Path(directory).rglob("*-20*"):
        lines = path.read_text().splitlines()
        if len(lines) > 1:
            value = lines[-1].split(",")[1]
            found[re.sub(r"-\d{4}-\d\d-\d\d$", "", path.name)] = float(value) if value != "nan" else 0
    return found


def complete(directory):
    """True once each figure that we know is right, and the others are there."""
    found = figures(directory)
    return all(found.get(name) == value for name, value in WANTED.items()) and all(
        name in found for name in PRESENT)


def main():
    """collectd in the foreground, as a user that is not root would run it."""
    set_keys(PORT, {"name": "Ada L", "a": "1", "b": "2"})
    with folder() as directory:
        config = Path(directory, "collectd.conf")
        config.write_text(CONFIG.format(folder=directory, port=PORT))
        with running("collectd", "-f", "-C", config):
            wait_until(lambda: complete(directory), "all figures")
        found = figures(directory)
    said = subprocess.run(["collectd", "-h"], stdout=subprocess.PIPE, text=True, check=False).stdout
    version = re.search(r"collectd ([\d.]+\d)", said).group(1)
    print(f"collectd {version}: plugin redis: {len(found)} figures: keys, memory, clients, commands, a query of ours")


main()
