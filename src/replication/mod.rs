//! Replication: followers have the leader's log, byte for byte, and therefore its data.
//!
//! # Shipping the log
//!
//! A leader writes all that happens to a log already. So replication is: send that file on. There is no
//! second format, no buffer of recent commands in memory, no snapshot made for each follower. A follower
//! adds the leader's bytes to its own log as they are, with the same seqs and the same checksums, and applies
//! their effects the way that recovery does. Comparing two nodes is `cmp`.
//!
//! ```text
//!  leader                                                  follower
//!  SET k v ─▶ store ─▶ log ─▶ log-1.aof                     log-1.aof ◀─ log ◀─ store
//!                               │                                        ▲
//!                               └─▶ repl-out-7 ── TCP ──▶ repl-in ── check, apply
//!             WAIT ◀─ conn-7 ◀─────────── ACK ─────────────┘
//! ```
//!
//! # Three ways to begin
//!
//! The checksums of records form a chain, so two logs that agree in one record have the same past. A follower
//! sends the seq, epoch and crc of its last record, and the leader looks what it has there:
//!
//! ```text
//! CONTINUE   leader    1 2 3 4 5 6 7        the same record: go on behind it. The usual case, after a
//!            follower  1 2 3 4              restart of either, and for a new follower of a young leader
//!
//! DIVERGED   leader    1 2 3 4'5'6'7'       another record, or none: here they part, no later than at 3.
//!            follower  1 2 3 4 5            The follower saves 4 and 5 to diverged/, cuts them off, makes
//!                                           its state that of 3, and asks again
//!
//! FULL       leader        [base 5] 6 7     what comes next is no longer kept: a base, and the log behind it
//!            follower  1 2 3
//! ```
//!
//! Only a leader's end is the end. A node that is itself a follower and has not come as far as who asks says
//! BEHIND, and is asked again later: what comes next may be the very records, for instance when a leader has
//! handed over to a follower that it now follows and whose link broke meanwhile.
//!
//! Where histories part is found by epochs, not by comparing records ([`crate::aof::epochs`]): each of the two
//! names the last record that the other can share, and the older epoch wins, until both agree. That takes as
//! many rounds as there were leaderships since, mostly one.
//!
//! What is kept for followers is [`crate::aof::log::Retention`]; a full copy is received into a directory of its
//! own (`copy.rs`) and then takes the log's place ([`replacement`]).
//!
//! # What is promised
//!
//! - A follower's log is a prefix of its leader's, always; its state is the one at the end of that prefix, with
//!   transactions whole.
//! - No byte is applied that was not checked against the chain. A link that brings another one is dropped, and
//!   the record is asked for again.
//! - A node that follows gives up nothing in silence. Before a copy replaces its log, or the log is cut off, its
//!   records are proven to be in the leader's history, or they are saved to `diverged/`, counted and named:
//!   those that it wrote itself and those that it once received alike (`rejoin.rs`). So what WAIT has confirmed
//!   outlives the loss of the leader's disk, and a promotion of the wrong node. A leader whose log ends before
//!   its follower's says so in the log, and so does the follower.
//! - A promotion begins an epoch, on disk before the first write of it. Two nodes may wrongly lead at one time
//!   (nobody here prevents it); when they meet, the difference shows, whatever the numbers are.
//! - A token of LASTSEQ is honoured by the very record that it was given for, or refused.
//! - A planned handover (PROMOTE) loses nothing: the old leader stops writing before the new one starts. It
//!   is an offer: when PROMOTE has given up meanwhile, the follower declines, and the old leader leads on.
//! - Nodes that follow each other in a circle notice it, for each heartbeat tells how far away the leader is,
//!   and in a circle that grows. Their links count as down, and say why.
//! - Two followers with one node id, of which one has a copy of the other's directory, are not counted as one:
//!   the second is refused (`engine/twins.rs`).
//!
//! # What is not
//!
//! - **An OK does not mean that a follower has the write.** Replication is asynchronous. When a leader dies,
//!   what it had not sent yet is lost with it: with a healthy network, the writes of the last milliseconds
//!   (`lag_records` in INFO says how many). `WAIT 1 0` before going on, or `min-replicas-to-write`, narrow this;
//!   they do not close it, because a follower that acknowledged need not be the one that is promoted.
//! - A leader sends what is written, not what is durable: after a power cut of the leader, followers may have
//!   records that it lost. It then follows their history, or they give theirs up, as any two that part.
//! - Reads on a follower are of some moment ago. `WAITSEQ` makes them new enough for one client,
//!   `replica-max-staleness` for all.
//! - Expiry: a passed deadline hides a key on every node by its own clock; only the leader deletes.
//!
//! # Simpler than Redis
//!
//! - The backlog is the log on the disk. It survives restarts, and its size costs no memory.
//! - No `fork`, no RDB: the base that compaction made is sent as it is, by as many threads as want it.
//! - No replica that takes writes, no chained replication ids, no partial sync by offset of a stream that nobody
//!   can check, no diskless sync, no TLS, no filtering.
//! - Out of scope so far: electing a leader. A person, a script or Redis Sentinel decides.
//!
//! # Reading order
//!
//! [`wire`] (the lines), [`cursor`] (reading the log for somebody), `feed` (what a follower is given),
//! [`leader`], `incoming` (checking what comes), [`follower`], `rejoin` (where to go on), `copy`; the roles
//! themselves are in `engine::role`.

pub(crate) mod commands;
mod copy;
pub mod cursor;
pub mod diverged;
mod feed;
pub mod follower;
mod incoming;
pub mod leader;
mod rejoin;
pub mod replacement;
pub(crate) mod replica;
pub mod wire;
