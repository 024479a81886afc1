#!/usr/bin/env python3
"""haproxy: its check for Redis, and a client through it. Started by scripts/apps.py."""

import csv
import socket
import sys
from pathlib import Path

from common import folder, free_ports, running, version_of, wait_until
from failover.client import Client

PORT = int(sys.argv[1])
CONFIG = """
global
    stats socket {folder}/stats level admin
defaults
    mode tcp
    timeout connect 2s
    timeout check 2s
    timeout client 20s
    timeout server 20s
listen kvstore
    bind 127.0.0.1:{listen}
    option redis-check
    default-server check inter 50ms fall 1 rise 2
    server good 127.0.0.1:{port}
    server dead 127.0.0.1:{dead}
"""


def states(path):
    """UP or DOWN of each server, and the last check's outcome; nothing while haproxy starts."""
    with socket.socket(socket.AF_UNIX) as stats:
        try:
            stats.connect(str(path))
        except OSError:
            return {}
        stats.sendall(b"show stat\n")
        rows = csv.DictReader(stats.makefile().read().removeprefix("# ").splitlines())
        return {row["svname"]: (row["status"], row["check_status"]) for row in rows}


def main():
    """The check must pass by what kvstore answers, which haproxy calls L7OK, and a dead server must fail it."""
    listen, dead = free_ports(2)
    with folder() as directory:
        config = Path(directory, "haproxy.cfg")
        config.write_text(CONFIG.format(folder=directory, listen=listen, port=PORT, dead=dead))
        with running("haproxy", "-f", config):
            wanted = {"good": ("UP", "L7OK"), "dead": ("DOWN", "L4CON")}
            wait_until(lambda: wanted.items() <= states(Path(directory, "stats")).items(), f"{wanted}")
            with Client(listen, 20) as client:
                assert client.ask("SET", "name", "Ada") == "OK" and client.ask("GET", "name") == "Ada"
    version = version_of("haproxy", "-v", word=2)
    print(f"haproxy {version}: option redis-check tells a live server from a dead one; commands through it")


main()
