//! Messages and events about keys, as subscribers of both servers get them, byte for byte.
//!
//! - After each random command a mark is published, and the messages before the mark must be the same. So events have Redis's names and Redis's order, for each command of the vocabulary.
//! - Expired keys are apart: Redis also deletes them when they are read, ours goes to the sweeper then.
//!   Where a command writes, both tell of it at the same place.
//! - A few clients subscribe, publish, leave and do what they may not, in random order.
//!
//! Not compared: the order in which several patterns of one client get a message, and in which
//! UNSUBSCRIBE lists all names; in Redis it is that of a hash table.

use super::session::{Args, Session, read, show, words};
use super::{Generator, SEED_SHORT, oracle};
use crate::common::resp::{Resp, Value, command_line, encode, quote};
use crate::common::rng::{Rng, fresh_seed};
use crate::common::server::Server;
use crate::common::{note, number_from_env};

const COMMANDS_SHORT: u64 = 10_000;
const BATCH_LEN: usize = 50;
const STEPS_SHORT: u64 = 1_500;

fn commands() -> u64 {
    number_from_env("KVSTORE_DIFF_COMMANDS").unwrap_or(COMMANDS_SHORT)
}

fn seed() -> u64 {
    let is_long = std::env::var_os("KVSTORE_DIFF_COMMANDS").is_some();
    let default = if is_long { fresh_seed() } else { SEED_SHORT };
    let seed = number_from_env("KVSTORE_DIFF_SEED").unwrap_or(default);
    println!("KVSTORE_DIFF_SEED={seed}");
    seed
}

/// Two listeners that hear what is told of keys, and the marks.
struct Listeners {
    redis: Resp,
    subject: Resp,
}

impl Listeners {
    fn connect(redis_port: u16, subject_port: u16, protocol: u8) -> Listeners {
        let [redis, subject] = [redis_port, subject_port].map(|port| {
            let mut side = Resp::connect(port);
            if protocol == 3 {
                side.call(&["HELLO", "3"]);
            }
            side.call(&["SUBSCRIBE", "mark"]);
            side.call(&["PSUBSCRIBE", "__key*__:*"]);
            side
        });
        Listeners { redis, subject }
    }

    /// The messages that both have received up to the mark of this command.
    fn heard(&mut self, number: u64) -> [String; 2] {
        let end = Value::bulk(number.to_string());
        [&mut self.redis, &mut self.subject].map(|side| {
            let mut heard = String::new();
            loop {
                let message = read(side);
                if message.value.as_array().last() == Some(&end) {
                    return heard;
                }
                heard += &show(&message);
                heard.push('\n');
            }
        })
    }
}

fn mark(number: u64) -> Args {
    words(&format!("PUBLISH mark {number}"))
}

/// CLIENT KILL TYPE pubsub would end the listeners; SCAN with TYPE misses each expired key in Redis, which
/// has nothing to do with what is asked for.
fn is_left_out(args: &Args) -> bool {
    let is =
        |at: usize, word: &[u8]| args.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word));
    is(0, b"scan") || is(0, b"client") && is(3, b"pubsub")
}

fn compare_events(protocol: u8) {
    let Some(redis) = oracle() else { return };
    let subject = Server::start(&[]);
    let (seed, mut compared, mut told) = (seed(), 0, 0);
    let mut session = Session::new(redis.port(), subject.port(), protocol);
    session.compare(vec![words("CONFIG SET notify-keyspace-events KEg$enm")]);
    let mut listeners = Listeners::connect(redis.port(), subject.port(), protocol);
    let mut generator = Generator::new(Rng::new(seed), protocol);
    while compared < commands() && !session.has_enough_differences() {
        let batch: Vec<Args> = std::iter::repeat_with(|| generator.command())
            .filter(|args| !is_left_out(args))
            .take(BATCH_LEN)
            .collect();
        let number = |at: usize| compared + at as u64;
        let marked =
            batch.iter().enumerate().flat_map(|(at, args)| [args.clone(), mark(number(at))]);
        session.compare(marked.collect());
        for (at, args) in batch.iter().enumerate() {
            let [redis, ours] = listeners.heard(number(at));
            told += redis.lines().count();
            if redis != ours {
                session.report(args, "the same events", &redis, &ours);
            }
        }
        compared += batch.len() as u64;
    }
    session.assert_no_difference(seed);
    note(&format!("{compared} commands told of {told} events as in Redis"));
    assert!(told as u64 > compared / 2, "only {told} events of {compared} commands");
}

#[test]
fn events_about_keys_are_those_of_redis_in_resp2() {
    compare_events(2);
}

#[test]
fn events_about_keys_are_those_of_redis_in_resp3() {
    compare_events(3);
}

/// Each write command that may come across an expired key, `k` or `j`.
#[rustfmt::skip]
const WRITES_ON_EXPIRED: &[&str] = &[
    "SET k v", "SET k v EX 100", "SET k v NX", "SET k v XX", "SET k v GET", "SET k v KEEPTTL",
    "SETNX k v", "SETEX k 100 v", "GETSET k v", "GETDEL k", "GETEX k PERSIST", "MSET k 1 k 2 j 3",
    "MSETNX l 1 k 2 j 3", "APPEND k v", "SETRANGE k 2 v", "SETRANGE k 0 ", "INCR k", "INCRBYFLOAT k 1",
    "SETBIT k 7 1", "BITFIELD k SET u8 0 1", "DEL k live j k", "DEL live k", "UNLINK k",
    "RENAME live k", "RENAME k live", "RENAMENX live k", "RENAMENX k live", "COPY live k",
    "COPY live k REPLACE", "EXPIRE k 100", "PERSIST k", "BITOP NOT k live", "BITOP NOT k gone",
    "PEXPIREAT live 1", "GETEX live PXAT 1",
];

#[test]
fn expired_keys_are_told_of_where_redis_tells_of_them() {
    let Some(redis) = oracle() else { return };
    let subject = Server::start(&[]);
    let mut session = Session::new(redis.port(), subject.port(), 2);
    session.compare(vec![words("CONFIG SET notify-keyspace-events KEAn")]);
    let mut listeners = Listeners::connect(redis.port(), subject.port(), 2);
    for (number, line) in (0..).zip(WRITES_ON_EXPIRED) {
        let line: Args = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let before = ["FLUSHALL", "SET live 1", "SET k old PXAT 1", "SET j old PXAT 1"].map(words);
        session.compare([&before[..], &[line.clone(), mark(number)]].concat());
        let [redis, ours] = listeners.heard(number);
        assert!(redis.contains("new"), "the listener hears nothing");
        if redis != ours {
            session.report(&line, "the same events", &redis, &ours);
        }
    }
    session.assert_no_difference(0);
}

/// Names to listen to, some of which are patterns too.
const NAMES: &[&[u8]] = &[b"a", b"b", b"news", b"a b", b"\xff\r\n", b"*", b"n*", b"[ab]", b"?"];
const CLIENTS: [u8; 6] = [2, 2, 2, 2, 3, 3];

/// One client on both servers.
struct Pair {
    protocol: u8,
    redis: Resp,
    subject: Resp,
}

impl Pair {
    fn new(redis_port: u16, subject_port: u16, protocol: u8) -> Pair {
        let (redis, subject) = (Resp::connect(redis_port), Resp::connect(subject_port));
        let mut pair = Pair { protocol, redis, subject };
        pair.say_hello();
        pair
    }

    fn say_hello(&mut self) {
        for side in [&mut self.redis, &mut self.subject] {
            if self.protocol == 3 {
                side.call(&["HELLO", "3"]);
            }
        }
    }

    /// Sends a command, if any, and returns all that came before the answer to a PING after it.
    fn exchange(&mut self, args: Option<&Args>, step: u64) -> [Vec<Heard>; 2] {
        let mut bytes = vec![];
        args.into_iter().for_each(|args| encode(args, &mut bytes));
        let token = format!("step {step}");
        encode(&["PING", &token], &mut bytes);
        [&mut self.redis, &mut self.subject].map(|side| {
            side.send_raw(&bytes);
            let mut heard = vec![];
            loop {
                let value = side.read_reply();
                let is_end = match &value {
                    Value::Array(items) => items.last() == Some(&Value::bulk(&token)),
                    value => *value == Value::bulk(&token),
                };
                if is_end {
                    return heard;
                }
                heard.push(Heard { raw: side.last_raw().to_vec(), value });
            }
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Heard {
    raw: Vec<u8>,
    value: Value,
}

impl Heard {
    fn is(&self, kind: &str) -> bool {
        matches!(&self.value, Value::Array(items) | Value::Push(items)
            if items.first() == Some(&Value::bulk(kind)))
    }
}

/// In an order that both servers can be asked for.
fn in_order(mut heard: Vec<Heard>, args: Option<&Args>) -> Vec<Heard> {
    let verb = args.map_or(vec![], |args| args[0].to_ascii_lowercase());
    let leaves_all = args.is_some_and(|args| args.len() == 1) && verb.ends_with(b"unsubscribe");
    if leaves_all && heard.len() > 1 {
        for one in &mut heard {
            // Which name is the third from the end is a matter of the order.
            let digits = one.raw.len() - 4;
            one.raw.truncate(one.raw[..digits].iter().rposition(|b| *b == b':').unwrap_or(digits));
        }
        heard.sort_by(|a, b| a.raw.cmp(&b.raw));
    } else if heard.iter().filter(|one| one.is("pmessage")).count() > 1 {
        heard.sort_by(|a, b| a.raw.cmp(&b.raw));
    } else if args.is_some_and(|args| args.get(1).is_some_and(|word| word == b"CHANNELS"))
        && let Some(Heard { raw, value: Value::Array(names) }) = heard.first_mut()
    {
        names.sort();
        *raw = format!("{names:?}").into_bytes();
    }
    heard
}

fn any_step(rng: &mut Rng) -> Args {
    let mut args: Args = match rng.below(24) {
        0..=3 => words("SUBSCRIBE"),
        4 | 5 => words("PSUBSCRIBE"),
        6 | 7 => words("UNSUBSCRIBE"),
        8 => words("PUNSUBSCRIBE"),
        9 => return words(rng.pick(&["UNSUBSCRIBE", "PUNSUBSCRIBE"])),
        10 => return words("RESET"),
        11 => words("PUBSUB NUMSUB"),
        12 => return words(rng.pick(&["PUBSUB NUMPAT", "PUBSUB CHANNELS", "PUBSUB CHANNELS n*"])),
        13 => return words(rng.pick(&["GET k", "SET k v", "DEL k", "INCR n", "CLIENT GETNAME"])),
        14 => return words(rng.pick(&["SUBSCRIBE", "PUBLISH news", "PING a b", "CLIENT REPLY x"])),
        _ => return vec![b"PUBLISH".to_vec(), rng.pick(NAMES).to_vec(), rng.bytes(12)],
    };
    args.extend((0..=rng.below(3)).map(|_| rng.pick(NAMES).to_vec()));
    args
}

#[test]
fn a_crowd_of_subscribers_hears_what_it_would_hear_from_redis() {
    let Some(redis) = oracle() else { return };
    let subject = Server::start(&[]);
    let (seed, steps) =
        (seed(), number_from_env("KVSTORE_DIFF_COMMANDS").map_or(STEPS_SHORT, |n| n / 20));
    let mut rng = Rng::new(seed);
    let mut clients = CLIENTS.map(|protocol| Pair::new(redis.port(), subject.port(), protocol));
    for side in [redis.port(), subject.port()] {
        Resp::connect(side).call(&["CONFIG", "SET", "notify-keyspace-events", "KEA"]);
    }
    let (mut messages, mut history) = (0, vec![]);
    for step in 0..steps {
        let (actor, args) = (rng.below(CLIENTS.len()), any_step(&mut rng));
        history.push(format!("{actor}> {}", command_line(&args)));
        let first = std::iter::once((actor, Some(&args)));
        let others = (0..CLIENTS.len()).filter(|at| *at != actor).map(|at| (at, None));
        for (at, args) in first.chain(others) {
            let [redis, ours] = clients[at].exchange(args, step).map(|heard| in_order(heard, args));
            messages += redis.iter().filter(|one| one.is("message") || one.is("pmessage")).count();
            let shown = |heard: &[Heard]| {
                heard.iter().map(|one| quote(&one.raw)).collect::<Vec<_>>().join("\n    ")
            };
            let raw = |heard: &[Heard]| heard.iter().map(|one| one.raw.clone()).collect::<Vec<_>>();
            assert!(
                raw(&redis) == raw(&ours),
                "KVSTORE_DIFF_SEED={seed}, step {step}: client {at} hears\n  from Redis\n    {}\n  \
                 from kvstore\n    {}\nafter\n{}",
                shown(&redis),
                shown(&ours),
                history[history.len().saturating_sub(30)..].join("\n")
            );
        }
        if args == words("RESET") {
            clients[actor].say_hello();
        }
    }
    note(&format!("{steps} steps of subscribers and publishers, {messages} messages as in Redis"));
    assert!(messages as u64 > steps / 2, "only {messages} messages");
}
