"""A network whose paths can be cut one by one, slowed down, or held at a certain record.

A node dials another one for two purposes: `peer` connections carry messages about who leads, and a `link` carries the
log, from the node that is dialled to the one that dials. Each has its own path.
"""

import asyncio
import re

from failover.network import Network

KINDS = ("peer", "link")


class Paths(Network):
    """Keys are (kind, from, to)."""

    def __init__(self, ports):
        super().__init__(ports)
        self.cut_paths = set()
        self.holds = {}
        self.link_delay_seconds = 0

    def keys(self):
        """See `Network.keys`."""
        pairs = super().keys()
        return [(kind, *pair) for kind in KINDS for pair in pairs]

    def route(self, node):
        """See `Network.route`."""
        routes = (key for key in self.proxies if key[1] == node)
        return ",".join(f"{key[0]}:{key[2]}={self.proxies[key]}" for key in routes)

    def is_cut(self, key, answers):
        """See `Network.is_cut`."""
        log_only = key[0] == "link" and not answers
        return (key in self.cut_paths and not log_only) or not self.cut_off.isdisjoint(key[1:])

    def cut_log(self, leader, *followers):
        """The log does not get from this node to those any more. They still hear it, and it hears what they have."""
        self._change(lambda: self.cut_paths.update(("link", node.port, leader.port) for node in followers))

    def part(self, *nodes):
        """No two of these nodes hear each other any more."""
        self._change(lambda: self.cut_paths.update(
            ("peer", one.port, other.port) for one in nodes for other in nodes if one is not other))

    def open_log(self, leader, *followers):
        """The log gets from this node to those again."""
        self._change(lambda: self.cut_paths.difference_update(("link", node.port, leader.port) for node in followers))

    def hold(self, leader, follower, pattern):
        """The log gets from this node to that one again, but no further than to where the pattern matches."""
        key = "link", follower.port, leader.port

        def change():
            self.holds[key] = re.compile(pattern)
            self.cut_paths.discard(key)

        self._change(change)

    def heal(self):
        """Everything passes again."""
        def change():
            self.cut_paths.clear()
            self.holds.clear()
            self.link_delay_seconds = 0

        self._change(change)
        super().heal()

    def _change(self, change):
        async def changed():
            async with self.changed:
                change()
                self.changed.notify_all()

        self._run(changed())

    async def forward(self, key, data, writer, answers):
        """See `Network.forward`."""
        if key[0] == "link" and self.link_delay_seconds:
            await asyncio.sleep(self.link_delay_seconds)
        pattern = self.holds.get(key) if answers else None
        if pattern and (found := pattern.search(data)):
            await super().forward(key, data[:found.start()], writer, answers)
            data = data[found.start():]
            async with self.changed:
                await self.changed.wait_for(lambda: self.holds.get(key) is not pattern)
        await super().forward(key, data, writer, answers)
