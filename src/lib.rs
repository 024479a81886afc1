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
//!  clients::outbox      sends the reply, never blocking on the client
//! ```
//!
//! # Modules, in reading order
//!
//! The core: [`protocol`] bytes ↔ requests and replies · [`store`] effects and the table · [`commands`] the
//! everyday commands · [`aof`] the log · [`engine`] the path of a request · [`clients`] the connections and their
//! output · [`server`] sockets and threads.
//!
//! More than one node: [`cluster`] this node's role, its link to the leader, its followers' progress ·
//! [`replication`] the log on its way to followers · [`pubsub`] messages and events about keys.
//!
//! Reference, to be read when needed: [`commands::extra`] rare commands · [`memory`] the limit and eviction ·
//! [`metrics`] counters and histograms · [`observe`] INFO, `/metrics`, SLOWLOG, TRACE, MONITOR · [`admin`] commands
//! about the server · [`config`] settings · [`cli`] tools for a data directory.
//!
//! Leaves, which any module may import: [`clock`], [`digits`], [`error`], [`file_error`], [`glob`], [`loading`],
//! [`lock`], [`random`], [`rarely`], [`replace`], [`shutdown`], [`signal`].
//!
//! # Threads
//!
//! | thread | owns | blocks on | ends |
//! |---|---|---|---|
//! | `main` | starting and stopping the others | the shutdown signal | last |
//! | `accept` | a listener | `accept` | at shutdown: `main` shuts the listener |
//! | `conn-<n>` ≤ maxclients | one client: socket, buffers, session; of a follower, its acknowledgements | `read` | when the client leaves; at shutdown, after the last reply |
//! | `conn-<n>-push` | output that a client was too slow to take | `write` | when all is sent, or the client is cut off |
//! | `aof-sync` | parked replies, and the syncing of the log | `Log::work`, the disk | after the last connection, with a last sync |
//! | `sweeper` | expired keys; memory and output limits between commands | shutdown, with a timeout | at shutdown |
//! | `compactor` | the base that replaces old segments | a request, with a timeout | at shutdown |
//! | `repl-in` | the link to the leader | `read`, or a node to follow | at shutdown |
//! | `repl-dial` ≤ 1 | a connection that is being opened | a name server, `connect` | when it is open or has failed; shutdown does not wait for it |
//! | `repl-out-<n>` | the position of one follower in the log | new records, or its socket | when the link ends, or at shutdown |
//! | `http` | the listener of the status page | `accept` | at shutdown, after the last client |
//! | `http-conn` ≤ 12 | one request for a page or the metrics | `read`, for at most 5 s | when it is answered |
//! | `signals` | SIGINT, SIGTERM, SIGHUP | a signal | last but `main` |
//!
//! # Locks
//!
//! A thread takes locks from top to bottom, never the other way. Debug builds check it ([`lock`]).
//!
//! | rank | lock | protects | held for |
//! |---|---|---|---|
//! | `ROLE_CHANGE` | `Role::changing` | a change of role | the change; up to 5 s until a link has ended |
//! | `CONFIG_CHANGE` | `Config::changing` | several settings, and their file | one CONFIG SET or REWRITE |
//! | `FILES` | `Persistence::files` | which files the log consists of | a compaction, a reload, a full copy |
//! | `EVICTOR` | `Engine::evictor` | keys that may be evicted next | up to 16 evictions |
//! | `SYNCING` | `Segments::syncing` | who syncs, and who changes the segment | one `fdatasync`, or a restart of the log |
//! | `SHARD` | `Store::shards`, 256, ascending | a part of the table | one command, one EXEC, a part of a walk |
//! | `WRITER` | `Segments::writer` | the end of the log's file | one `write` |
//! | `PENDING` | `Appender::pending` | records that are not yet written | a memcpy |
//! | `EPOCHS` | `Appender::epochs` | where each epoch begins | a look-up |
//! | `FOLLOWERS` | `Progress::all` | the list of followers | a walk over it |
//! | `FEEDS` | `Monitors::feeds` | the list of MONITOR clients | a memcpy to each |
//! | `LANE` | `Lane::state`, 16 | messages that wait to be sent | an entry |
//! | `PARKING` | `Parking::leaving` | the order in which parked replies leave | sending them, which does not block |
//! | `OUTBOX` | `Outbox::queue`, one per client | bytes that wait for the client | one `send` that does not block; a SUBSCRIBE |
//! | `LEAF` | all others, below | one value each | a look-up or an entry |
//! | `SIGNAL` | `Signal::lock` | the sleep of those who wait | no time |
//!
//! While a leaf is held, nothing but a signal may be taken. The leaves:
//!
//! - store and log: `Watched::keys` of each shard, `Health::error`, `Retention::pins`, `SetAside::times`
//! - engine and server: `Parking::waiting`, `Compactor::began` and `last_error`, `Clients::by_id`,
//!   `Client::labels`, `Blocked`, `Pause::pause`, `Pool::connection_tx`, `Shutdown::woken`, `Rarely`
//! - cluster and pubsub: `Role::state` and `figures`, `Freshness::awaited`, `Progress::claims`,
//!   `ReplicaProgress::state`, `PubSub::registry`
//! - reference: `Cell::Text` and `Limits` of each setting, `Metrics::errors` and `rates`, `Latency`, `Ring`,
//!   `Observed::timeline`, `Feed::lines`, the status page's `listeners`
//!
//! # Ten questions, and where the answer is
//!
//! | question | answer |
//! |---|---|
//! | Where does a TTL become a deadline? | `Expiry::deadline` in `commands::expiry` |
//! | Where is it decided that a reply may leave? | `Engine::pass_gate` in `engine::gate` |
//! | What happens when the disk is full? | `Log::admit` refuses writes, `Log::retry` resumes: `aof::log` |
//! | Where is the lag computed? | `ReplicaProgress::lag` in `cluster::progress` |
//! | Which thread closes a slow subscriber? | the publisher's, or `sweeper` over the soft limit: `clients::outbox` |
//! | How is a torn tail told from corruption? | the header of `aof::recovery` |
//! | Which locks does EXEC take? | `Engine::begin_transaction` in `engine::transaction` |
//! | Where is a message forwarded to a follower? | `Engine::publish` in `pubsub::notify`, then `replication::sender` |
//! | How does a diverged follower get its leader's log? | `replication::rejoin` |
//! | Where is `maxmemory` enforced? | `Engine::make_room` in `memory::evict`, before each write |
//!
//! # Invariants
//!
//! - `protocol`, `store`, `commands` and the record codec do no I/O and read no clock, so replay and tests are
//!   exact (`tests/fuzz` runs them in memory).
//! - State changes only in `Tx::apply`, with an effect that goes to the log too. So memory after a restart is
//!   memory before it (`tests/differential` with restarts).
//! - Effects are appended while the shards are locked. So the order of the log is the order in which effects
//!   were applied (`tests/concurrency`, `tests/crash`).
//! - No thread waits for the disk, a queue or a socket while it holds a shard: `Log::admit` waits before the
//!   lock, the gate after it. Two exceptions: DEBUG RELOAD and the loading of a full copy read files.
//! - Every queue, buffer, number of threads and message size has a named limit and a policy (`tests/hostile`).
//! - Only one kind of writer appends to the log: clients on a leader, `repl-in` on a follower. The change of
//!   role takes all shards (`replication::transition`, `tests/replication`).
//! - Recovery checks everything before it changes anything (`tests/every_byte.rs`).

pub mod admin;
pub mod aof;
pub mod cli;
pub mod clients;
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
pub mod lock;
pub mod memory;
pub mod metrics;
pub mod observe;
pub mod process;
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
