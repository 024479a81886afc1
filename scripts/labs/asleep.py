"""Lab 17: a batch writes and sleeps. Meanwhile its node is cut off, another one leads, and the node comes back and
gives the write up. Then the batch wants its answer."""

from failover.nodes import wait_until
from labs import simulator
from labs.elected import TIMEOUT_MS, Later, last_record, others, remember, wait_info
from labs.lost import show_diverged
from labs.paths import Paths

SLEEP_SECONDS = 4
WRITES = 20


def run(lab):
    """The lab."""
    lab.say("A client sends SET and something slow in one packet: a pipeline. The SET has run; its OK leaves with "
            "the last reply of the packet. Between the two, anything can happen to its node. DEBUG SLEEP is the slow "
            "part here. In real life it is a thread that does not get the processor, or a machine that swaps.")
    nodes = lab.nodes(f"--election-timeout={TIMEOUT_MS}", "--ack=majority", network=Paths)
    lab.part("The batch sleeps through a failover")
    old = remember(nodes)
    left = others(nodes, old)
    lab.predict("when the batch wakes up, its record's number is committed: by another record with this number, the "
                f"next leader's. {old.name} must not take that for its own, and answers INDOUBT.")
    nodes.network.cut_log(old, *left)
    before = last_record(old)
    batch = Later(lab, old, ("SET", "x", "1"), ("DEBUG", "SLEEP", SLEEP_SECONDS))
    wait_until(lambda: last_record(old) > before, "the write is in the log")
    lab.say(f"(in one packet to {old.name}, which leads: SET x 1, DEBUG SLEEP {SLEEP_SECONDS})")
    lab.say(f"The write is record {before + 1}, in {old.name}'s log only: the log's way to the others was cut just "
            f"before. Now {old.name} is cut off altogether.")
    nodes.network.isolate(old.port)
    new = nodes.leader(left)
    written = sum(new.ask("SET", f"after-{number}", "1") == "OK" for number in range(WRITES))
    lab.say(f"{new.name} leads, and has taken {written} writes. Its record {before + 1} is another one. The cut ends.")
    nodes.network.heal()
    wait_info(old, "replication", "kvstore_diverged_records", "1")
    nodes.converge()
    commit = int(old.info("cluster")["kvstore_cluster_commit"])
    lab.type(old, "INFO cluster", "kvstore_cluster_(commit|leader)")
    lab.expect(f"{old.name} follows, and records up to {commit} are committed there: {before + 1} is among them",
               commit > before)
    replies = batch.replies()
    lab.say("The batch wakes up. Its replies:")
    lab.show("\n".join(map(str, replies)))
    lab.expect("the SET has no OK, although its number is committed", replies[0].startswith("INDOUBT"))
    lab.expect("x is not there", nodes.leader().ask("GET", "x") is None)
    show_diverged(lab, old)
    without(lab)
    lab.ask("What does a batch remember about the log when it runs, that it compares when it wants its answer?",
            "src/engine/confirm.rs", "judge_by")
    lab.ask("A client gets INDOUBT for an INCR. What may it do, and what must it not do?",
            "src/client/retry.rs", "unconfirmed")


def without(lab):
    """What the mutant does."""
    lab.part("The same without the rule, in the simulator")
    lab.predict("the broken rule compares the number only. The batch gets an OK for a write that is in diverged/.")
    told = simulator.story(lab, "a_batch_that_sleeps_through_a_failover_has_no_ok")
    if told:
        lab.expect("with the rule no promise is broken", told[0] == simulator.KEPT)
        lab.expect(f"without it: {told[1]}", "confirmed" in told[1])
