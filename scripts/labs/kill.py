"""Lab 1: a server is killed under load, once under each fsync policy. Every write that got its OK is looked for, in
its directory and in a copy without what a power cut at that moment would have taken."""

import shutil
import signal

from failover.client import Client
from failover.losses import missing_writes, named
from failover.nodes import wait_until
from failover.power import cut_power
from failover.writers import Writer

POLICIES = ("always", "everysec", "no")
CLIENTS = 3
WRITES_MIN = 1500
UNSYNCED_MIN = 100
# After an OK, the number of the last durable record is read. Under `always` it must have that write by then.
LOOKS = 20


def run(lab):
    """The lab."""
    lab.say("""An OK to a SET can mean three things. It depends on how far the write has come by then:
    client ──▶ memory of the server ──▶ page cache of the kernel ──▶ disk
               appendonly no            everysec, no                 always
kill -9 takes what is in the memory of the server. A power cut takes the page cache, too: the kernel outlives a \
process that dies, and writes its page cache to the disk later, but it does not outlive its machine.""")
    rows = [crash(lab, name, policy) for name, policy in zip("ABC", POLICIES)]
    rows.append(cache(lab))
    lab.part("Side by side")
    lab.say("setting                 writes with an OK    lost by kill -9    lost by a power cut")
    for setting, count, killed, power in rows:
        lab.say(f"{setting:<22} {count:>18} {killed:>18} {power:>22}")
    lab.ask("A colleague has killed the server a hundred times and lost nothing, and concludes that appendfsync no is "
            "as safe as always. What has this test not tested?", "src/engine/gate.rs", "safe_under")
    lab.ask("Under everysec, reads go through the same gate as the OK of a write. What could a client see otherwise?",
            "src/engine/gate.rs", "pass_gate")


def crash(lab, name, policy):
    """A server with this policy is killed. Returns a row of the table at the end."""
    lab.part(f"appendfsync {policy}")
    lab.predict({
        "always": "kill -9 loses no acknowledged write, and a power cut neither: each OK waited for the disk.",
        "everysec": "kill -9 loses no acknowledged write. A power cut loses the newest, those since the last sync.",
        "no": "kill -9 loses no acknowledged write. A power cut loses all that the kernel has not written by itself "
              "yet; in the first seconds, all.",
    }[policy])
    server, writers = under_load(lab, name, f"--appendfsync={policy}")
    wait_until(lambda: has_written(server, policy), "records that are synced, and records that are not")
    if policy == "always":
        on_the_disk(lab, server)
    tell_marks(lab, server, policy)
    kill(server, writers)
    copy = lab.server(f"{name}-power-cut", *server.options, start=False)
    shutil.copytree(server.data, copy.data)
    count, lost = count_lost(server, writers)
    lab.expect(f"kill -9: of {count} acknowledged writes, {len(lost)} are lost{': ' * bool(lost)}{named(lost)}",
               count > 0 and not lost)
    lab.say(f"Now the same moment with a power cut: a copy of the directory, in which all records are cut off that the "
            f"disk was not known to have. That takes {cut_power(copy.data)} records.")
    _, gone = count_lost(copy, writers)
    text = f"power cut: of {count} acknowledged writes, {len(gone)} are lost{': ' * bool(gone)}{named(gone)}"
    if policy == "always":
        lab.expect(text, not gone)
    else:
        # Under `everysec` a sync may have ended just before the kill.
        lab.expect(text, are_last(gone, writers) and (gone or policy == "everysec"))
        lab.say("They are the last ones of each client: what is left is the past as it was, without a hole.")
    return f"appendfsync {policy}", count, len(lost), len(gone)


def cache(lab):
    """A server without a log is killed. Returns a row of the table at the end."""
    lab.part("appendonly no: a pure cache, which writes no log")
    lab.predict("kill -9 loses everything, as it should: with this setting an OK speaks of memory only.")
    server, writers = under_load(lab, "D", "--appendonly=no")
    kill(server, writers)
    count, lost = count_lost(server, writers)
    lab.expect(f"of {count} acknowledged writes, {len(lost)} are lost", len(lost) == count > 0)
    return "appendonly no", count, len(lost), len(lost)


def under_load(lab, name, option):
    """Starts a server and clients that write to it."""
    server = lab.server(name, option)
    writers = [Writer(server, f"client{number}") for number in range(1, CLIENTS + 1)]
    for writer in writers:
        writer.start()
    lab.say(f"{CLIENTS} clients write: client1-1, client1-2, …, each on its own connection.")
    wait_until(lambda: sum(len(writer.acknowledged) for writer in writers) >= WRITES_MIN, f"{WRITES_MIN} writes")
    return server, writers


def has_written(server, policy):
    """True at a moment at which a power cut would show what the policy means."""
    written, durable = marks(server)
    return policy == "always" or written - durable >= UNSYNCED_MIN and (policy == "no" or durable > 1)


def kill(server, writers):
    """Kills a server under load."""
    server.signal(signal.SIGKILL)
    for writer in writers:
        writer.stop()


def count_lost(server, writers):
    """Starts a server again. Returns how many writes were acknowledged, and the keys of those that are lost."""
    server.start()
    count, lost = missing_writes(server, writers)
    server.stop()
    return count, lost


def are_last(lost, writers):
    """True if no client has lost a write and kept a later one."""
    for writer in writers:
        kept = [key not in lost for _, key, _ in writer.acknowledged]
        if kept != sorted(kept, reverse=True):
            return False
    return True


def on_the_disk(lab, server):
    """Writes, and looks after each OK whether the disk has this write. Its token has its record's number."""
    late = 0
    with Client(server.port) as client:
        for number in range(LOOKS):
            client.ask("SET", "looked-at", number)
            seq = int(client.ask("LASTSEQ").split(":")[-1])
            late += int(client.info("persistence")["kvstore_durable_seq"]) >= seq
    lab.expect(f"{late} of {LOOKS} times the disk had a write when its client had the OK", late == LOOKS)


def marks(server):
    """The last record that the kernel has, and the last that the disk has."""
    fields = server.info("persistence")
    return int(fields["kvstore_written_seq"]), int(fields["kvstore_durable_seq"])


def tell_marks(lab, server, policy):
    """How much of the log is written and how much is on the disk."""
    written, durable = marks(server)
    lab.say(f"INFO says, just before the end: the kernel has {written} records (kvstore_written_seq), the disk has "
            f"{durable} of them (kvstore_durable_seq).")
    if policy == "always" and written > durable:
        lab.say(f"The other {written - durable} have no OK yet: it waits for the disk.")
