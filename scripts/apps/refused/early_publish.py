#!/usr/bin/env python3
"""A message that is published before a SUBSCRIBE is confirmed may be missed. One published after it never is."""

import socket
import sys

ROUNDS = 500


class Connection:
    """Plain lines, sent without waiting for an answer."""

    def __init__(self):
        self.socket = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
        self.answers = self.socket.makefile("rb")

    def send(self, *words):
        """Sends a command."""
        bulk = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        self.socket.sendall(f"*{len(words)}\r\n{bulk}".encode())

    def read_until(self, start):
        """The first line that starts so."""
        while not (line := self.answers.readline()).startswith(start):
            assert line, "the connection is closed"
        return line


def heard(channel, wait_for_confirmation):
    """True if the subscriber counts for a message that another connection publishes after its SUBSCRIBE."""
    subscriber.send("SUBSCRIBE", channel)
    if wait_for_confirmation:
        # The confirmation ends with the number of subscriptions.
        subscriber.read_until(b":")
    publisher.send("PUBLISH", channel, "x")
    was_heard = publisher.read_until(b":") == b":1\r\n"
    if not wait_for_confirmation:
        subscriber.read_until(b":")
    return was_heard


publisher, subscriber = Connection(), Connection()
missed = sum(not heard(f"after:{number}", True) for number in range(ROUNDS))
assert missed == 0, f"{missed} messages were missed after the confirmation"
early = sum(not heard(f"early:{number}", False) for number in range(ROUNDS))
print(f"PUBLISH before another connection's SUBSCRIBE is confirmed: no error, {early} of {ROUNDS} missed; "
      "use instead: PUBLISH after the confirmation")
