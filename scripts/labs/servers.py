"""One server of a lab, which can be started again and again, and a connection on which a lab types lines."""

import os
import socket

from failover import FailoverError
from failover.client import ANSWER_SECONDS_MAX
from failover.nodes import STARTS_MAX, Node, free_ports, wait_until

# `ECHO` of this line marks the end of an answer.
END = "end-of-this-answer"


class Conversation:
    """One connection, as telnet opens it. It stays open: LASTSEQ and WAIT are about the writes of one connection."""

    def __init__(self, node):
        self.process = node.process
        self.socket = socket.create_connection(("127.0.0.1", node.port), timeout=ANSWER_SECONDS_MAX)
        self.reader = self.socket.makefile("r", encoding="utf-8", errors="replace", newline="\n")

    def type(self, line):
        """The answer to one line, as a terminal would show it."""
        self.socket.sendall(f"{line}\r\nECHO {END}\r\n".encode())
        lines = []
        while (answer := self.reader.readline()).rstrip("\r\n") != END:
            if not answer:
                raise ConnectionError("the node has closed the connection")
            lines.append(answer.rstrip("\r\n"))
        return "\n".join(lines)

    def close(self):
        """Closes it."""
        self.reader.close()
        self.socket.close()


class Server(Node):
    """A server with a port and a directory of its own. `lab.server` makes and starts one."""

    def __init__(self, lab, name, options, environment, directory):
        super().__init__(name, free_ports(1)[0], directory or lab.directory)
        self.lab = lab
        self.options = list(options)
        self.environment = environment or {}
        self.started_at = 0

    @property
    def address(self):
        """Its host and port, as REPLICAOF and `cluster-nodes` take them."""
        return f"127.0.0.1:{self.port}"

    @property
    def data(self):
        """Its data directory."""
        return os.path.join(self.directory, "data")

    def start(self, *options):
        """Starts it, with these options instead of its own if there are any, and waits until it serves."""
        for _ in range(STARTS_MAX):
            if self.try_start(*options):
                return
        raise FailoverError(f"{self.name} does not start")

    def try_start(self, *options):
        """As `start`, but returns False if the server ends instead."""
        # It runs still if it should have refused to start and has not.
        self.end()
        self.options = list(options) or self.options
        self.started_at = os.path.getsize(self.log()) if os.path.exists(self.log()) else 0
        argv = [f"--port={self.port}", "--metrics-port=0", f"--dir={self.data}", *self.options]
        super().start([self.lab.binary, "serve", *argv])
        self.lab.command(" ".join(["kvstore serve", f"--port={self.port}", f"--dir={self.data}", *self.options]))
        self.lab.say(f"  {self.name} is process {self.process.pid}")
        wait_until(lambda: self.ask("PING") == "PONG" or self.process.poll() is not None, f"{self.name} serves")
        return self.process.poll() is None

    def wait_for_link(self):
        """Waits until it, a follower, is connected to its leader."""
        wait_until(lambda: self.info("replication").get("master_link_status") == "up", f"{self.name} is connected")

    def said(self):
        """What it has logged since it was started last."""
        with open(self.log(), encoding="utf-8", errors="replace") as log:
            log.seek(self.started_at)
            return log.read()

    def signal(self, number):
        """As `Node.signal`, and shows it."""
        self.lab.command(f"kill -{number.name[3:]} {self.process.pid}    # {self.name}")
        super().signal(number)

    def stop(self):
        """Ends it as SIGTERM does, and waits until it has ended."""
        self.process.terminate()
        wait_until(lambda: self.process.poll() is not None, f"{self.name} ends")
