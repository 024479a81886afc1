"""Subscribers that only read, run as a separate process.

Usage: python3 listeners.py PORT CHANNEL LISTENERS STALLED BYTES_EACH SECONDS_MAX
LISTENERS read until each has received BYTES_EACH; STALLED ones subscribe and never read. Prints `ready`
when all have been confirmed, and the Unix time at which the last byte was there. `pubsub.py` is the other
end.

A read takes all that has arrived, up to a quarter of a megabyte, so that the reader is not what limits
the server: the slower it is, the more each read takes. The messages are counted in bytes, for all of them
are of one length; that they are right is for the tests to show.
"""

import select
import signal
import socket
import sys
import time

READ_BYTES = 1 << 18
CONFIRM_SECONDS_MAX = 60


def subscribe(port, channel):
    """A socket that is subscribed to the channel."""
    link = socket.create_connection(("127.0.0.1", port), timeout=CONFIRM_SECONDS_MAX)
    name = channel.encode()
    link.sendall(b"*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%s\r\n" % (len(name), name))
    expected = b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n" % (len(name), name)
    answer = b""
    while len(answer) < len(expected):
        got = link.recv(len(expected) - len(answer))
        if not got:
            break
        answer += got
    if answer != expected:
        sys.exit(f"SUBSCRIBE was answered {answer!r}")
    return link


def read_all(links, bytes_each, give_up):
    """Returns when all have received it. Ends the process if one is cut off or it takes too long."""
    poll = select.epoll()
    left = {}
    for link in links:
        link.setblocking(False)
        poll.register(link, select.EPOLLIN)
        left[link.fileno()] = [link, bytes_each]
    scrap = bytearray(READ_BYTES)
    while left:
        if time.time() > give_up:
            sys.exit(f"{len(left)} subscribers have not received everything in time")
        for number, _ in poll.poll(0.5):
            entry = left[number]
            got = entry[0].recv_into(scrap)
            if not got:
                sys.exit("a subscriber that reads was cut off")
            entry[1] -= got
            if entry[1] <= 0:
                poll.unregister(number)
                del left[number]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this
    to_port, to_channel, count, stalled_count, each, seconds = sys.argv[1:]
    stalled = [subscribe(int(to_port), to_channel) for _ in range(int(stalled_count))]
    readers = [subscribe(int(to_port), to_channel) for _ in range(int(count))]
    print("ready", flush=True)
    read_all(readers, int(each), time.time() + float(seconds))
    print(time.time(), flush=True)
