"""Lab 2: a write that the disk has only in part, after a crash and on a full disk."""

import os
import shutil
import signal
import subprocess

from failover.client import Client, Refusal
from failover.nodes import wait_until
from labs.files import newest_segment, quarantined

CUT_BYTES = 5
DISK_MEGABYTES = 2
FREE_BYTES = 100_000
VALUE_BYTES = 4096
WRITES_MAX = 1000


def run(lab):
    """The lab."""
    lab.say("A disk writes blocks, not records. So a power cut can leave the first part of a record. Three questions "
            "follow. Is what is left taken for data? Is it a crash, or has the disk lost something that it had? And "
            "what does a client hear whose write does not fit?")
    torn(lab)
    every_byte(lab)
    proved(lab)
    full(lab)
    lab.ask("Why must recovery tell a torn tail from damage in the middle of the log? It could cut off the log at the "
            "first bad record in both cases.", "src/aof/recovery.rs", "read_from")
    lab.ask("The file that says how far the log was synced is never synced itself. Why is that enough?",
            "src/aof/mark.rs", "note")


def torn(lab):
    """A record that was never synced is cut off: a crash explains that."""
    lab.part("A torn tail")
    lab.predict("the server starts. It has the records before the torn one, and keeps the torn bytes in quarantine/.")
    server = lab.server("A", "--appendfsync=no")
    for key, value in (("first", "kept"), ("second", "kept"), ("third", "torn")):
        lab.type(server, f"SET {key} {value}")
    server.signal(signal.SIGKILL)
    cut(lab, server)
    lab.say("The end of the log now. A record is a header `#number epoch time length checksum` and a payload, which is "
            "a RESP command. The last payload should have 27 bytes and has 22:")
    lab.show("\n".join(newest_segment(server).read_text().splitlines()[-8:]))
    lab.expect("kvstore check finds no damage: a server would start", lab.check(server))
    lab.say("Three records are whole. The first one changes no data: it says that an epoch begins, as it does at each "
            "start.")
    server.start()
    lab.show(server.said(), only="quarantine")
    lab.expect("the records before it are there",
               lab.type(server, "MGET first second") == "1) kept\n2) kept")
    lab.expect("the torn one is not there", lab.type(server, "EXISTS third") == "0")
    lab.expect("its bytes are in quarantine/: nothing is thrown away", b"third" in quarantined(server))
    lab.expect("new writes go on after the last whole record", lab.type(server, "SET fourth new") == "OK")
    server.stop()


def cut(lab, server):
    """Cuts bytes off the log's end."""
    segment = newest_segment(server)
    lab.command(f"truncate --size=-{CUT_BYTES} {segment}")
    os.truncate(segment, segment.stat().st_size - CUT_BYTES)


def every_byte(lab):
    """The log is cut after each byte of its last record."""
    lab.part("A torn tail, at each byte")
    lab.predict("wherever the cut is, the record is there whole or not at all.")
    server = lab.server("B", "--appendfsync=no")
    lab.type(server, "MSET debit -100 credit +100")
    server.signal(signal.SIGKILL)
    segment = newest_segment(server)
    whole = segment.read_bytes()
    start = whole.rindex(b"#")
    kept = []
    for size in range(start, len(whole) + 1):
        segment.write_bytes(whole[:size])
        done = subprocess.run([lab.binary, "log", server.data], capture_output=True, text=True, check=True, timeout=30)
        kept.append(("debit" in done.stdout, "credit" in done.stdout))
    lab.say(f"The record of MSET has {len(whole) - start} bytes. `kvstore log` has read the log with 0, 1, 2, … of "
            f"them.")
    lab.expect(f"{kept.count((False, False))} times neither key, {kept.count((True, True))} times both, "
               f"{len(kept) - kept.count((False, False)) - kept.count((True, True))} times one without the other",
               kept == [(False, False)] * (len(whole) - start) + [(True, True)])


def proved(lab):
    """The same cut, of a record that had been synced: a crash does not explain that."""
    lab.part("The same cut, of a record that was on the disk")
    lab.predict("the server does not start. Under appendfsync always it had synced the record before it said OK, and "
                "the file `synced` says so. A crash cannot take such a record; a broken disk, or a hand, can.")
    server = lab.server("C", "--appendfsync=always")
    lab.type(server, "SET first kept")
    lab.type(server, "SET second torn")
    server.signal(signal.SIGKILL)
    cut(lab, server)
    refused = not server.try_start()
    lab.show(server.said(), only="kvstore:")
    lab.expect("the server refuses to start, and says where, why, and what can be done",
               refused and "proves that records up to 3 were on the disk" in server.said())


def full(lab):
    """A disk fills up."""
    lab.part("A full disk")
    disk = os.path.join(lab.directory, "disk")
    os.mkdir(disk)
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "tmpfs", disk], capture_output=True,
            check=False).returncode != 0:
        lab.skip("it mounts a small disk, which only root may do")
        return
    lab.resources.callback(subprocess.run, ["umount", "--lazy", disk], check=False)
    lab.predict("a write that cannot be logged is refused, not acknowledged and lost. Reads go on. When there is space "
                "again, writes go on without a restart.")
    server = lab.server("D", "--appendfsync=everysec", directory=disk)
    lab.type(server, "SET kept safe")
    filler = os.path.join(disk, "filler")
    size = shutil.disk_usage(disk).free - FREE_BYTES
    lab.command(f"head -c {size} /dev/zero > {filler}    # the disk has {DISK_MEGABYTES} MB; 100 kB are left")
    with open(filler, "wb") as file:
        file.write(bytes(size))
    count, refusal = fill(server)
    lab.say(f"After {count} OKs to SETs of {VALUE_BYTES} bytes each, the answer is:")
    lab.show(refusal)
    lab.expect("writes are refused with MISCONF", refusal.startswith("MISCONF"))
    lab.expect("reads go on", lab.type(server, "GET kept") == "safe")
    lab.command(f"rm {filler}")
    os.remove(filler)
    wait_until(lambda: server.ask("SET", "afterwards", "fine") == "OK", "writes go on")
    lab.expect("writes go on without a restart", lab.type(server, "GET afterwards") == "fine")
    server.signal(signal.SIGKILL)
    server.start()
    with Client(server.port) as client:
        lengths = client.ask_all([("STRLEN", f"big:{number}") for number in range(1, count + 1)])
    lab.expect(f"after kill -9, all {count} acknowledged writes are there, whole",
               count > 0 and lengths == [VALUE_BYTES] * count)
    lab.expect("and so are the ones before and after", lab.type(server, "MGET kept afterwards") == "1) safe\n2) fine")
    server.end()


def fill(server):
    """Writes until a write is refused. Returns how many were acknowledged, and the refusal."""
    with Client(server.port) as client:
        for count in range(WRITES_MAX):
            answer = client.ask("SET", f"big:{count + 1}", "x" * VALUE_BYTES)
            if isinstance(answer, Refusal):
                return count, answer
    return WRITES_MAX, ""
