//! kvstore: a key-value server that a person can telnet to and any Redis client can use.
//!
//! # The life of a SET
//!
//! ```text
//!  telnet, redis-py, …
//!      │ bytes
//!  server::connection   reads what is there                              thread conn-<n>
//!  protocol::Decoder    finds the request in it: a RESP array or a line
//!  engine::execute      row in the command table? password given? log in order?
//!  store::begin         locks the key's shard
//!  commands::set        checks the arguments, makes the effect `SET k v`
//!  store::Tx::apply     changes the table: the only place that does
//!  aof::Log::append     adds the effect to the log, still under the shard's lock
//!  engine::gate         waits until the log is as safe as `appendfsync` promises
//!  engine::outbox       sends the reply, never blocking on the client
//! ```
//!
//! # Modules, in reading order
//!
//! The core: [`protocol`] bytes ↔ requests and replies · [`store`] effects and the table · [`commands`] what each
//! everyday command means · [`aof`] the log · [`engine`] the path of a request · [`server`] sockets and threads.
//!
//! More than one node: [`cluster`] this node's role, its link, its followers' progress · [`replication`] the log
//! on its way to followers · [`pubsub`] messages and events about keys.
//!
//! Reference, to be read when needed: [`commands::extra`] rare commands · [`memory`] the limit and eviction ·
//! [`metrics`] counters and histograms · [`observe`] INFO, `/metrics`, SLOWLOG, TRACE, MONITOR · [`admin`] commands
//! about the server · [`config`] settings · [`cli`] tools beside the server.
//!
//! Leaves, imported by anyone: [`clock`], [`digits`], [`error`], [`event`], [`file_error`], [`glob`], [`loading`],
//! [`random`], [`rarely`], [`replace`], [`shutdown`], [`signal`].
//!
//! # Threads
//!
//! | thread | owns | blocks on | ends when |
//! |---|---|---|---|
//! | `main` | the wiring | the shutdown latch | last |
//! | `accept` | a listener | `accept` | shutdown, when `main` shuts the listener |
//! | `conn-<n>` ≤ maxclients | one socket, its buffers; of a follower, its acknowledgements | `read` | the peer leaves, or shutdown and all is answered |
//! | `conn-<n>-push` | the replies and messages that a client was too slow to take | `write` | they are sent, or the client is cut |
//! | `aof-sync` | parked replies | `Log::work`, the disk | after the last connection, with a last sync |
//! | `sweeper` | – | the latch, with a timeout | shutdown |
//! | `http` | the status page's listener | `accept` | shutdown, behind the last client |
//! | `http-conn` ≤ 12 | one request for a page or the metrics | `read`, for 5 s at most | it is answered |
//! | `repl-out-<n>` | a place in the log, for one follower | new log, or its socket | the link ends, shutdown |
//! | `repl-in` | the link to the leader | `read`, or for an order | shutdown |
//! | `signals` | – | a signal | last but `main` |
//! | `repl-dial` ≤ 1 | a connection in the making | a name server, `connect` | it is there or not; at shutdown it is left behind |
//! | `compactor` | a base in the making | a request, with a timeout | shutdown |
//!
//! # Locks
//!
//! Taken in this order, from top to bottom, and never the other way:
//!
//! | lock | protects | held for |
//! |---|---|---|
//! | `Engine::evictor` | keys found that may go | up to 16 evictions |
//! | `Shard` (256, ascending) | a part of the table | one command, one EXEC, or a part of a walk |
//! | `Log::pending` | the log's pending bytes | a memcpy |
//!
//! `Log::syncing` → `Log::writer` → `Log::pending` are for those who write and sync; no shard is locked
//! then, but by `repl-in` when it starts over elsewhere (`Log::freeze`, before the shards). `Log::epochs`
//! is a leaf after `Log::pending`, and a shard's registry of watched keys is one after the shard.
//! `Role::changing` comes before all shards. A subscriber's
//! `Outbox::queue` → `PubSub::registry` is the order of SUBSCRIBE. The registries of clients, of followers
//! and of subscriptions, the wishes of PROMOTE, and the lanes of publishers, are leaves: held for a look or an
//! entry, and never while sending. So are `Pause` and what a client waits for in a command (`engine::blocked`),
//! the rings of slow and sampled commands, and `Monitors::feeds` → a feed's lines: an EXEC's
//! commands are noted there while its shards are locked.
//!
//! # Invariants
//!
//! - `protocol`, `store`, `commands` and the record codec do no I/O and read no clock, so that replay
//!   and tests are exact (`tests/fuzz` runs them in memory).
//! - State changes only in `Tx::apply`, with an effect that the log gets too: memory after a restart is
//!   memory before it (`tests/differential` with restarts).
//! - Effects are appended while the shards are locked: log order is apply order (`tests/concurrency`,
//!   `tests/crash`).
//! - Nobody waits for the disk, a queue or a socket while a shard is locked; `Log::admit` waits before
//!   the lock, the gate behind it.
//! - Every queue, buffer, thread count and message size has a named limit and a policy
//!   (`tests/hostile`).
//! - Only one thread appends at a time: clients' writes on a leader, `repl-in` on a follower; the change
//!   takes all shard locks (`engine::role`, `tests/replication`).
//! - Recovery judges everything before it changes anything (`tests/every_byte.rs`).

pub mod admin;
pub mod aof;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod digits;
pub mod engine;
pub mod error;
pub mod file_error;
pub mod glob;
pub mod loading;
pub mod memory;
pub mod metrics;
pub mod observe;
pub mod protocol;
pub mod pubsub;
pub mod random;
pub mod rarely;
pub mod replace;
pub mod replication;
pub mod server;
pub mod shutdown;
pub mod signal;
pub mod store;
