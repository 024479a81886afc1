"""Lab 16: keys that expire, and nodes whose clocks differ by an hour."""

import re
import shutil
import signal
import subprocess
import time

from failover.nodes import wait_until

HOUR_SECONDS = 3600
# A leader looks for expired keys ten times a second.
SWEEPS_SECONDS = 0.5


def run(lab):
    """The lab."""
    lab.say("`SET session abc EX 60` names a span of time: one minute. A log that said so could not be replayed "
            "tomorrow, and a follower could not know when the minute began. So the leader makes it a point in time, by "
            "its own clock. From then on it matters what time other nodes think it is.")
    leader = lab.server("A")
    points_in_time(lab, leader)
    wrong_client(lab, leader)
    fast, slow = skewed(HOUR_SECONDS), skewed(-HOUR_SECONDS)
    if fast and slow:
        followers = [lab.server(name, f"--replicaof={leader.address}", environment=clock)
                     for name, clock in (("B", fast), ("C", slow))]
        for follower in followers:
            follower.wait_for_link()
        wrong_followers(lab, leader, *followers)
        wrong_leader(lab, leader, *followers)
    else:
        lab.part("Followers with other clocks")
        lab.skip("faketime is not installed (apt-get install faketime)")
    lab.ask("B does not delete the key although its clock says that it has expired. What would go wrong if it did?",
            "src/engine/sweeper.rs", "may_delete")
    lab.ask("A lock is a key with a TTL. Its holder sleeps, the TTL passes, another client gets the lock, and the "
            "first one wakes up. Does DELEX with IFEQ protect the data, or only the lock?",
            "src/commands/strings.rs", "delex")


def skewed(seconds):
    """The environment of a process whose wall clock is wrong by so much; None without the program faketime."""
    if not shutil.which("faketime"):
        return None
    # The program itself would stay the parent of the server, so only its variables are used.
    argv = ["faketime", "-m", "--exclude-monotonic", "-f", f"{seconds:+}s", "env"]
    printed = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False).stdout
    names = ("LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC")
    return {name: value for name, _, value in (line.partition("=") for line in printed.splitlines()) if name in names}


def points_in_time(lab, leader):
    """The log holds a point in time."""
    lab.part("What the log holds")
    lab.predict("a point in time (PXAT), not a span (EX). So the minute goes on while the server is down.")
    lab.type(leader, "SET session abc EX 60")
    printed = lab.run("log", leader.data, only="session").stdout
    lab.expect("the log says when it expires", re.search(r'SET "session" "abc" PXAT', printed))
    before = lab.type(leader, "PEXPIRETIME session")
    leader.signal(signal.SIGKILL)
    leader.start()
    lab.expect("after a restart it expires at the same millisecond", lab.type(leader, "PEXPIRETIME session") == before)


def wrong_client(lab, leader):
    """A client computes the point in time itself."""
    lab.part("A client whose clock is an hour slow")
    lab.predict("if the client computes the point in time itself (PXAT), its clock counts: a minute from now is 59 "
                "minutes ago for the server, and the key is gone at once. With EX only the server's clock counts.")
    in_a_minute = round((time.time() - HOUR_SECONDS + 60) * 1000)
    lab.type(leader, f"SET ticket abc PXAT {in_a_minute}")
    lab.expect("the key is gone at once", lab.type(leader, "EXISTS ticket") == "0")
    wait_until(lambda: leader.ask("DBSIZE") == 1, "A removes it")


def wrong_followers(lab, leader, fast, slow):
    """Reads from followers with other clocks."""
    lab.part("B's clock is an hour fast, C's is an hour slow")
    lab.predict("for B the key has expired, for C it has an hour and a minute to live. B hides it and does not delete "
                "it: only the leader deletes.")
    lab.type(leader, "SET session abc EX 60")
    lab.type(leader, "SET name Ada")
    confirmed = lab.type(leader, "WAIT 2 30000")
    lab.expect("both have all writes", confirmed == "2")
    lab.expect("A has the key", lab.type(leader, "GET session") == "abc")
    lab.expect("B does not show it", lab.type(fast, "GET session") == "(nil)")
    # A leader with this clock would delete it by then.
    time.sleep(SWEEPS_SECONDS)
    lab.expect("and still has it: two keys, `session` and `name`", lab.type(fast, "DBSIZE") == "2")
    lab.expect("C shows it", lab.type(slow, "GET session") == "abc")
    lab.expect("and thinks that it has more than an hour to live", int(lab.type(slow, "TTL session")) > HOUR_SECONDS)
    lab.say("The age of a follower's data does not depend on these clocks. A sends B's own clock back to it, so B "
            "compares its clock with itself:")
    lab.type(fast, "CONFIG SET replica-max-staleness 2000")
    answer = lab.type_until(fast, "GET name", "^Ada$")
    lab.expect("B knows that its data is fresh, an hour's difference or not", answer == "Ada")


def wrong_leader(lab, leader, fast, slow):
    """Followers with other clocks become leaders."""
    lab.part("Each of them leads")
    lab.predict("under C, a key that had expired is back. Under B, a key is gone ten minutes early. This is not "
                "promised otherwise: keep the clocks of all nodes together (NTP), and do not rest a lock on a TTL "
                "alone.")
    lab.say("Most often A's deletion reaches the others first. So that it does not, A does not look for expired keys:")
    lab.type(leader, "DEBUG SET-ACTIVE-EXPIRE 0")
    lab.type(leader, "SET short abc PX 500")
    lab.type(leader, "SET long abc EX 600")
    confirmed = lab.type(leader, "WAIT 2 30000")
    lab.expect("both have all writes", confirmed == "2")
    lab.type_until(leader, "GET short", r"^\(nil\)$")
    lab.say("`short` has expired, and a client has seen it. A dies.")
    leader.signal(signal.SIGKILL)
    for follower in (fast, slow):
        lab.type(follower, "REPLICAOF NO ONE")
    lab.expect("under C, `short` is back", lab.type(slow, "GET short") == "abc")
    lab.expect("under B, `long` is gone, ten minutes early", lab.type(fast, "GET long") == "(nil)")
    wait_until(lambda: fast.ask("DBSIZE") == 1, "B deletes what has expired for it")
    lab.expect("B leads now, so it deletes: only `name` is left", lab.type(fast, "DBSIZE") == "1")
