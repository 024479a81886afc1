"""What labs do to the files of a server that does not run."""

import hashlib
from pathlib import Path


def newest_segment(server):
    """The file of the log that is written last."""
    return max(Path(server.data).glob("log-*.aof"), key=lambda path: int(path.stem.split("-")[1]))


def quarantined(server):
    """All bytes that the server has put into quarantine."""
    return b"".join(path.read_bytes() for path in sorted(Path(server.data, "quarantine").glob("*.aof")))


def fingerprint(server):
    """Equal fingerprints mean the same files with the same bytes. LOCK is left out: it names the last process."""
    files = sorted(path for path in Path(server.data).rglob("*") if path.is_file() and path.name != "LOCK")
    return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]


def flip_bit(path, text, bit):
    """Flips this bit of the first byte of the text. The text must be in the file, once."""
    content = bytearray(path.read_bytes())
    if content.count(text) != 1:
        raise OSError(f"{path} has {text!r} {content.count(text)} times")
    content[content.index(text)] ^= 1 << bit
    path.write_bytes(content)
