//! Whole sessions: bytes through the decoder and the engine, as a connection's thread does it, without
//! the socket.
//!
//! The engine is told to shut down before it gets its first request. It still executes, but whatever
//! would wait (DEBUG SLEEP, WAIT, the delay after a wrong password) returns at once, SHUTDOWN asks for
//! what is already so, and each CLIENT PAUSE is ended. Thus no command has to be left out.

use super::common::resp::{command_line, encode};
use super::common::rng::Rng;
use super::grammar::Grammar;
use super::replies::{check_resp, check_text};
use super::words::KEYS;
use super::{Replay, cases, first_seed};
use kvstore::admin::commands;
use kvstore::clock::UnixMillis;
use kvstore::commands::Shape;
use kvstore::commands::text;
use kvstore::config::Config;
use kvstore::engine::Ending;
use kvstore::engine::Engine;
use kvstore::engine::Mode;
use kvstore::engine::ReplyMode;
use kvstore::engine::Session;
use kvstore::protocol::Args;
use kvstore::protocol::Decoder;
use kvstore::protocol::Dialect;
use kvstore::protocol::Limits;
use kvstore::protocol::Reply;
use kvstore::protocol::Step;
use kvstore::protocol::quote;
use std::collections::BTreeSet;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use tempfile::TempDir;

/// Requests that share an engine.
const ROUND: u64 = 1000;
const SESSIONS: usize = 3;
/// Values are small by far, so more than this is a lot of them.
const BYTES_MAX: usize = 4 << 20;
const LIMITS: Limits = Limits { bulk_len_max: 1 << 20, unauthenticated: false };

/// Settings that CONFIG SET must not change: that would lift the limits that keep a run small, or lock
/// us out.
const FIXED_SETTINGS: &[(&[u8], &[u8])] = &[(b"proto-max-bulk-len", b"1mb"), (b"requirepass", b"")];

struct Fuzzer<'g> {
    grammar: &'g Grammar,
    rng: Rng,
    replay: Replay,
    engine: Engine,
    /// The engine's directory.
    dir: TempDir,
    listener: TcpListener,
    /// With the far ends of their sockets.
    sessions: Vec<(Session, TcpStream)>,
    /// As the clock of the world, but it may leap.
    now: UnixMillis,
    reply: Reply,
    /// Rows that have run without an error.
    served: BTreeSet<&'static str>,
}

impl<'g> Fuzzer<'g> {
    fn new(seed: u64, grammar: &'g Grammar) -> Fuzzer<'g> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let engine = open(dir.path(), if seed.is_multiple_of(2) { "yes" } else { "no" });
        let mut fuzzer = Fuzzer {
            grammar,
            rng: Rng::new(seed),
            replay: Replay::new(seed),
            engine,
            dir,
            listener: TcpListener::bind("127.0.0.1:0").expect("a free port"),
            sessions: vec![],
            now: UnixMillis::now(),
            reply: Reply::new(Dialect::Resp2),
            served: BTreeSet::new(),
        };
        fuzzer.engine.clock.stop_at(fuzzer.now);
        for _ in 0..SESSIONS {
            let session = fuzzer.connect();
            fuzzer.sessions.push(session);
        }
        fuzzer
    }

    fn connect(&self) -> (Session, TcpStream) {
        let peer = TcpStream::connect(self.listener.local_addr().expect("an address"));
        let (socket, addr) = self.listener.accept().expect("a connection");
        let local_addr = socket.local_addr().expect("an address");
        let client = self.engine.clients.register(socket, addr, local_addr, usize::MAX, 0);
        (Session::new(&self.engine, client.expect("no limit")), peer.expect("a connection"))
    }

    /// One request of one of the sessions.
    fn step(&mut self) {
        let at = self.rng.below(SESSIONS);
        read_away(&mut self.sessions[at].1);
        if self.rng.chance(20) {
            self.now.0 += self.rng.next_u64() % 5000;
            self.engine.clock.stop_at(self.now);
        }
        let words = self.words(at);
        self.replay.note(format!("{at}> {}", command_line(&words)));
        let mut wire = vec![];
        let is_intact = self.put_on_wire(&words, &mut wire);
        let (session, _) = &mut self.sessions[at];
        self.engine.begin_batch(session);
        // Of a subscriber most commands are refused.
        if session.resp != Dialect::Resp3 && self.rng.chance(20) {
            session.subscriptions.leave_all();
        }
        let is_over = self.receive(at, &wire, is_intact.then_some(&words));
        let is_open = self.engine.pass_gate(&mut self.sessions[at].0, &mut self.reply);
        assert!(is_open.expect("within no limit"), "parked");
        if is_over || self.sessions[at].0.client.is_killed() {
            let new = self.connect();
            let (old, _) = std::mem::replace(&mut self.sessions[at], new);
            drop(self.engine.clients.hold(old.client));
        }
        self.engine.config.set_many(FIXED_SETTINGS).expect("valid settings");
        // Or what comes next is refused: at the end of a server nothing runs that a pause holds back.
        if words[0].eq_ignore_ascii_case(b"client") || words[0].eq_ignore_ascii_case(b"exec") {
            assert_eq!(self.run_alone(&[b"CLIENT", b"UNPAUSE"]), b"+OK\r\n");
        }
        if self.engine.store.totals().bytes > BYTES_MAX {
            assert_eq!(self.run_alone(&[b"FLUSHALL"]), b"+OK\r\n");
        }
    }

    /// The next command of a session. A transaction is not left open for long: its commands are not run.
    fn words(&mut self, at: usize) -> Vec<Vec<u8>> {
        let queues = matches!(self.sessions[at].0.mode, Mode::Queueing(_));
        if queues && self.rng.chance(15) {
            return vec![b"EXEC".to_vec()];
        }
        self.grammar.call(&mut self.rng)
    }

    /// Writes a request as a client would; returns whether it must be read back as it is.
    fn put_on_wire(&mut self, words: &[Vec<u8>], wire: &mut Vec<u8>) -> bool {
        match self.rng.below(10) {
            // As typed by somebody who has never heard of quotes.
            0 => {
                wire.extend(words.join(&b" "[..]));
                wire.extend(b"\r\n");
                false
            }
            1..=3 => {
                let line: Vec<String> = words.iter().map(|word| quote(word)).collect();
                wire.extend(line.join(" ").bytes().chain(*b"\n"));
                true
            }
            _ => {
                encode(words, wire);
                true
            }
        }
    }

    /// Decodes and runs all that the wire holds; returns whether the session has ended.
    fn receive(&mut self, at: usize, wire: &[u8], expected: Option<&Vec<Vec<u8>>>) -> bool {
        let mut decoder = Decoder::default();
        let mut start = 0;
        loop {
            let waiting = &wire[start..];
            start += match decoder.step(waiting, LIMITS) {
                Step::NeedMore | Step::Fatal(_) if expected.is_some() => {
                    panic!("it is not decoded")
                }
                Step::NeedMore => return false,
                Step::Fatal(_) => return true,
                Step::Skip(used) | Step::BadLine(used, _) => used,
                Step::Resp(used) => {
                    let dialect = self.sessions[at].0.resp;
                    self.run(at, decoder.args(waiting), dialect, expected);
                    used
                }
                Step::Text(used) => {
                    let words = decoder.words();
                    match text::arguments(&self.engine.commands, decoder.line(), words) {
                        Ok(spans) => {
                            self.run(at, decoder.line_args(&spans), Dialect::Text, expected);
                        }
                        Err(failure) => assert!(expected.is_none(), "{failure}"),
                    }
                    used
                }
            };
            if !matches!(self.sessions[at].0.ending, Ending::None) {
                return true;
            }
            if start == wire.len() {
                return false;
            }
        }
    }

    fn run(
        &mut self,
        at: usize,
        args: Args<'_>,
        dialect: Dialect,
        expected: Option<&Vec<Vec<u8>>>,
    ) {
        if let Some(words) = expected {
            assert!(args.from(0).eq(words.iter().map(Vec::as_slice)), "decoded to something else");
        }
        let session = &mut self.sessions[at].0;
        let mode_before = session.reply_mode;
        self.reply.set_dialect(dialect);
        self.engine.execute(session, args, &mut self.reply);
        let bytes = self.reply.take();
        let may_be_silent = mode_before != ReplyMode::On
            || session.reply_mode != ReplyMode::On
            || matches!(session.ending, Ending::Now | Ending::HandOver(_))
            || (matches!(session.ending, Ending::AfterReply) && args.is(0, "shutdown"))
            || is_confirmed_by_itself(args);
        if may_be_silent && bytes.is_empty() {
            self.served.extend(self.engine.commands.find(&args[0]).map(|row| row.command.name));
            return;
        }
        let checked = match (dialect, session.resp) {
            (Dialect::Text, _) => check_text(&bytes),
            (_, Dialect::Resp3) => check_resp(&bytes, 3),
            _ => check_resp(&bytes, 2),
        };
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(1000)]);
        checked.unwrap_or_else(|why| panic!("{why}, in {dialect:?}: {shown:?}"));
        if dialect != Dialect::Text && bytes[0] != b'-' && bytes != b"+QUEUED\r\n" {
            self.served.extend(self.engine.commands.resolve(args).ok().map(|row| row.command.name));
        }
    }

    /// A request of a client that nothing else is known of, and its reply.
    fn run_alone(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let (mut session, _peer) = self.connect();
        let mut wire = vec![];
        encode(words, &mut wire);
        let mut decoder = Decoder::default();
        assert!(matches!(decoder.step(&wire, LIMITS), Step::Resp(_)));
        self.reply.set_dialect(Dialect::Resp2);
        self.engine.execute(&mut session, decoder.args(&wire), &mut self.reply);
        let is_open = self.engine.pass_gate(&mut session, &mut self.reply);
        assert!(is_open.expect("within no limit"), "parked");
        drop(self.engine.clients.hold(session.client));
        self.reply.take()
    }

    /// All that the store holds, as far as the calls could have changed it.
    fn state(&mut self) -> Vec<(String, String)> {
        let count = self.run_alone(&[b"DBSIZE"]);
        let mut state = vec![("DBSIZE".to_owned(), quote(&count))];
        for key in KEYS {
            for about in ["GET", "PEXPIRETIME"] {
                let reply = self.run_alone(&[about.as_bytes(), key]);
                state.push((format!("{about} {}", quote(key)), quote(&reply)));
            }
        }
        state
    }

    /// Ends the engine and starts another on what the first left on disk.
    fn restart(mut self) -> Fuzzer<'g> {
        self.sessions.clear();
        drop(self.engine);
        self.engine = open(self.dir.path(), "yes");
        self.engine.clock.stop_at(self.now);
        self
    }
}

/// SUBSCRIBE and its kin answer past the reply buffer.
fn is_confirmed_by_itself(args: Args<'_>) -> bool {
    ["subscribe", "unsubscribe", "psubscribe", "punsubscribe"].iter().any(|name| args.is(0, name))
}

/// Messages and confirmations, so that none of them is cut off for not reading them.
fn read_away(peer: &mut TcpStream) {
    peer.set_nonblocking(true).expect("a socket option");
    let mut scrap = [0; 16 << 10];
    while peer.read(&mut scrap).is_ok_and(|n| n > 0) {}
}

/// An engine that executes and never waits; see the module's header.
fn open(dir: &Path, appendonly: &str) -> Engine {
    let dir = dir.to_str().expect("a path of characters");
    let options = [
        "--proto-max-bulk-len=1mb".to_owned(),
        format!("--appendonly={appendonly}"),
        format!("--dir={dir}"),
        "--appendfsync=no".to_owned(),
    ];
    let config = Config::load(&options, std::iter::empty()).expect("valid options");
    let engine = Engine::open(config, commands(), Default::default()).expect("the log is readable");
    engine.shutdown.request();
    engine
}

#[test]
fn every_request_gets_one_whole_reply_and_none_ends_the_server() {
    let grammar = Grammar::new();
    let first = first_seed();
    println!("KVSTORE_FUZZ_SEED={first}");
    for round in 0..cases().div_ceil(ROUND) {
        let mut fuzzer = Fuzzer::new(first.wrapping_add(round), &grammar);
        (0..ROUND).for_each(|_| fuzzer.step());
        if fuzzer.engine.persistence.is_some() {
            let before = fuzzer.state();
            assert_eq!(fuzzer.restart().state(), before, "after a restart");
        }
    }
}

/// The above finds nothing if its calls are all refused at the door.
#[test]
fn most_commands_are_reached_behind_their_checks() {
    /// Those that need what does not exist here, such as a configuration file, another client's
    /// address, or a log; and SHUTDOWN, which answers nothing.
    const MISSED_MAX: usize = 12;
    let grammar = Grammar::new();
    let mut fuzzer = Fuzzer::new(0, &grammar);
    (0..20 * ROUND).for_each(|_| fuzzer.step());
    let rows = fuzzer.engine.commands.rows().iter();
    let runnable = rows.filter(|row| row.shape != Shape::Container);
    let missed: Vec<&str> =
        runnable.map(|row| row.name).filter(|name| !fuzzer.served.contains(name)).collect();
    println!("never ran without an error: {missed:?}");
    assert!(missed.len() <= MISSED_MAX, "never ran without an error: {missed:?}");
}
