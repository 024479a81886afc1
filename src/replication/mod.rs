//! Replication: a follower has the leader's log, byte for byte, and therefore its data.
//!
//! # What is sent
//!
//! A leader writes every change to a log already, so replication sends that file on. There is no second
//! format, no buffer of recent commands in memory, no snapshot made for each follower. A follower adds the
//! bytes to its own log as they are, with the same seqs and checksums, and applies their effects as recovery
//! does. Comparing two nodes is `cmp`.
//!
//! ```text
//! client     conn-3 (leader)     repl-out-7 (leader)         repl-in (follower)     reader on the follower
//!   │ SET k v ──▶ │
//!   │        apply, append, write
//!   │ ◀──── OK    │ ── more log ──▶ │
//!   │             │                 │ ── #42 …SET k v, #! ──▶ │
//!   │             │                 │                    check, append, apply ──────────▶ │ GET k: v
//!   │             │                 │                       write (or sync)               │
//!   │             │          conn-7 │ ◀── ACK 42 42 42 ────── │
//!   │ WAIT ─────▶ │ ◀── wakes ───── │
//!   │ ◀────  1    │
//! ```
//!
//! # Three ways to begin
//!
//! The checksums of records form a chain, so two logs that agree in one record have the same past. A follower
//! sends the seq, epoch and crc of its last record, and the leader looks for it in its own log:
//!
//! ```text
//! CONTINUE   leader    1 2 3 4 5 6 7        the same record: the next ones follow. The usual case, after a
//!            follower  1 2 3 4              restart of either, and for a new follower of a young leader
//!
//! DIVERGED   leader    1 2 3 4'5'6'7'       another record, or none: they part here, no later than at 3.
//!            follower  1 2 3 4 5            The follower saves 4 and 5 to diverged/, cuts them off, makes
//!                                           its state that of 3, and asks again
//!
//! FULL       leader        [base 5] 6 7     the next record is no longer kept: a base, and the log after it
//!            follower  1 2 3
//! ```
//!
//! Only a leader can say that a record does not exist; a follower may not have received it yet. So a follower
//! that is asked for a record after its last one answers BEHIND, and is asked again later.
//!
//! Where two histories part is found by epochs, not by comparing records (`shared_past`): each side
//! names the last record that the other can share, and the older epoch wins, until both agree. That takes as
//! many rounds as there were leaderships since, mostly one.
//!
//! `aof/log/retention.rs` decides which segments are kept for followers.
//!
//! # What is promised
//!
//! - A follower's log is a prefix of its leader's; its state is the one at the end of that prefix, with
//!   transactions whole.
//! - No byte is applied that was not checked against the chain. A damaged link is dropped, and the record is
//!   asked for again.
//! - A follower drops no record unsaved. Before a copy replaces its log, or the log is cut off, its records
//!   are proven to be in the leader's history, or they are saved to `diverged/`, counted and named (`rejoin`).
//!   It does not matter which node wrote them first. So what WAIT has confirmed outlives the loss of the
//!   leader's disk and the promotion of the wrong node.
//! - A promotion begins an epoch, which is on disk before its first write. Two nodes may wrongly lead at one
//!   time; when they meet, the difference shows, whatever the numbers are.
//! - A token of LASTSEQ is honoured by the very record that it was given for, or refused.
//! - A planned handover (PROMOTE) loses nothing: the old leader stops writing before the new one starts. It
//!   is an offer: if PROMOTE has given up meanwhile, the follower declines, and the old leader leads on.
//! - Nodes that follow each other in a circle notice it: each heartbeat tells how far away the leader is, and
//!   in a circle that grows. Their links count as down, and say why.
//! - Of two followers with one node id, one of which has a copy of the other's directory, the second is
//!   refused (`twins`).
//!
//! # What is not promised
//!
//! - **An OK does not mean that a follower has the write.** When a leader dies, what it had not sent is lost
//!   with it: with a healthy network, the writes of the last milliseconds (`lag_records` in INFO). `WAIT 1 0`
//!   or `min-replicas-to-write` narrow this and do not close it, because a follower that acknowledged need not
//!   be the one that is promoted.
//! - A leader sends what is written, not what is durable: after its power cut, followers may have records that
//!   it lost. The nodes then part as any two do.
//! - Reads on a follower are of some moment ago. `WAITSEQ` makes them new enough for one client,
//!   `replica-max-staleness` for all.
//! - Expiry: a passed deadline hides a key on every node by its own clock; only the leader deletes.
//!
//! # What Redis has and we do not
//!
//! - A backlog in memory: ours is the log on the disk, which survives restarts and costs no memory.
//! - `fork` and RDB: the base that compaction made is sent as it is, to any number of followers at once.
//! - Replicas that take writes, chained replication ids, partial sync by the offset of a stream without
//!   checksums, diskless sync, TLS, filtering.
//! - Electing a leader is not done here: a person, a script or Redis Sentinel decides, or the nodes by votes
//!   ([`crate::failover`]). A link to an elected leader is bound to its id and its epoch, and ends with it.
//!
//! # Reading order
//!
//! Leader: [`wire`] (the lines), [`cursor`] (a place in the log), `feed` (what a follower is given), [`leader`],
//! `sender`. Follower: `incoming` (checks what comes), [`link`], `rejoin` (where to go on), `copy`, `replica`
//! (applies), `truncate` (the end of a log). Both: [`dial`], [`transition`] (changes of role), `token`, `commands`.

pub(crate) mod commands;
mod copy;
pub mod cursor;
pub mod dial;
pub mod diverged;
mod feed;
mod incoming;
pub mod leader;
pub mod link;
mod rejoin;
pub mod replacement;
pub(crate) mod replica;
mod sender;
mod shared_past;
mod token;
pub mod transition;
mod truncate;
mod twins;
pub mod wire;
