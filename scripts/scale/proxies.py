"""Programs between clients and several servers: haproxy and nutcracker, as child processes."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

from failover import FailoverError
from failover.client import Client
from failover.nodes import free_ports, wait_until

HAPROXY_CFG = Path(__file__).resolve().parent.parent / "package/haproxy.cfg"


def program(name):
    """Its path, or None. Debian keeps both where only root looks."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def accepts(port):
    """True if something listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


class Proxy:
    """A running program with a configuration file."""

    def __init__(self, lab, name, text, words, ports):
        path = os.path.join(lab.directory, f"{name}.conf")
        Path(path).write_text(text, encoding="ascii")
        self.name, self.log = name, os.path.join(lab.directory, f"{name}.log")
        words = [word.replace("CONF", path) for word in words]
        lab.command(" ".join([name, *words]))
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([program(name), *words], cwd=lab.directory, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        lab.resources.callback(self.end)
        wait_until(lambda: self.process.poll() is not None or all(map(accepts, ports)), f"{name} listens")
        if self.process.poll() is not None:
            raise FailoverError(f"{name} has ended: {Path(self.log).read_text(encoding='utf-8')}")

    def end(self):
        """Ends it."""
        self.process.terminate()
        self.process.wait()


def haproxy(lab, nodes):
    """Starts haproxy with the recipe scripts/package/haproxy.cfg, on free ports. Returns them: for the leader, for reads."""
    text = re.sub(r"^ *#.*\n", "", HAPROXY_CFG.read_text(encoding="ascii"), flags=re.M)
    leader, reads = free_ports(2)
    ports = {6379: leader, 6380: reads}
    for place, node in zip((8080, 8082, 8084), nodes.all):
        ports |= {place: node.port, place + 1: node.status_port}
    text = re.sub(r"\b(6379|6380|808[0-5])\b", lambda found: str(ports[int(found[0])]), text)
    Proxy(lab, "haproxy", text, ["-db", "-f", "CONF"], (leader, reads))
    # Before its first checks, haproxy takes all nodes for leaders.
    wait_until(lambda: all(leads(leader) for _ in range(2 * len(nodes.all))), "haproxy knows the leader")
    return leader, reads


def leads(port):
    """True if a connection to this port gets to a leader."""
    try:
        with Client(port, 2.0) as client:
            return client.ask("ROLE")[0] == "master"
    except (OSError, TypeError):
        return False


def nutcracker(lab, servers):
    """Starts nutcracker before these servers. Returns its port."""
    port, stats = free_ports(2)
    text = f"""kvstore:
  listen: 127.0.0.1:{port}
  redis: true
  hash: murmur
  hash_tag: "{{}}"
  distribution: ketama
  timeout: 2000
  servers:
""" + "".join(f"   - 127.0.0.1:{server.port}:1 server-{server.name}\n" for server in servers)
    words = ["-c", "CONF", "-o", "nutcracker.out", "-a", "127.0.0.1", "-s", str(stats),
             "-p", "nutcracker.pid"]
    Proxy(lab, "nutcracker", text, words, (port,))
    return port
