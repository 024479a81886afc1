//! kvstore: a key-value server that a person can telnet to and any Redis client can use.
//!
//! # The life of a SET
//!
//! From the socket to the reply, file by file, in the order in which a `SET k v` comes through:
//!
//! | file | functions | what happens |
//! |---|---|---|
//! | `server/connection.rs` | `Connection::run`, `read`, `run_requests` | thread `conn-<n>` reads the socket, once for many requests |
//! | `server/look.rs` | `Look::read` | looks a moment for bytes before it waits for them |
//! | `protocol/input.rs` | `Input::room`, `waiting` | the bytes received and not yet used |
//! | `protocol/request.rs` | `Decoder::step`, `args` | finds the request: a RESP array or a line |
//! | `engine/execute.rs` | `execute`, `admit`, `run` | the guards: password, MULTI, pause, log, role, memory |
//! | `commands/table.rs` | `Table::resolve` | the command's row: flags, keys, function |
//! | `store/tx.rs` | `Store::begin` | a transaction on the key's shard |
//! | `store/locks.rs` | `Store::lock` | the shard's lock |
//! | `commands/strings.rs` | `set` | checks the arguments, makes the effect `SET k v` |
//! | `store/write.rs` | `Tx::apply`, `commit` | changes state: the only place that does |
//! | `store/effect.rs` | `Effect::encode` | writes the effect down for the log |
//! | `store/shard.rs`, `table.rs`, `entry.rs` | `Shard::set`, `Entry::new` | the table in memory |
//! | `aof/log/mod.rs`, `aof/record.rs` | `Log::append`, `append_header` | adds the record to the log, still under the shard's lock |
//! | `engine/gate.rs` | `flush`, `pass_gate`, `try_pass`, `send_replies` | after the batch: waits until the log is as safe as `appendfsync` promises, or parks the replies; then they leave together |
//! | `clients/outbox.rs` | `Outbox::send` | one `send`, which never blocks on the client |
//!
//! `protocol/args.rs` and `protocol/reply.rs` carry the words and the reply, `engine/session.rs` the state of the
//! connection, `observe/probe.rs` the time it took.
//!
//! And on to a follower:
//!
//! | file | functions | what happens |
//! |---|---|---|
//! | `replication/sender.rs` | `run`, `send_log` | thread `repl-out-<n>` wakes when the log has been written |
//! | `replication/cursor.rs` | `Cursor::read` | reads the log's files, byte by byte as they are |
//! | `replication/incoming.rs` | `Incoming::read`, `item` | the follower's thread `repl-in` finds the record and checks it |
//! | `replication/link.rs` | `stream`, `apply_items`, `acknowledge` | applies what has come, then reports how far it is |
//! | `replication/replica.rs` | `apply_record` | through the same `Tx::apply`, and into the follower's own log |
//! | `cluster/progress.rs` | `ReplicaProgress` | the leader keeps what each follower has acknowledged |
//!
//! # Modules, in reading order
//!
//! The core: [`protocol`] bytes ↔ requests and replies · [`store`] effects and the table · [`commands`] the
//! everyday commands · [`aof`] the log · [`engine`] the path of a request · [`clients`] the connections and their
//! output · [`server`] sockets and threads.
//!
//! More than one node: [`cluster`] this node's role, its link to the leader, its followers' progress ·
//! [`replication`] the log on its way to followers · [`failover`] threads and sockets around the election ·
//! [`pubsub`] messages and events about keys.
//!
//! Reference, to be read when needed: [`commands::extra`] rare commands · [`memory`] the limit and eviction ·
//! [`metrics`] counters and histograms · [`observe`] INFO, `/metrics`, SLOWLOG, TRACE, MONITOR · [`admin`] commands
//! about the server · [`config`] settings · [`cli`] tools for a data directory · [`client`] the client library,
//! which imports nothing of the server · [`rdb`] Redis's binary form, for DUMP and for `kvstore import`.
//!
//! Leaves, which any module may import: [`clock`], [`digits`], [`error`], [`file_error`], [`loading`],
//! [`lock`], [`random`], [`rarely`], [`replace`], [`resp`], [`shutdown`], [`signal`].
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
//! | `cluster` | the election; the file `node` | an event, with a timeout; the file's `fsync` | at shutdown, after the lead was handed over |
//! | `cluster-log` | beginning epochs | a job of `cluster`; the disk | with `cluster` |
//! | `peers` | the set of members that are dialled | another set | at shutdown |
//! | `peer-<n>` ≤ 16 | the connection to another member | its queue, `connect`, `write` | when the address is not wanted any more, or at shutdown |
//! | `peer-<n>-in` | answers on that connection | `read` | when the connection ends |
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
//! | `EVICTOR` | `MemoryState::evictor` | keys that may be evicted next | up to 16 evictions |
//! | `SYNCING` | `Segments::syncing` | who syncs, and who changes the segment | one `fdatasync`, or a restart of the log |
//! | `SHARD` | `Store::shards`, 256, ascending | a part of the table | one command, one EXEC, a part of a walk |
//! | `WRITER` | `Segments::writer` | the end of the log's file | one `write` |
//! | `PENDING` | `Appender::pending` | records that are not yet written | a memcpy |
//! | `OUTLINE` | `Appender::outline` | where each epoch begins; the cluster's members | a look-up |
//! | `FOLLOWERS` | `Progress::all` | the list of followers | a walk over it |
//! | `HELD` | `Held::delivering` | the order of messages that wait for a majority | sending them, which does not block |
//! | `FEEDS` | `Monitors::feeds` | the list of MONITOR clients | a memcpy to each |
//! | `LANE` | `Lane::state`, 16 | messages that wait to be sent | an entry |
//! | `PARKING` | `Parking::leaving` | the order in which parked replies leave | sending them, which does not block |
//! | `OUTBOX` | `Outbox::queue`, one per client | bytes that wait for the client | one `send` that does not block; a SUBSCRIBE |
//! | `LEAF` | all others, below | one value each | a look-up or an entry |
//! | `SIGNAL` | `Signal::lock` | the sleep of those who wait | no time |
//!
//! While a leaf is held, nothing but a signal may be taken. The leaves:
//!
//! - store and log: `Watched::keys` of each shard, `Health::error`, `Log::pins`, `SetAside::times`
//! - engine and server: `Persistence::term`, `Parking::waiting`, `Place::spare`, `Compactor::state`, `Clients::by_id`,
//!   `Client::labels`, `Blocked`, `Pause::pause`, `Pool::connection_tx`, `Shutdown::woken`, `Rarely`
//! - cluster and pubsub: `Role::state` and `figures`, `Cluster::rounds` and `recovering`, `Held::waiting`, `Freshness::awaited`,
//!   `Progress::claims`, `ReplicaProgress::state`, `PubSub::registry`
//! - failover: `Peers::table`, `Dialled::state`, `Services::state`
//! - reference: `Cell::Text` and `Limits` of each setting, `Metrics::errors` and `rates`, `Latency`, `RecentCommands`,
//!   `ObservedCommand::timeline`, `History::points`, `Feed::lines`, the status page's `listeners`
//! - client library: `Pool::state`, `Nodes::known`
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

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
pub mod aof;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod clients;
#[cfg(feature = "server")]
pub mod clock;
#[cfg(feature = "server")]
pub mod cluster;
#[cfg(feature = "server")]
pub mod commands;
#[cfg(feature = "server")]
pub mod config;
pub mod digits;
#[cfg(feature = "server")]
pub mod engine;
pub mod error;
#[cfg(feature = "server")]
pub mod failover;
#[cfg(feature = "server")]
pub mod file_error;
#[cfg(feature = "server")]
pub mod loading;
#[cfg(feature = "client")]
pub mod lock;
#[cfg(feature = "server")]
pub mod memory;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod observe;
pub mod protocol;
#[cfg(feature = "server")]
pub mod pubsub;
#[cfg(feature = "server")]
pub mod random;
#[cfg(feature = "server")]
pub mod rarely;
#[cfg(feature = "server")]
pub mod rdb;
#[cfg(feature = "server")]
pub mod replace;
#[cfg(feature = "server")]
pub mod replication;
pub mod resp;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod shutdown;
#[cfg(feature = "server")]
pub mod signal;
#[cfg(feature = "server")]
pub mod store;
