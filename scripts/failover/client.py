"""A RESP connection to one node, for single commands and for pipelines."""

import socket

from failover import FailoverError

# Far longer than any answer takes: a wait this long means that the node stands still.
ANSWER_SECONDS_MAX = 10.0


class Refusal(str):
    """An error reply, without its minus sign."""


class Client:
    """`with Client(port) as client:` connects, and closes. With a password it gives it first."""

    def __init__(self, port, seconds_max=ANSWER_SECONDS_MAX, password=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds_max)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.socket.makefile("rb")
        if password:
            self.ask("AUTH", password)

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.close()

    def close(self):
        """Closes it; a second time does nothing."""
        self.reader.close()
        self.socket.close()

    def ask(self, *words):
        """Runs one command. Returns a string, a number, a list, None, or a Refusal."""
        return self.ask_all([words])[0]

    def ask_all(self, commands):
        """Sends all commands in one packet; returns their replies."""
        self.send(commands)
        return [self.read() for _ in commands]

    def send(self, commands):
        """Sends all commands in one packet. The caller reads the replies."""
        parts = []
        for words in commands:
            parts.append(f"*{len(words)}\r\n")
            parts += (f"${len(str(word).encode())}\r\n{word}\r\n" for word in words)
        self.socket.sendall("".join(parts).encode())

    def read(self):
        """The next reply."""
        line = self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the node has closed the connection")
        kind, text = line[:1], line[1:-2].decode()
        if kind == b"+":
            return text
        if kind == b"-":
            return Refusal(text)
        if kind == b":":
            return int(text)
        if kind == b"$":
            return None if text == "-1" else self.reader.read(int(text) + 2)[:-2].decode()
        if kind == b"*":
            return [self.read() for _ in range(int(text))]
        raise FailoverError(f"this is no RESP2: {line!r}")

    def info(self, section):
        """The fields of a section of INFO."""
        lines = self.ask("INFO", section).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)
