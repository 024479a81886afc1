//! Two connections that get the same commands, and a record of these commands.
//!
//! After a difference the two servers may hold different data, and all that follows would differ
//! too. So only the first difference of a batch is kept, both servers are emptied, and the run goes
//! on: one run finds many faults.

use super::compare::{Compare, Reply};
use super::deviations::{DEVIATIONS, find, is_word};
use super::transactions::COMMANDS;
use super::vocabulary::KEYS;
use crate::common::note;
use crate::common::resp::{Resp, Value, command_line, encode, quote};
use crate::common::server::is_stand_in;
use kvstore::admin::commands;
use std::collections::{BTreeSet, VecDeque};

pub type Args = Vec<Vec<u8>>;

/// The commands that may have ended a MULTI.
const ENDS_OF_A_QUEUE: [&str; 3] = ["EXEC", "DISCARD", "RESET"];

const DIFFERENCES_MAX: usize = 25;
const HISTORY_LEN_MAX: usize = 5000;
const HISTORY_SHOWN_MAX: usize = 100;
const REPLY_SHOWN_MAX: usize = 600;

/// A command from a line of plain words.
pub fn words(line: &str) -> Args {
    line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
}

pub struct Session {
    protocol: u8,
    pub redis: Resp,
    pub subject: Resp,
    /// Commands since both servers were last emptied, with their place in the run.
    history: VecDeque<(String, Args)>,
    sent: usize,
    /// The connection that sends now, if there are several.
    pub speaker: String,
    /// The commands queued on this connection since MULTI.
    pub queued: Vec<Args>,
    /// The number of EXECs that ran, were refused for a watched key, or for an error.
    pub transactions: [usize; 3],
    /// Readable reports of what was found, no two for the same command with the same wrong reply.
    differences: Vec<String>,
    seen: BTreeSet<String>,
    /// The number of replies that were errors.
    errors: usize,
    /// The number of commands that fell under a row of the list of deviations.
    inexact: usize,
    /// Which rows that were.
    rows_met: BTreeSet<usize>,
}

impl Session {
    pub fn new(redis_port: u16, subject_port: u16, protocol: u8) -> Session {
        let mut session = Session {
            protocol,
            redis: Resp::connect(redis_port),
            subject: Resp::connect(subject_port),
            history: VecDeque::new(),
            sent: 0,
            speaker: String::new(),
            queued: vec![],
            transactions: [0; 3],
            differences: vec![],
            seen: BTreeSet::new(),
            inexact: 0,
            errors: 0,
            rows_met: BTreeSet::new(),
        };
        session.open();
        session
    }

    fn open(&mut self) {
        // An expired key that one server has swept and the other has not would show in DBSIZE.
        let mut opening = vec![words("DEBUG SET-ACTIVE-EXPIRE 0")];
        if self.protocol == 3 {
            opening.push(words("HELLO 3"));
        }
        self.compare(opening);
    }

    /// Begins anew with both servers, one of which has been restarted: a connection has a name and
    /// other things of its own, and those end with it.
    pub fn reconnect(&mut self, redis_port: u16, subject_port: u16) {
        self.redis = Resp::connect(redis_port);
        self.subject = Resp::connect(subject_port);
        self.open();
    }

    /// Sends a batch to both and compares the replies, up to the first difference.
    pub fn compare(&mut self, batch: Vec<Args>) {
        let (mut for_redis, mut for_subject) = (vec![], vec![]);
        for args in &batch {
            encode(&as_sent_to_redis(args), &mut for_redis);
            encode(&as_sent_to_subject(args), &mut for_subject);
        }
        self.redis.send_raw(&for_redis);
        self.subject.send_raw(&for_subject);

        let mut differs = false;
        for args in batch {
            self.redis.expect_reply_to(&args);
            self.subject.expect_reply_to(&args);
            let redis = as_if_unknown(&args, read(&mut self.redis));
            let mut ours = read(&mut self.subject);
            if is_stand_in() {
                ours = as_if_unknown(&args, ours);
            }
            differs = differs || !self.agree(&args, &redis, &ours);
            self.remember(args);
        }
        if differs {
            self.empty_both();
        }
    }

    /// The answer to EXEC has elements, each of which is the answer to a command.
    fn agree(&mut self, args: &Args, redis: &Reply, ours: &Reply) -> bool {
        let is_queued = |reply: &Reply| reply.raw == b"+QUEUED\r\n";
        if is_queued(redis) && is_queued(ours) {
            self.queued.push(args.clone());
            return true;
        }
        if !ENDS_OF_A_QUEUE.iter().any(|name| is_word(&args[0], name)) {
            return self.agree_on_one(args, redis, ours);
        }
        let queued = std::mem::take(&mut self.queued);
        if args[0] == b"EXEC" {
            let code = |text: &str| text.starts_with("EXECABORT");
            let is_aborted = matches!(&redis.value, Value::Error(text) if code(text));
            self.transactions[0] += usize::from(!queued.is_empty() && redis.raw[0] == b'*');
            self.transactions[1] += usize::from(redis.value == Value::Null);
            self.transactions[2] += usize::from(is_aborted);
        }
        let [redis_has, we_have] = [redis, ours].map(|reply| reply.elements(self.protocol));
        if queued.is_empty() || redis_has.len() != queued.len() || we_have.len() != queued.len() {
            return self.agree_on_one(args, redis, ours);
        }
        let pairs = redis_has.iter().zip(&we_have);
        queued.iter().zip(pairs).all(|(args, (redis, ours))| self.agree_on_one(args, redis, ours))
    }

    fn agree_on_one(&mut self, args: &Args, redis: &Reply, ours: &Reply) -> bool {
        let (row, way) = (find(args), way(args));
        self.rows_met.extend(row);
        self.inexact += usize::from(row.is_some());
        self.errors += usize::from(redis.value.is_error());
        let agrees = way.agree(redis, ours);
        if !agrees {
            let reason = row.map_or("not among the deviations", |row| DEVIATIONS[row].reason);
            self.report(args, &format!("{way:?} ({reason})"), &show(redis), &show(ours));
        }
        agrees
    }

    pub fn remember(&mut self, args: Args) {
        self.history.push_back((format!("{:>8}  {}", self.sent, self.speaker), args));
        self.sent += 1;
        if self.history.len() > HISTORY_LEN_MAX {
            self.history.pop_front();
        }
    }

    pub fn empty_both(&mut self) {
        self.queued.clear();
        for side in [&mut self.redis, &mut self.subject] {
            side.call(&["DISCARD"]);
            assert_eq!(side.call(&["FLUSHALL"]), Value::ok());
        }
        self.history.clear();
    }

    pub fn report(&mut self, args: &Args, way: &str, redis: &str, ours: &str) {
        let name = String::from_utf8_lossy(&args[0]).to_uppercase();
        // Errors tell one fault from another; other replies differ by their data as well.
        let is_error = |shown: &str| shown.trim_start_matches('"').starts_with('-');
        let kind = format!("{name} {} {}", is_error(redis), if is_error(ours) { ours } else { "" });
        if !self.seen.insert(kind) {
            return;
        }
        let mut report = format!("{}\n", command_line(args));
        report += &format!(
            "  index   {}, compared as {way}\n  Redis   {redis}\n  kvstore {ours}\n",
            self.sent
        );
        for (index, earlier) in self.history_of(args) {
            report += &format!("    {index}{}\n", command_line(earlier));
        }
        self.differences.push(report);
    }

    /// The last commands that touched a key of this one, or all keys, and what else befell the
    /// servers, which stands in the history in brackets.
    fn history_of(&self, args: &Args) -> Vec<&(String, Args)> {
        let keys: Vec<_> = args[1..].iter().filter(|arg| KEYS.contains(&arg.as_slice())).collect();
        let is_of_all = |args: &Args| COMMANDS.iter().any(|name| is_word(&args[0], name));
        let touches = |earlier: &Args| {
            is_of_all(args)
                || is_of_all(earlier)
                || earlier[0].to_ascii_uppercase().starts_with(b"FLUSH")
                || earlier[0].starts_with(b"(")
                || earlier[1..].iter().any(|arg| keys.contains(&arg))
        };
        let touching: Vec<_> =
            self.history.iter().filter(|(_, earlier)| touches(earlier)).collect();
        touching[touching.len().saturating_sub(HISTORY_SHOWN_MAX)..].to_vec()
    }

    /// Compares all that the servers hold. Each part is an ordinary command, so the list of
    /// deviations applies.
    pub fn compare_state(&mut self) {
        self.compare(vec![words("KEYS *")]);
        let keys = self.redis.call(&["KEYS", "*"]);
        for key in keys.as_array().iter().map(Value::as_bytes) {
            let about_key = ["TYPE", "STRLEN", "GET", "PEXPIRETIME", "PTTL", "OBJECT ENCODING"];
            let command = |line| words(line).into_iter().chain([key.to_vec()]).collect();
            self.compare(about_key.map(command).to_vec());
        }
    }

    pub fn has_enough_differences(&self) -> bool {
        self.differences.len() >= DIFFERENCES_MAX
    }

    pub fn take_differences(&mut self) -> Vec<String> {
        self.seen.clear();
        std::mem::take(&mut self.differences)
    }

    pub fn assert_no_difference(&mut self, seed: u64) {
        let found = self.take_differences();
        let reports = found.join("\n");
        assert!(
            found.is_empty(),
            "{} differences, KVSTORE_DIFF_SEED={seed}:\n\n{reports}",
            found.len()
        );
    }

    /// A row that nothing falls under any more is a leftover, or a sign that the generator has lost
    /// a command.
    pub fn assert_each_deviation_was_met(&self) {
        let rows = DEVIATIONS.iter().enumerate();
        let unmet: Vec<_> =
            rows.filter(|(i, _)| !self.rows_met.contains(i)).map(|(_, row)| row.command).collect();
        assert!(
            unmet.is_empty(),
            "rows of deviations.rs that {} commands did not meet: {unmet:?}",
            self.sent
        );
        note(&format!(
            "{} commands compared with Redis, {} of them errors, all but {} byte for byte",
            self.sent, self.errors, self.inexact
        ));
    }
}

/// Redis must not execute what is an unknown command to us: it is sent a name of the same length
/// that it has not either.
fn as_sent_to_redis(args: &Args) -> Args {
    let mut args = args.clone();
    if way(&args) == Compare::AsUnknown {
        let last = args[0].last_mut().expect("a command has a name");
        *last = b'_';
    }
    args
}

fn as_sent_to_subject(args: &Args) -> Args {
    if is_stand_in() { as_sent_to_redis(args) } else { args.clone() }
}

/// Puts the name that was meant into the error that Redis gave for the one it was sent, and after it why
/// there is no such command.
fn as_if_unknown(args: &Args, mut reply: Reply) -> Reply {
    if way(args) == Compare::AsUnknown {
        // The name is the first thing that the error quotes; what else it quotes may be any bytes.
        let sent_name = as_sent_to_redis(args).swap_remove(0);
        let place = reply.raw.windows(sent_name.len()).position(|bytes| bytes == sent_name);
        if let Some(at) = place {
            reply.raw[at..at + sent_name.len()].copy_from_slice(&args[0]);
        }
        let reason = commands().why_absent(&args[0]).filter(|_| !is_stand_in());
        if let Some(reason) = reason.filter(|_| reply.raw.starts_with(b"-ERR unknown command")) {
            let end = reply.raw.len() - 2;
            reply.raw.splice(end..end, format!("({reason})").bytes());
        }
    }
    reply
}

fn way(args: &Args) -> Compare {
    find(args).map_or(Compare::Exact, |row| DEVIATIONS[row].compare)
}

pub fn read(side: &mut Resp) -> Reply {
    let value = side.read_reply();
    Reply { value, raw: side.last_raw().to_vec() }
}

pub fn show(reply: &Reply) -> String {
    quote(&reply.raw[..reply.raw.len().min(REPLY_SHOWN_MAX)])
}
