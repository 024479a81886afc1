//! The state of this node and of the nodes around it. Nothing here acts.
//!
//! ```text
//!  node        this node's id, and the last epoch in which it led
//!  role        leads, follows, or neither while that changes; the link to the leader; PROMOTEs that wait
//!  freshness   how old a follower's data may be
//!  progress    how far each follower of this node has come
//!
//!  election    who leads, by vote: a state machine that `failover/driver.rs` runs
//!  message     what members say to each other, and what goes into and comes out of the election
//!  lines       the same as text            greeting    the first lines between two members
//!  members     who votes                   membership  how that changes
//!  term        what a node has promised, across restarts and power cuts
//!  inbox       events on their way to the election
//!  shared      what the election has decided, as all other threads read it
//! ```
//!
//! Only `node` is on disk. No file here starts a thread or owns a socket, and only `node` and `shared` read a clock.
//! Elsewhere times are arguments, so each rule can be tested by itself. The threads and sockets are in
//! [`crate::replication`] and [`crate::failover`], and so are the steps of a change of role
//! (`replication/transition.rs`, `failover/roles.rs`).
//!
//! # A leader by vote
//!
//! With `cluster-nodes` the nodes decide which of them leads; without it a person, a script or Redis Sentinel does. The
//! rules of the vote are Raft's [Ongaro 2014], on our own log: the epoch is Raft's term, seq its index, the chain of crcs its
//! log matching, an epoch's empty first record its no-op. Raft leaves open what a server does between a write and its
//! answer, and what a node may have forgotten after a power cut when it does not fsync each record. These rules close
//! it; for each there is a mutant, a broken version that the simulator (`tests/cluster_sim`) must notice:
//!
//! | property | rule | mutant |
//! |---|---|---|
//! | one leader per epoch | a vote is durable before it is given, once per epoch and id | `VoteNotSynced`, `VoteTwice`, `HeardByAddress` |
//! | the leader has all that was committed | the later (epoch, seq) wins | `OffsetWithoutEpoch` |
//! | | the end of the log is read after the epoch was adopted | `CachedLogEnd` |
//! | | only a record of the own epoch commits; an ACK counts in its epoch | `CommitOfOldEpochs`, `AckWithoutEpoch`, `OwnLevelWithoutEpoch`, `HandshakeAsAck` |
//! | | a link is bound to an epoch | `LinkSurvivesEpoch` |
//! | also after power cuts | a node that may have forgotten is *recovering*: a majority of whole nodes, or all | `RecoveringVotesCounted`, `BootIgnored`, `CopyWithoutFlag`, `WholeFromNonLeader`, `PolicyWeakenedWithoutBoot`, `StrictClearedOnAppend` |
//! | what is answered was committed | the gate compares the history in which a batch ran, and the commit of the link | `GateWithoutHistory`, `CommitFromBeat`, `ReadersLetThrough`, `LoadWithoutLastSeq` |
//! | a read is not old | a round of heartbeats begun after it, in the same epoch | `AnyWriteConfirmsRead`, `RoundOfAnotherEpoch` |
//! | two nodes never answer OK alone at once | who heard a heartbeat votes for no other node for a time | `NoWaitAfterRestart`, `PromiseNotBindingCandidate`, `FenceWithOwnTimeout`, `LateBeatLowersPromise` |
//! | majorities before and after a change of voters meet | one change at a time, after the one before it and a record of the own epoch are committed | `TwoMembersChanges` |
//! | | a node never forgets how far the members records went that it acknowledged | `ForgetsHowFar` |
//! | a change that only one node has can be finished | a node that its newest record does not name asks for votes, too | `RemovedNeverAsk` |
//! | an election cannot disturb | a leader with a live quorum ignores it | `AskDeposes` |
//! | | no epoch moves before a majority would vote for it | `NoPreVote` |
//!
//! A majority that is gone for good stops a cluster. `PROMOTE FORCE` then makes a new one of a single node
//! (`election/forcing.rs`), and no line, record or epoch passes between the two.

pub mod election;
pub(crate) mod freshness;
pub mod greeting;
pub(crate) mod handover;
pub mod inbox;
mod lines;
pub(crate) mod link;
pub mod members;
pub mod membership;
pub mod message;
pub mod mutant;
pub(crate) mod node;
pub(crate) mod progress;
pub(crate) mod role;
pub mod shared;
pub(crate) mod state;
pub mod term;
