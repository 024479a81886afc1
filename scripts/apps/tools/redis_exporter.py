#!/usr/bin/env python3
"""redis_exporter: the figures that a Prometheus would get from it. Started by scripts/apps.py."""

import re
import sys

from common import fetch, free_ports, running, set_keys, version_of, wait_until

PORT = int(sys.argv[1])
WANTED = {
    "redis_up": 1,
    'redis_db_keys{db="db0"}': 3,
    'redis_key_size{db="db0",key="name"}': 5,
    'redis_commands_total{cmd="set"}': 3,
    "redis_connected_slaves": 0,
    'redis_instance_info{role="master"}': 1,
}


def metrics(text):
    """Each metric by its name and labels."""
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    found = {name: float(value) for name, _, value in lines}
    info, = (name for name in found if name.startswith("redis_instance_info{"))
    found["redis_instance_info{%s}" % re.search(r'role="\w+"', info).group()] = 1
    return found


def main():
    """Two scrapes: the counters go up."""
    set_keys(PORT, {"name": "Ada L", "a": "1", "b": "2"})
    listen = free_ports(1)[0]
    argv = [f"-web.listen-address=127.0.0.1:{listen}", f"-redis.addr=redis://127.0.0.1:{PORT}",
            "-check-single-keys=name"]
    with running("prometheus-redis-exporter", *argv):
        scrape = lambda: fetch(f"http://127.0.0.1:{listen}/metrics")  # noqa: E731
        first, second = metrics(wait_until(scrape, "the exporter listens")), metrics(scrape())
    for name, value in WANTED.items():
        assert first.get(name) == value, f"{name} is {first.get(name)}"
    assert first["redis_memory_used_bytes"] > 0
    counter = "redis_commands_processed_total"
    assert second[counter] > first[counter] > 0, counter
    version = version_of("prometheus-redis-exporter", "--version", word=5)
    print(f"redis_exporter {version}: {sum(name.startswith('redis_') for name in first)} figures: up, role, keys, "
          "size of a key, memory, commands")


main()
