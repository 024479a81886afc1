"""Lab 3: a bit flips on the disk, in the log of kvstore and in the log of Redis."""

import shutil
from pathlib import Path

from failover.nodes import Node, free_ports, wait_until
from labs.files import fingerprint, flip_bit, newest_segment, quarantined

# `1` is 0x31 and `9` is 0x39: they differ in one bit.
BIT = 3


def run(lab):
    """The lab."""
    lab.say("Disks, cables and memory flip bits now and then, and not every one of them is noticed on the way. In "
            "ASCII `1` is 0011 0001 and `9` is 0011 1001. One bit is enough to make a balance of 1000 a balance of "
            "9000.")
    server = refused(lab)
    repaired(lab, server)
    redis(lab)
    lab.ask("The checksum of a record also covers the checksum of the record before it. Which damage would a checksum "
            "of each record alone not show?", "src/aof/record.rs", "seal")
    lab.ask("Why does the server refuse to start, and not go on with all the records that are whole?",
            "src/aof/errors.rs", "RecoveryError")


def refused(lab):
    """A bit of a record flips; intact records come after it. Returns the server, which does not run."""
    lab.part("A flipped bit in the middle of the log")
    lab.predict("the server does not start and changes nothing. Whole records follow the bad one, so no crash explains "
                "it, and it is unknown what else is wrong.")
    server = lab.server("A")
    for line in ("SET before kept", "SET balance 1000", "SET after intact"):
        lab.type(server, line)
    server.stop()
    segment = newest_segment(server)
    lab.say(f"It has ended in order. Now bit {BIT} of the first digit of 1000 flips in {segment}.")
    flip_bit(segment, b"1000", BIT)
    lab.command(f"grep -a 000 {segment}")
    lab.show(segment.read_text(), only="000$")
    before = fingerprint(server)
    refuses = not server.try_start()
    lab.show(server.said(), only="kvstore:")
    lab.expect("the server refuses to start, and says where, why, and what can be done",
               refuses and "checksum" in server.said())
    lab.expect("it has changed no byte of the data", fingerprint(server) == before)
    return server


def repaired(lab, server):
    """The records before the damage are kept."""
    lab.part("The way out, without a backup")
    lab.predict("--repair keeps the records before the damage. The damaged one and all after it go to quarantine/: "
                "they may have depended on it.")
    lab.expect("the repair succeeds", lab.check(server, "--repair"))
    server.start()
    lab.expect("the record before the damage is there", lab.type(server, "GET before") == "kept")
    lab.expect("the others are not", lab.type(server, "EXISTS balance after") == "0")
    lab.expect("they are in quarantine/, where one can read them",
               b"9000" in quarantined(server) and b"intact" in quarantined(server))
    server.stop()


def redis(lab):
    """The same with a stock Redis."""
    lab.part("The same bit, in Redis")
    if not shutil.which("redis-server"):
        lab.skip("redis-server is not installed (apt-get install redis-server)")
        return
    lab.predict("Redis starts, logs no error, and answers 9000. Its append-only file has no checksums. (Its snapshots "
                "have one: a flipped bit in an RDB file is noticed.)")
    node = Node("redis", free_ports(1)[0], lab.directory)
    lab.servers.append(node)
    lab.resources.callback(node.end)
    start_redis(lab, node)
    for words in (("SET", "before", "kept"), ("SET", "balance", "1000"), ("SET", "after", "intact")):
        node.ask(*words)
    node.process.terminate()
    wait_until(lambda: node.process.poll() is not None, "redis-server ends")
    file = next(Path(node.directory, "appendonlydir").glob("*.incr.aof"))
    lab.say(f"After the same three SETs it has ended in order. Now the same bit flips in {file}.")
    flip_bit(file, b"1000", BIT)
    start_redis(lab, node)
    lab.show(Path(node.log()).read_text(encoding="utf-8"), only="(?i)loaded|error|corrupt|bad")
    answer = node.ask("GET", "balance")
    lab.command("redis-cli GET balance")
    lab.show(f'"{answer}"')
    lab.expect("Redis gives 9000 to its clients", answer == "9000")


def start_redis(lab, node):
    """Starts redis-server with an append-only file, and waits until it serves."""
    options = ["--port", str(node.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]
    lab.command(f"redis-server --port {node.port} --appendonly yes")
    node.start(["redis-server", *options])
    wait_until(lambda: node.ask("PING") == "PONG", "redis-server serves")
