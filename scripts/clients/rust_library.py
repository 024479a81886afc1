#!/usr/bin/env python3
"""Checks the client library from another crate: examples/ against one node, and against three while their leader dies.

Usage: rust_library.py KVSTORE, as scripts/clients.sh calls it. Builds examples/, starts nodes on free ports of 127.0.0.1
and ends them. Prints a line `ok …` or `FAIL …` for each check.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from failover.nodes import Nodes, wait_until  # noqa: E402
from programs import built  # noqa: E402

KILLS = 3
SECONDS = 15
OPTIONS = ["--election-timeout=300", "--ack=majority"]


def report(name, is_good, output):
    """One line for a check, and what it printed if it failed."""
    print(f"ok   {name}" if is_good else f"FAIL {name}: {output}", flush=True)
    return is_good


def addresses(nodes):
    """As the programs take them."""
    return [f"127.0.0.1:{node.port}" for node in nodes]


def tour(name, nodes):
    """The program of the README, which ends with the first message."""
    leader = nodes.leader()
    with subprocess.Popen([built("tour"), *addresses(nodes.all)], stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT) as program:
        wait_until(lambda: program.poll() is not None or leader.ask("PUBLISH", "news", "hello"), "a subscriber")
        output, _ = program.communicate(timeout=30)
    is_good = program.returncode == 0 and 'name Some("Ada")' in output and "news: hello" in output
    return report(name, is_good, output)


def count(nodes):
    """Counts up while one leader after another is killed and comes back."""
    words = [built("counter"), str(SECONDS), *addresses(nodes.all)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as program:
        for _ in range(KILLS):
            time.sleep(1)
            leader = nodes.leader()
            nodes.fail(leader, "kill -9")
            nodes.leader([node for node in nodes.all if node is not leader])
            nodes.repair(leader, "kill -9")
        output, _ = program.communicate(timeout=60)
    acknowledged = output.partition("acknowledged ")[2].partition(",")[0]
    is_good = program.returncode == 0 and int(acknowledged or 0) > 0
    return report(f"the client library counts through {KILLS} leaders killed: {output.strip()}", is_good, output)


def main():
    """Exit code 1 if a check failed."""
    if not built("tour"):
        print("skip the client library from another crate: no cargo")
        return
    results = []
    for names in ("A", "ABC"):
        with tempfile.TemporaryDirectory(prefix="kvstore-programs-") as directory:
            with Nodes(sys.argv[1], directory, OPTIONS, names=names) as nodes:
                results.append(tour(f"the README's program, nodes: {len(names)}", nodes))
                if len(names) > 1:
                    results.append(count(nodes))
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
