#!/usr/bin/env python3
"""monit: its check for Redis passes for kvstore and fails for a port without a server. Started by scripts/apps.py."""

import re
import subprocess
import sys
from pathlib import Path

from common import folder, free_ports, running, version_of, wait_until

PORT = int(sys.argv[1])
CONFIG = """
set daemon 1
set idfile {folder}/id
set statefile {folder}/state
set pidfile {folder}/pid
set httpd unixsocket {folder}/socket
    allow admin:monit
check host kvstore with address 127.0.0.1
    if failed port {port} protocol redis then alert
check host dead with address 127.0.0.1
    if failed port {dead} protocol redis then alert
"""


def statuses(config):
    """What monit says about the connection of each host."""
    said = subprocess.run(["monit", "-c", config, "-B", "status"], check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True).stdout
    return dict(re.findall(r"Remote Host '(\w+)'.*?port response time +(.*?) *\n", said, flags=re.S))


def main():
    """Its own daemon, in the foreground."""
    with folder() as directory:
        config = Path(directory, "monitrc")
        config.write_text(CONFIG.format(folder=directory, port=PORT, dead=free_ports(1)[0]))
        config.chmod(0o600)
        with running("monit", "-I", "-c", config):
            wanted = rf"[\d.]+ m?s to 127\.0\.0\.1:{PORT} type TCP/IP protocol REDIS"
            wait_until(lambda: re.fullmatch(wanted, statuses(config).get("kvstore", "")), "a check that passes")
            wait_until(lambda: "FAILED" in statuses(config).get("dead", "").upper(), "a check that fails")
    print(f"monit {version_of('monit', '--version', word=4)}: protocol redis tells a live server from a dead one")


main()
