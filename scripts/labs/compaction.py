"""Lab 15: the log is replaced by the state that it describes, while clients write and a follower reads it."""

import signal
import threading
import time
from pathlib import Path

from failover.client import Client
from failover.nodes import wait_until

KEYS = 2000
VALUE_BYTES = 500
VERSIONS = 20
BATCH = 500
# The state has about 1 MB, so a compaction takes about two seconds.
RATE = "500kb"
LOAD_BATCH = 8
PAUSE_SECONDS = 0.004


class Load:
    """Overwrites the keys in turn until it is stopped, or the server is gone. The values are numbers that grow."""

    def __init__(self, server):
        self.server = server
        self.acknowledged = {}
        self.count = 0
        self.longest_seconds = 0.0
        self.refused = []
        self.stopping = False
        self.thread = threading.Thread(target=self._run, name="load", daemon=True)
        self.thread.start()

    def stop(self):
        """Waits for the last answer."""
        self.stopping = True
        self.thread.join()

    def _run(self):
        number = VERSIONS
        try:
            with Client(self.server.port) as client:
                while not self.stopping:
                    first, number = number + 1, number + LOAD_BATCH
                    self._write(client, range(first, number + 1))
                    time.sleep(PAUSE_SECONDS)
        except OSError:
            pass  # the server has been killed

    def _write(self, client, numbers):
        began = time.monotonic()
        answers = client.ask_all([("SET", key(number), value(number)) for number in numbers])
        self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
        self.refused += [answer for answer in answers if answer != "OK"]
        self.acknowledged.update((key(number), number) for number in numbers)
        self.count += len(numbers)


def key(number):
    """The key that this number is written to."""
    return f"key:{number % KEYS}"


def value(number):
    """The value that this number is written as."""
    return str(number).ljust(VALUE_BYTES, ".")


def run(lab):
    """The lab."""
    lab.say("A log of all writes grows for ever, however small the state is. Compaction writes the state into a file, "
            "the base, and removes the log that it replaces. Redis forks a process for that. Here a thread copies a "
            "shard of the table at a time while the others are written to. So the base is no picture of one moment: it "
            "must be read together with the log that was written meanwhile.")
    leader = lab.server("A", "--auto-compact-percentage=0", "--repl-backlog-size=0", f"--compact-rate={RATE}")
    follower = lab.server("B", f"--replicaof={leader.address}")
    follower.wait_for_link()
    grow(lab, leader)
    under_load(lab, leader, follower)
    paused(lab, leader, follower)
    killed(lab, leader)
    lab.ask("The base holds effects that happened after it was begun. Why is it harmless to apply them once more from "
            "the log?", "src/store/effect.rs", "Effect")
    lab.ask("In which order are the base and the log synced, renamed and removed, and what would a power cut do to you "
            "in another order?", "src/aof/compaction.rs", "write_base")


def grow(lab, leader):
    """Writes a log that is much larger than its state."""
    lab.part(f"{KEYS} keys, each written {VERSIONS} times")
    write_all(leader)
    show_files(lab, leader)
    lab.say(f"{VERSIONS - 1} of {VERSIONS} records are about values that no longer exist.")


def write_all(server):
    """Writes all versions of all keys."""
    with Client(server.port) as client:
        for version in range(VERSIONS):
            for at in range(0, KEYS, BATCH):
                client.ask_all([("SET", key(number), value(version)) for number in range(at, at + BATCH)])


def show_files(lab, server):
    """Lists the files of the log."""
    files = sorted(Path(server.data).glob("*.aof*"))
    lab.command(f"ls -s {server.data}/*.aof*")
    lab.show("\n".join(f"{path.stat().st_size / 1e6:6.1f} MB {path.name}" for path in files))


def compactions(server):
    """How many have succeeded."""
    return int(server.info("persistence")["aof_rewrites"])


def under_load(lab, leader, follower):
    """A compaction while a client writes."""
    lab.part("A compaction under load")
    lab.predict("no write is refused, and none waits much longer than before. What is left is the state, and the "
                "writes since the compaction began. The follower, which reads the log while it is replaced, has "
                "the same data and needs no new copy.")
    before = size(leader)
    load = Load(leader)
    wait_until(lambda: load.count > KEYS, "writes")
    usual = load.longest_seconds
    load.longest_seconds = 0.0
    writes = load.count
    lab.type(leader, "BGREWRITEAOF")
    wait_until(lambda: compactions(leader) == 1, "a compaction")
    writes, longest = load.count - writes, load.longest_seconds
    load.stop()
    show_files(lab, leader)
    after = size(leader)
    lab.say(f"The base holds the state, the log after it what was written since the compaction began: {writes} writes.")
    lab.bars([("before", before, f"{before / 1e6:.1f} MB"), ("after", after, f"{after / 1e6:.1f} MB")])
    lab.say(f"The longest wait for {LOAD_BATCH} OKs was {1000 * longest:.0f} ms during the compaction, and "
            f"{1000 * usual:.0f} ms before it.")
    lab.expect(f"{writes} writes during the compaction, {len(load.refused)} of them refused",
               writes > 0 and not load.refused)
    lab.expect("what the base replaces is gone, and the base is less than a fifth of it",
               not Path(leader.data, "log-1.aof").exists() and base(leader).stat().st_size < before / 5)
    equal(lab, leader, follower)
    copies = leader.info("stats").get("sync_full")
    lab.expect(f"full copies since the start: {copies}. B has been given the log only", copies == "0")


def size(server):
    """The size of all files of the log."""
    return sum(path.stat().st_size for path in Path(server.data).glob("*.aof*"))


def base(server):
    """The file with the state."""
    return next(Path(server.data).glob("base-*.aof"))


def values(server):
    """All values, in the order of the keys."""
    with Client(server.port) as client:
        return client.ask_all([("GET", f"key:{number}") for number in range(KEYS)])


def equal(lab, leader, follower):
    """Both nodes must have the same data, once the follower has all of it."""
    lab.type(leader, "SET last write")
    confirmed = lab.type(leader, "WAIT 1 30000")
    here, there = values(leader), values(follower)
    lab.expect(f"A and B have the same {KEYS} values", confirmed == "1" and here == there and None not in here)


def paused(lab, leader, follower):
    """A compaction while the follower stands still in the middle of the log."""
    lab.part("A follower that is behind")
    lab.predict("A keeps the part of the log that B has not read yet (up to repl-retention-bytes), although the base "
                "replaces it. When B goes on, it needs no full copy.")
    follower.signal(signal.SIGSTOP)
    write_all(leader)
    lab.say(f"B stands still, and A gets {KEYS * VERSIONS} more writes. The network takes some of them, not all.")
    lab.type(leader, "BGREWRITEAOF")
    wait_until(lambda: compactions(leader) == 2, "a compaction")
    show_files(lab, leader)
    segments = sorted(int(path.stem.split("-")[1]) for path in Path(leader.data).glob("log-*.aof"))
    replaced = int(base(leader).stem.split("-")[1])
    lab.expect(f"the base replaces the log up to record {replaced}; A still has it from record {segments[0]} on",
               segments[0] <= replaced)
    follower.signal(signal.SIGCONT)
    equal(lab, leader, follower)
    copies = leader.info("stats").get("sync_full")
    lab.expect(f"full copies since the start: {copies}", copies == "0")


def killed(lab, leader):
    """A crash in the middle of a compaction."""
    lab.part("kill -9 in the middle of a compaction, under load")
    lab.predict("nothing is lost: the unfinished base is removed at the next start, and the log that it was to replace "
                "is still there.")
    load = Load(leader)
    wait_until(lambda: load.count > KEYS, "writes")
    lab.type(leader, "BGREWRITEAOF")
    wait_until(lambda: any(Path(leader.data).glob("base-*.tmp")), "a base that is being written")
    count = load.count
    wait_until(lambda: load.count > count, "writes during the compaction")
    leader.signal(signal.SIGKILL)
    load.stop()
    show_files(lab, leader)
    lab.expect("the base is unfinished", any(Path(leader.data).glob("base-*.tmp")))
    leader.start()
    lab.show(leader.said(), only="keys from")
    found = dict(zip((f"key:{number}" for number in range(KEYS)), values(leader)))
    # A write without its OK may be there, too: then the value is a later one.
    lost = [name for name, number in load.acknowledged.items() if int((found[name] or "0").rstrip(".")) < number]
    lab.expect(f"of {load.count} acknowledged writes to {len(load.acknowledged)} keys, {len(lost)} are lost", not lost)
    lab.expect("the unfinished base is gone", not any(Path(leader.data).glob("base-*.tmp")))
