"""Three redis-servers under three stock Sentinels: what an elected leader is compared with.

A proxy stands in front of each server. The other servers and the Sentinels dial it, clients do not, so that a
server can be cut off from the others.
"""

import os
import signal

from failover.client import Client
from failover.network import Network
from failover.nodes import Node, NodeGroup, free_ports, wait_until

DOWN_AFTER_MS = 1000
GROUP = "bench"


class Sentinels(NodeGroup):
    """`with Sentinels(product, directory) as group:` starts a leader, two followers and three Sentinels."""

    def __init__(self, product, directory):
        super().__init__()
        self.product = product
        self.directory = directory
        self.sentinels = []

    def processes(self):
        """See `NodeGroup.processes`."""
        return self.sentinels + self.all

    def _start(self):
        ports = free_ports(6)
        self.network = Network(ports[:3], doors=True).__enter__()
        self.all = [Node(name, port, self.directory) for name, port in zip("ABC", ports)]
        self.sentinels = [Node(f"S{port}", port, self.directory) for port in ports[3:]]
        for node in self.all:
            self._start_server(node, self.all[0])
        for node in self.sentinels:
            self._start_sentinel(node)
        self.leader()

    def _start_server(self, node, leader):
        argv = self.product.argv("everysec", node.port) + ["--dir", node.directory]
        argv += ["--replica-announce-port", str(self.network.door(node.port))]
        # So that a follower without data need not wait for others.
        argv += ["--repl-diskless-sync-delay", "0"]
        if node is not leader:
            argv += self.product.following(self.network.door(leader.port))
        node.start(argv)
        wait_until(lambda: node.ask("PING"), f"{node.name} listens")

    def _start_sentinel(self, node):
        path = os.path.join(node.directory, "sentinel.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write(
                f"port {node.port}\nbind 127.0.0.1\ndir {node.directory}\n"
                f"sentinel monitor {GROUP} 127.0.0.1 {self.network.door(self.all[0].port)} 2\n"
                f"sentinel down-after-milliseconds {GROUP} {DOWN_AFTER_MS}\n"
            )
        node.start([self.product.binary, path, "--sentinel"])

    def leader(self):
        """Waits until all Sentinels name the same leader, with two followers in order; returns it."""
        return wait_until(self._agreed, "three Sentinels that agree")

    def _agreed(self):
        named = {self._named_by(sentinel) for sentinel in self.sentinels}
        doors = {str(self.network.door(node.port)): node for node in self.all}
        leader = doors.get(named.pop()) if len(named) == 1 else None
        if leader is None or leader.info("replication").get("role") != "master":
            return None
        followers = [node.info("replication") for node in self.all if node is not leader]
        return leader if all(of.get("master_link_status") == "up" for of in followers) else None

    @staticmethod
    def _named_by(sentinel):
        """The leader's port as this Sentinel knows it, if it knows all others and finds them in order."""
        try:
            with Client(sentinel.port, 2.0) as client:
                state = client.info("sentinel").get("master0", "")
                replicas = client.ask("SENTINEL", "REPLICAS", GROUP)
                port = client.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP)[1]
        except (OSError, AttributeError, TypeError):
            return None
        is_whole = "status=ok" in state and "slaves=2,sentinels=3" in state
        flags = [replica[replica.index("flags") + 1] for replica in replicas] if is_whole else []
        return port if flags == ["slave", "slave"] else None

    def repair(self, node, failure):
        """Ends the failure. The old leader is told whom to follow: Sentinel would do it ten seconds later."""
        # Not asked of a Sentinel: those that did not fail over learn of it a moment later.
        others = [other for other in self.all if other is not node]
        leader = next(other for other in others if other.info("replication").get("role") == "master")
        if failure == "isolation":
            self.network.heal()
        elif failure == "SIGSTOP":
            node.signal(signal.SIGCONT)
        else:
            self._start_server(node, leader)
        door = self.network.door(leader.port)
        wait_until(lambda: node.ask("REPLICAOF", "127.0.0.1", door), f"{node.name} follows")
