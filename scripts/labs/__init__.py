"""The labs. Each is a file here with a function `run(lab)`; `frame.py` says what `lab` can do.

A lab tells a story in parts. Before each part it says what to expect, then it shows what happens and checks it, and
at the end it asks two questions and names the code that answers them. `scripts/lab.py` runs them.
"""

# The number of a lab: its title, and its file.
LABS = {
    1: ("kill -9 under each fsync policy", "kill"),
    2: ("A write that the disk has only in part: a torn tail, and a full disk", "torn"),
    3: ("A flipped bit, and the same bit in Redis", "flipped"),
    4: ("Group commit: fsyncs per write, with one client and with fifty", "group_commit"),
    5: ("A stale read from a follower, and none with a token", "tokens"),
    6: ("Two nodes that were both told to lead: split brain", "split"),
    7: ("Two nodes that vote, and three: which letters of CAP?", "cap"),
    8: ("ack leader: the writes that kill -9 of the leader costs", "lost"),
    9: ("ack majority: nothing is lost, and what that costs", "majority"),
    10: ("A leader that stands still: an old read, and none", "stale"),
    11: ("Figure 8 of the Raft paper, with five nodes", "figure8"),
    12: ("A link that comes and goes, with and without a pre-vote", "prevote"),
    13: ("An OK before fsync, and a power cut", "forgotten"),
    14: ("From one member to three, and a disk that is replaced", "members"),
    15: ("Compaction under a write load, with a follower", "compaction"),
    16: ("Clocks that differ by an hour, and keys that expire", "clocks"),
    17: ("A batch that sleeps through a failover", "asleep"),
    18: ("A pool of connections that are all in use", "exhaustion"),
}
