"""Lab 1: a server is killed under load, once under each fsync policy. Every write that got its OK is looked for."""

import signal
import time

from failover.client import Client
from failover.losses import missing_writes, named
from failover.nodes import wait_until
from failover.writers import Writer

POLICIES = ("always", "everysec", "no")
CLIENTS = 3
WRITES_MIN = 1500
# After an OK, the number of durable records is read. Under `always` it must have that write by then.
LOOKS = 20


def run(lab):
    """The lab."""
    lab.say("""An OK to a SET can mean three things, depending on how far the write has come by then:
    client ──▶ memory of the server ──▶ page cache of the kernel ──▶ disk
               (appendonly no)          (everysec, no)               (always)
A process that dies takes the first with it. The kernel outlives it, and writes its page cache to the disk later. Only \
a power cut, or a kernel that crashes, takes the second, too.""")
    results = [killed(lab, name, policy) for name, policy in zip("ABC", POLICIES)]
    lab.part("appendonly no: a pure cache, which writes no log")
    lab.predict("the OK was given for a change in memory only. The server starts with no key at all: every one of the "
                "acknowledged writes is lost, as it should be with this setting.")
    acknowledged, lost, keys = killed_under_load(lab, "D", "--appendonly=no")
    lab.expect(f"of {acknowledged} acknowledged writes, all {len(lost)} are lost; the server has {keys} keys",
               len(lost) == acknowledged > 0 and keys == 0)
    lab.part("Side by side")
    lab.say("Writes that got their OK, and how many of them kill -9 has cost:")
    for setting, (count, gone) in zip((*POLICIES, "appendonly no"), (*results, (acknowledged, len(lost)))):
        lab.say(f"  {setting:<14} {count:>6} acknowledged {gone:>6} lost")
    lab.ask("A colleague says: kill -9 lost nothing, so appendfsync no is as safe as always. What did the test not test?",
            "src/engine/gate.rs", "pass_gate")
    lab.ask("Which number tells how much a power cut would cost at this moment, and why is it never 0 under load?",
            "src/observe/figures.rs", "kvstore_durable_seq")


def killed(lab, name, policy):
    """A server with this policy is killed. Returns how many writes it had acknowledged, and how many are lost."""
    lab.part(f"appendfsync {policy}")
    if policy == "always":
        lab.predict("no acknowledged write is lost, by kill -9 or by a power cut: each OK waited for the disk.")
    else:
        lab.predict("no acknowledged write is lost by kill -9. A power cut would cost those that the kernel has and "
                    "the disk has not.")
    acknowledged, lost, _ = killed_under_load(lab, name, f"--appendfsync={policy}")
    lab.expect(f"of {acknowledged} acknowledged writes, {len(lost)} are lost{': ' * bool(lost)}{named(lost)}",
               acknowledged > 0 and not lost)
    return acknowledged, len(lost)


def killed_under_load(lab, name, option):
    """Kills a server while clients write, and starts it again.

    Returns how many writes were acknowledged, which of these are lost, and the number of keys after the restart.
    """
    server = lab.server(name, option)
    writers = [Writer(server, f"client{number}") for number in range(1, CLIENTS + 1)]
    for writer in writers:
        writer.start()
    lab.say(f"{CLIENTS} clients write.")
    wait_until(lambda: sum(len(writer.acknowledged) for writer in writers) >= WRITES_MIN, f"{WRITES_MIN} writes")
    if option == "--appendfsync=always":
        on_the_disk(lab, server)
    if option != "--appendonly=no":
        tell_marks(lab, server)
    server.signal(signal.SIGKILL)
    for writer in writers:
        writer.stop()
    server.start()
    keys = server.ask("DBSIZE")
    acknowledged, lost = missing_writes(server, writers)
    server.stop()
    return acknowledged, lost, keys


def on_the_disk(lab, server):
    """Writes, and looks after each OK whether the disk has this write: its record's number is in its token."""
    early = 0
    with Client(server.port) as client:
        for number in range(LOOKS):
            client.ask("SET", "looked-at", number)
            seq = int(client.ask("LASTSEQ").split(":")[1])
            early += int(client.info("persistence")["kvstore_durable_seq"]) < seq
            time.sleep(0.01)
    lab.expect(f"{LOOKS} times, a client asked right after its OK: its write was on the disk, {LOOKS - early} times",
               early == 0)


def tell_marks(lab, server):
    """How much of the log is written and how much is on the disk."""
    fields = server.info("persistence")
    written, durable = int(fields["kvstore_written_seq"]), int(fields["kvstore_durable_seq"])
    lab.say(f"INFO says, just before the end: the kernel has {written} records (kvstore_written_seq), the disk has "
            f"{durable} of them (kvstore_durable_seq).")
    if server.options == ["--appendfsync=always"]:
        lab.say(f"The other {written - durable} have no OK yet.")
    else:
        lab.say(f"A power cut now would cost the other {written - durable}.")
