"""What labs do with nodes that elect their leader."""

from failover.client import Client
from failover.nodes import wait_until

TIMEOUT_MS = 500


def others(nodes, *than):
    """The nodes that are not these."""
    return [node for node in nodes.all if node not in than]


def wait_info(node, section, field, value):
    """Waits until a field of a node's INFO has this value."""
    wait_until(lambda: node.info(section).get(field) == value, f"{node.name}: {field} {value}")


def last_record(node):
    """The number of the last record in its log."""
    fields = node.info("replication")
    leads = fields.get("role") == "master"
    return int(fields.get("master_repl_offset" if leads else "slave_repl_offset", 0))


def remember(nodes):
    """Waits until all nodes have the same log, and count as nodes that have forgotten nothing; returns the leader."""
    leader = nodes.converge()
    for node in nodes.all:
        wait_info(node, "cluster", "kvstore_cluster_memory", "whole")
    return leader


class Later:
    """Commands that are sent to a node in one packet. Their replies are read later."""

    def __init__(self, lab, node, *commands):
        self.client = lab.resources.enter_context(Client(node.port))
        self.commands = commands
        self.client.send(commands)

    def replies(self):
        """Waits for all of them."""
        return [self.client.read() for _ in self.commands]

    def reply_or_none(self):
        """The next reply, or None if the connection has broken."""
        try:
            return self.client.read()
        except OSError:
            return None
