"""Lab 11: figure 8 of the Raft paper, with five nodes. A record is on a majority, and is lost all the same: it was
written in an epoch whose leader had died. No client had an OK for it."""

import signal
import time

from failover.nodes import wait_until
from labs import simulator
from labs.elected import TIMEOUT_MS, Later, last_record, remember, wait_info
from labs.lost import show_diverged
from labs.paths import Paths

LOOKS_SECONDS = 0.7


def run(lab):
    """The lab."""
    lab.say("It is tempting to say: a record that is on a majority of the nodes is safe. Figure 8 of the Raft paper "
            "[Ongaro and Ousterhout 2014, section 5.4.2] shows that this is wrong after a change of leader. Five nodes "
            "play it here.")
    nodes = lab.nodes(f"--election-timeout={TIMEOUT_MS}", "--ack=majority", names="ABCDE", network=Paths)
    leader = remember(nodes)
    story = Story(lab, nodes, leader)
    story.copied_once()
    story.another_leads()
    story.back_again()
    story.overwritten()
    without(lab)
    lab.ask("Why does a leader begin its epoch with an empty record?", "src/cluster/election/leading.rs", "commit")
    lab.ask("In (c), what would have to happen to make x safe?", "src/cluster/election/asking.rs", "accepts")


class Story:
    """The five nodes by the names that they have in the paper, and the number of the record that is at stake."""

    def __init__(self, lab, nodes, leader):
        self.lab, self.nodes, self.network = lab, nodes, nodes.network
        self.s1 = leader
        self.s2, self.s3, self.s4, self.s5 = (node for node in nodes.all if node is not leader)
        played = []
        for number, node in enumerate((self.s1, self.s2, self.s3, self.s4, self.s5), 1):
            played.append(f"S{number} is {node.name}")
            node.name = f"S{number}"
        lab.say(f"One of them leads. They play the nodes of the paper: {', '.join(played)}.")
        # S2, S3 and S4 cannot be elected: each of them reaches at most two others.
        self.network.part(self.s2, self.s3, self.s4)
        self.first_epoch = int(leader.info("cluster")["kvstore_cluster_epoch"])
        self.record = last_record(leader) + 1

    def kill(self, node):
        """kill -9."""
        self.lab.command(f"kill -9 {node.process.pid}    # {node.name}")
        node.signal(signal.SIGKILL)

    def start(self, node):
        """Starts it again."""
        self.lab.command(f"kvstore serve …    # {node.name} again")
        self.nodes.start(node)

    def has(self, node):
        """True if its log has as many records."""
        return last_record(node) >= self.record

    def logs(self):
        """Shows the logs of the nodes that run: which of them has x?"""
        running = (node for node in self.nodes.all if node.process.poll() is None)
        for node in sorted(running, key=lambda node: node.name):
            epoch = node.info("cluster").get("kvstore_cluster_epoch")
            self.lab.say(f"{node.name}: epoch {epoch}, {last_record(node)} records")

    def copied_once(self):
        """(a) of the figure."""
        self.lab.part("(a) S1 leads, and its record comes to S2 only")
        self.lab.predict("two of five are no majority: the client gets no OK.")
        self.network.cut_log(self.s1, self.s3, self.s4, self.s5)
        self.write = Later(self.lab, self.s1, ("SET", "x", "1"))
        wait_until(lambda: self.has(self.s2), "x is on S2")
        self.lab.say(f"SET x 1 is record {self.record}, on S1 and S2. Then S1 dies.")
        self.kill(self.s1)
        self.lab.expect("the client's connection has broken, without an answer", self.write.reply_or_none() is None)

    def another_leads(self):
        """(b) of the figure."""
        self.lab.part("(b) S5 is elected by S3 and S4, and dies at once")
        self.lab.predict("S5 lacks x, and so do S3 and S4: they may vote for it. It begins a later epoch with an "
                         f"empty record, another number {self.record}, and dies before any other node has it.")
        self.network.cut_log(self.s5, self.s2, self.s3, self.s4)
        wait_info(self.s5, "replication", "role", "master")
        self.epoch = int(self.s5.info("cluster")["kvstore_cluster_epoch"])
        self.logs()
        self.kill(self.s5)
        self.lab.expect(f"S5 has led epoch {self.epoch}, and no other node has a record of it",
                        last_record(self.s3) < self.record and last_record(self.s4) < self.record)

    def back_again(self):
        """(c) of the figure."""
        self.lab.part("(c) S1 comes back, leads again, and copies x to S3 and S4: it is on a majority now")
        # S1 begins another epoch with an empty record. S3 and S4 get x, and not that one.
        own = rb"#\d+ (?!%d )\d+ \d+ \d+ [0-9a-f]{8}\r\n" % self.first_epoch
        for node in (self.s3, self.s4):
            self.network.hold(self.s1, node, own)
        self.network.cut_log(self.s1, self.s2)
        self.start(self.s1)
        self.lab.predict("x is on four of five, and S3 and S4 have acknowledged it to S1. S1 does not count it as "
                         "committed, because it is of an earlier epoch, and that S5 has a later record is nothing that "
                         "S1 can know. A reader of x gets no value.")
        wait_info(self.s1, "replication", "role", "master")
        wait_until(lambda: self.has(self.s3) and self.has(self.s4), "x is on S3 and S4")
        reader = Later(self.lab, self.s1, ("GET", "x"))
        time.sleep(LOOKS_SECONDS)
        self.logs()
        cluster = self.s1.info("cluster")
        self.lab.show(f"S1> INFO cluster\nkvstore_cluster_epoch:{cluster['kvstore_cluster_epoch']}\n"
                      f"kvstore_cluster_commit:{cluster['kvstore_cluster_commit']}")
        self.lab.expect(f"S1 to S4 have record {self.record}",
                        all(map(self.has, (self.s1, self.s2, self.s3, self.s4))))
        self.lab.expect(f"S1 takes the records up to {cluster['kvstore_cluster_commit']} for committed: "
                        f"{self.record} is not among them", int(cluster["kvstore_cluster_commit"]) < self.record)
        self.kill(self.s1)
        answer = reader.reply_or_none()
        self.lab.expect(f"a reader of x got no value: {answer or 'no answer, until S1 died'}",
                        answer is None or str(answer).startswith(("STALE", "READONLY")))

    def overwritten(self):
        """(d) of the figure."""
        self.lab.part("(d) S5 comes back and is elected: x is overwritten")
        self.lab.predict(f"S5's last record has epoch {self.epoch}, which is later than that of x. So S2, S3 and S4 "
                         "must vote for it. They give x up, and keep it aside. It was on four of five nodes.")
        self.network.open_log(self.s5, self.s2, self.s3, self.s4)
        self.start(self.s5)
        wait_info(self.s5, "replication", "role", "master")
        wait_info(self.s3, "replication", "kvstore_diverged_records", "1")
        self.network.heal()
        self.start(self.s1)
        leader = self.nodes.converge()
        self.lab.expect("x is on no node any more", all(node.ask("GET", "x") is None for node in self.nodes.all))
        show_diverged(self.lab, self.s3)
        self.lab.expect("S1 to S4 have it in diverged/", all(node.info("replication")["kvstore_diverged_records"] != "0"
                                                             for node in self.nodes.all if node is not self.s5))
        self.lab.say(f"No promise was broken: no client had seen x, or an OK for it. {leader.name} leads.")


def without(lab):
    """What the mutant does."""
    lab.part("The same without the rule, in the simulator")
    lab.predict("a leader that counts copies of old records tells its clients in (c) that x is committed. In (d) it is "
                "gone.")
    told = simulator.story(lab, "figure_8_of_the_raft_paper_loses_no_ok")
    if told:
        lab.expect("with the rule no promise is broken", told[0] == simulator.KEPT)
        lab.expect(f"without it: {told[1]}", "was committed" in told[1])
