"""Lab 8: under `ack leader` the leader is killed under load. The writes that the next leader does not have are named,
and found again in what the old leader sets aside when it comes back."""

import signal
import time
from pathlib import Path

from failover.losses import missing_writes, named, saved_keys
from failover.nodes import wait_until
from failover.writers import Writer
from labs.elected import TIMEOUT_MS, others, remember
from labs.paths import Paths

WRITES_MIN = 400
STALLED_SECONDS = 0.05
GOES_ON_SECONDS = 0.3


def run(lab):
    """The lab."""
    lab.say("Under `ack leader`, which is the default, an OK says: the leader has this write in its log. The followers "
            "get it a moment later. If the leader dies in that moment, the write is on no other node.")
    nodes = lab.nodes(f"--election-timeout={TIMEOUT_MS}", network=Paths)
    leader = remember(nodes)
    lab.part("kill -9 of the leader under load")
    lab.say("A process that is killed takes with it what it has not sent, a fraction of a millisecond of writes. A "
            "machine that dies takes what waits in its kernel and its network, too. To imitate that, the log's way to "
            f"the followers stands still for the last {STALLED_SECONDS * 1000:.0f} ms.")
    lab.predict("the writes of that time had their OK, and the next leader does not have them.")
    count, missing, new = fail_over(lab, nodes, leader)
    lab.expect(f"of {count} writes with an OK, {new.name} lacks the last ones: {named(missing)}",
               0 < len(missing) < count)
    newest = [key for key in missing if int(key.split("-")[1]) > count - len(missing)]
    lab.expect("they are a suffix: all that was acknowledged before the first of them is there",
               len(newest) == len(missing))
    lab.part("The old leader comes back")
    lab.predict(f"{leader.name} follows {new.name} now. The two logs part where the lost writes begin. {leader.name} "
                "saves what only it has in diverged/, counts it and takes the new leader's log. Nothing is merged.")
    nodes.start(leader)
    nodes.converge()
    lab.type(leader, "INFO replication", "kvstore_diverged_records")
    show_diverged(lab, leader)
    saved = saved_keys(lab.binary, leader)
    lab.expect(f"kvstore log shows all {len(missing)} lost writes there", set(missing) <= saved)
    lost = missing[0] if missing else "is:lost"
    lab.expect(f"on {leader.name} itself they are gone as well: GET {lost} finds nothing",
               bool(missing) and leader.ask("GET", lost) is None)
    lab.ask("Why does the old leader not simply send its extra writes to the new one?",
            "src/replication/diverged.rs", "save")
    lab.ask("Which figure says, before a crash, how much one would cost?", "src/cluster/progress.rs", "lag")


def fail_over(lab, nodes, leader):
    """Kills the leader under load.

    Returns how many writes had an OK, which of these the next leader lacks, and that leader.
    """
    writer = Writer(leader)
    writer.start()
    wait_until(lambda: len(writer.acknowledged) >= WRITES_MIN, f"{WRITES_MIN} writes")
    nodes.network.cut_log(leader, *others(nodes, leader))
    time.sleep(STALLED_SECONDS)
    lab.command(f"kill -9 {leader.process.pid}    # {leader.name}, which leads, while a client writes to it")
    leader.signal(signal.SIGKILL)
    time.sleep(GOES_ON_SECONDS)
    writer.stop()
    new = nodes.leader(others(nodes, leader))
    nodes.network.heal()
    count, missing = missing_writes(new, [writer])
    lab.say(f"({new.name} leads now)")
    return count, missing, new


def show_diverged(lab, node):
    """What a node has set aside, as `kvstore log` prints it."""
    for path in sorted(Path(node.directory, "data", "diverged").rglob("*.aof")):
        lab.run("log", str(path), lines_max=6)
