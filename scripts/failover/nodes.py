"""Servers with `cluster-nodes`, as child processes in directories of their own."""

import contextlib
import os
import signal
import socket
import subprocess
import time

from failover import FailoverError
from failover.client import Client

DEADLINE_SECONDS = 30.0
POLL_SECONDS = 0.02
# A port that was free may be taken when the node binds it.
STARTS_MAX = 3


@contextlib.contextmanager
def kept_ports(count):
    """Ports that nothing else takes inside of the `with`."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        yield [probe.getsockname()[1] for probe in sockets]


def free_ports(count):
    """Ports that are free at this moment."""
    with kept_ports(count) as ports:
        return ports


def wait_until(condition, what, poll_seconds=POLL_SECONDS):
    """Polls until the condition returns a true value, and returns it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise FailoverError(f"waited {DEADLINE_SECONDS:.0f} s in vain: {what}")
        time.sleep(poll_seconds)
    return value


class Node:
    """One of the servers. It may run or not."""

    def __init__(self, name, port, directory):
        self.name = name
        self.port = port
        self.directory = os.path.join(directory, name)
        self.process = None
        self.own = []  # options of this node only
        self.status_port = 0  # of its status page; 0: none
        self.environment = {}
        os.mkdir(self.directory)

    def log(self):
        """The path of its log."""
        return os.path.join(self.directory, "stderr")

    def log_tail(self):
        """The end of its log."""
        with open(self.log(), encoding="utf-8", errors="replace") as file:
            return f"--- {self.name}\n" + "".join(file.readlines()[-12:])

    def start(self, argv, route=None):
        """Starts this command; does not wait until it is ready."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith("KVSTORE_")}
        variables |= self.environment
        if route:
            variables["KVSTORE_ROUTE"] = route
        with open(self.log(), "ab") as log:
            self.process = subprocess.Popen(
                argv, cwd=self.directory, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def end(self):
        """Kills it, if it runs."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def signal(self, number):
        """Sends it a signal. After SIGKILL it has ended, after SIGSTOP it stands still."""
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait()
        if number == signal.SIGSTOP:
            wait_until(lambda: all(state == "T" for state in self._thread_states()), f"{self.name} stands still")

    def _thread_states(self):
        tasks = f"/proc/{self.process.pid}/task"
        for task in os.listdir(tasks):
            try:
                with open(f"{tasks}/{task}/stat", encoding="ascii", errors="replace") as file:
                    # After the name in brackets, which may hold blanks.
                    yield file.read().rpartition(")")[2].split()[0]
            except OSError:
                pass  # the thread has just ended

    def client(self, seconds_max):
        """A new connection, which needs no further password."""
        return Client(self.port, seconds_max, self.environment.get("KVSTORE_REQUIREPASS"))

    def ask(self, *words, seconds_max=2.0):
        """One command on a new connection; None if the node does not answer."""
        try:
            with self.client(seconds_max) as client:
                return client.ask(*words)
        except OSError:
            return None

    def info(self, section):
        """The fields of a section of INFO; none if the node does not answer."""
        try:
            with self.client(2.0) as client:
                return client.info(section)
        except (OSError, AttributeError):
            return {}


class NodeGroup:
    """Nodes that start together, in `_start`, and end together: `with …() as group:`, also if the start fails."""

    def __init__(self):
        self.all = []
        self.network = None

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception):
        for node in self.processes():
            node.end()
        if self.network:
            self.network.__exit__()

    def _start(self):
        raise NotImplementedError

    def processes(self):
        """All that it has started."""
        return self.all

    def fail(self, node, failure):
        """Makes a node fail: `kill -9`, `SIGSTOP`, or `isolation` from all other nodes."""
        if failure == "isolation":
            self.network.isolate(node.port)
        else:
            node.signal(signal.SIGKILL if failure == "kill -9" else signal.SIGSTOP)

    def log_tails(self):
        """The ends of the logs, for a failure's report."""
        return "\n".join(node.log_tail() for node in self.processes())


class Nodes(NodeGroup):
    """`with Nodes(binary, directory, options) as nodes:` starts A, B and C, or nodes with other names, and ends them.

    `network` is a class such as `network.Network`, if they are to dial each other through proxies; with `status` they
    have a status page each. `environment` has variables for all of them.
    """

    def __init__(self, binary, directory, options=(), network=None, names="ABC", status=False, environment=None):
        super().__init__()
        self.status = status
        self.environment = environment or {}
        self.names = names
        self.binary = binary
        self.directory = directory
        self.options = list(options)
        self.make_network = network

    def _start(self):
        count = len(self.names)
        # The network gets others.
        with kept_ports(2 * count) as ports:
            ports, status_ports = ports[:count], ports[count:]
            if self.make_network:
                self.network = self.make_network(ports).__enter__()
        self.all = [Node(name, port, self.directory) for name, port in zip(self.names, ports)]
        for node in self.all:
            node.environment |= self.environment
        self.options.append("--cluster-nodes=" + ",".join(f"127.0.0.1:{port}" for port in ports))
        if self.status:
            for node, port in zip(self.all, status_ports):
                node.status_port = port
        for node in self.all:
            self.start(node)

    def start(self, node):
        """Starts a node that does not run, and waits until it listens."""
        for _ in range(STARTS_MAX):
            address = [f"--port={node.port}", f"--metrics-port={node.status_port}", f"--dir={node.directory}/data"]
            argv = [self.binary, "serve", *address, *self.options, *node.own]
            node.start(argv, self.network and self.network.route(node.port))
            wait_until(lambda: node.ask("PING") or node.process.poll() is not None, f"{node.name} listens")
            if node.process.poll() is None:
                return
        raise FailoverError(f"{node.name} does not start:\n{self.log_tails()}")

    def add(self, name, known):
        """Starts another node, which finds the cluster at a known address and does not vote."""
        port = free_ports(1)[0]
        node = Node(name, port, self.directory)
        node.own.append(f"--cluster-nodes={known},127.0.0.1:{port}")
        self.all.append(node)
        self.start(node)
        return node

    def repair(self, node, failure):
        """Ends it."""
        if failure == "isolation":
            self.network.heal()
        elif failure == "SIGSTOP":
            node.signal(signal.SIGCONT)
        else:
            self.start(node)

    def leader(self, among=None):
        """Waits until one of these nodes leads, the others follow it and it takes writes; returns it."""
        return wait_until(lambda: self._agreed(among or self.all), "a leader that all follow")

    def _agreed(self, nodes):
        fields = {node.name: node.info("replication") for node in nodes}
        leads = [node for node in nodes if fields[node.name].get("role") == "master"]
        if len(leads) != 1 or leads[0].ask("SET", "is:written", "1") != "OK":
            return None
        port = str(leads[0].port)
        followers = [fields[node.name] for node in nodes if node is not leads[0]]
        follow = all(of.get("master_port") == port and of.get("master_link_status") == "up" for of in followers)
        return leads[0] if follow else None

    def converge(self):
        """Waits until all nodes run, agree on a leader and have the same log; returns the leader."""

        def equal():
            leader = self.leader()
            ends = {node.info("replication").get("slave_repl_offset" if node is not leader else "master_repl_offset")
                    for node in self.all}
            return leader if len(ends) == 1 and None not in ends else None

        return wait_until(equal, "equal logs")

    def set_policy(self, name, value):
        """CONFIG SET of `ack` or `reads` on the leader; waits until it is in force everywhere."""

        def is_set():
            return self.leader().ask("CONFIG", "SET", name, value) == "OK"

        # Again, if the leader steps down meanwhile.
        wait_until(is_set, f"OK to CONFIG SET {name} {value}")
        field = f"kvstore_cluster_{name}"
        wait_until(lambda: all(node.info("cluster").get(field) == value for node in self.all), f"{name} {value}")
