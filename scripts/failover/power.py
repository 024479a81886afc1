"""A power cut, imitated: what the disk was not known to have is cut off the log of a server that does not run."""

import os
import re

HEADER = re.compile(rb"#(\d+) \d+ \d+ (\d+) [0-9a-f]+\r\n")


def cut_power(data):
    """Cuts the log after the record that the file `synced` names. Returns how many records that takes.

    A server writes that file after each sync. Records have the form `#seq epoch time length crc`, then that many bytes
    and an end of line.
    """
    with open(os.path.join(data, "synced"), encoding="ascii") as file:
        synced = int(file.read().split()[0])
    return sum(_cut(os.path.join(data, name), synced) for name in os.listdir(data) if re.match(r"log-\d+\.aof$", name))


def _cut(path, synced):
    with open(path, "rb") as file:
        log = file.read()
    at, end, taken = 0, 0, 0
    while header := HEADER.match(log, at):
        at = header.end() + int(header[2])
        if int(header[1]) <= synced:
            end = at
        else:
            taken += 1
    os.truncate(path, end)
    return taken
