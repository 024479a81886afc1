"""The network between the nodes: a TCP proxy for each ordered pair of them, which can be cut.

A server dials through it if KVSTORE_ROUTE says so. Clients do not pass it: they still reach a node that the others
do not. A cut swallows nothing and closes nothing; the bytes wait, as they would in TCP behind a firewall that drops
packets, and arrive after the cut. All of it runs in one thread, `network`.
"""

import asyncio
import threading

CHUNK_BYTES = 1 << 16


class Network:
    """`with Network(ports) as network:` listens on a free port for each ordered pair of these nodes.

    With `doors` there is one proxy in front of each node, for whoever dials it: for servers that know no routes.
    """

    def __init__(self, ports, doors=False):
        self.ports = ports
        self.sources = [None] if doors else ports
        self.proxies = {}  # by key: the port to dial instead of the node's
        self.cut_off = set()
        self.listeners = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="network", daemon=True)

    def __enter__(self):
        self.thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_exception):
        self._run(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def keys(self):
        """The paths that have a proxy: (from, to)."""
        return [(source, to) for source in self.sources for to in self.ports if source != to]

    def route(self, node):
        """KVSTORE_ROUTE for the node with this port."""
        others = [to for to in self.ports if to != node]
        return ",".join(f"{kind}:{to}={self.proxies[node, to]}" for to in others for kind in ("peer", "link"))

    def door(self, node):
        """The port of the proxy in front of this node."""
        return self.proxies[None, node]

    def isolate(self, node):
        """Nothing passes between this node and the others."""
        self._run(self._set_cut({node}))

    def heal(self):
        """Everything passes again."""
        self._run(self._set_cut(set()))

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    async def _listen(self):
        self.changed = asyncio.Condition()
        for key in self.keys():
            server = await asyncio.start_server(self._passing(key), "127.0.0.1", 0)
            self.listeners.append(server)
            self.proxies[key] = server.sockets[0].getsockname()[1]

    async def _end(self):
        for server in self.listeners:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _set_cut(self, nodes):
        async with self.changed:
            self.cut_off = nodes
            self.changed.notify_all()

    def is_cut(self, key, _answers):
        """True if nothing passes this path, from the one who dialled or, if it answers, from the other end."""
        return not self.cut_off.isdisjoint(key)

    async def forward(self, key, data, writer, answers):
        """Passes on what has come on this path, in the direction of `is_cut`."""
        if self.is_cut(key, answers):
            async with self.changed:
                await self.changed.wait_for(lambda: not self.is_cut(key, answers))
        writer.write(data)
        await writer.drain()

    def _passing(self, key):
        async def pump(reader, writer, answers):
            try:
                while data := await reader.read(CHUNK_BYTES):
                    await self.forward(key, data, writer, answers)
            except OSError:
                pass  # one of the two has closed; the other one is told below
            finally:
                writer.close()

        async def join(reader, writer):
            try:
                there_reader, there_writer = await asyncio.open_connection("127.0.0.1", key[-1])
            except OSError:
                writer.close()
                return
            await asyncio.gather(pump(reader, there_writer, False), pump(there_reader, writer, True))

        async def accepted(reader, writer):
            try:
                await join(reader, writer)
            except asyncio.CancelledError:
                pass  # the network ends; asyncio would report it as an error

        return accepted
