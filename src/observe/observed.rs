//! Commands that are kept to be looked at: the slow ones, and the samples of TRACE.
//!
//! An entry exists as soon as its command has run. Its time at the gate and at the socket is filled in later:
//! SLOWLOG GET in the same pipeline shows the entry, and a while later also how long the disk took.

use crate::aof::stats::Stages;
use crate::clients::Client;
use crate::clients::socket::Addr;
use crate::clock::{Stopwatch, UnixMillis};
use crate::commands::{Secrets, Spec};
use crate::config;
use crate::lock::Mutex;
use crate::metrics::timeline::{Step, Timeline};
use crate::protocol::{Args, Reply, quote};
use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

const REDACTED: &[u8] = b"(redacted)";

/// How much of a command is shown: the rest of its words, and of a word, is counted.
pub(super) struct Shortening {
    pub words_max: usize,
    pub word_bytes_max: usize,
}

/// Of commands that are kept, as in Redis.
pub(super) const KEPT: Shortening = Shortening { words_max: 32, word_bytes_max: 128 };

/// A command that has run and may be kept.
#[derive(Debug)]
pub(super) struct Ran {
    pub command: &'static str,
    pub words: Words,
    pub ended: Stopwatch,
    pub timeline: Timeline,
}

/// A command that is kept.
#[derive(Debug)]
pub struct ObservedCommand {
    /// Counts from 0.
    pub id: u64,
    /// When it ended.
    pub at: UnixMillis,
    /// Its row's name.
    pub command: &'static str,
    /// Its words, shortened.
    pub words: Words,
    /// The address of its client.
    pub addr: Addr,
    /// That client's name.
    pub name: String,
    /// Started when it ended.
    ended: Stopwatch,
    timeline: Mutex<Timeline>,
}

impl ObservedCommand {
    /// Where its time went, so far.
    pub fn timeline(&self) -> Timeline {
        *self.timeline.lock()
    }

    /// Its time for SLOWLOG in microseconds: until it was as safe as promised.
    pub fn micros(&self) -> u64 {
        let timeline = self.timeline();
        (timeline.total() - timeline.of(Step::Reply)) / 1000
    }

    /// Its batch has passed the gate.
    pub fn pass_gate(&self, now: Stopwatch, stages: Stages) {
        let timeline = &mut *self.timeline.lock();
        timeline.pass_gate(now.since(&self.ended), stages.write, stages.fsync);
        timeline.records = stages.records;
    }

    /// Its reply was handed to the kernel, in so many nanoseconds.
    pub fn sent(&self, nanos: u64) {
        self.timeline.lock().add(Step::Reply, nanos);
    }

    /// For programs: Redis's six elements, and the timeline if it is wanted.
    fn write(&self, reply: &mut Reply, with_timeline: bool) {
        reply.array(6 + usize::from(with_timeline));
        reply.int(self.id as i64);
        reply.int(self.at.seconds() as i64);
        reply.int(self.micros() as i64);
        let words = self.words.iter();
        reply.array(words.len());
        words.for_each(|word| reply.bulk(word));
        reply.bulk(self.addr.to_string().as_bytes());
        reply.bulk(self.name.as_bytes());
        if with_timeline {
            write_timeline(reply, &self.timeline());
        }
    }

    /// For people: two lines.
    fn describe(&self) -> String {
        let words: Vec<String> = self.words.iter().map(as_typed).collect();
        let (at, micros, words) = (self.at.utc(), self.micros(), words.join(" "));
        let name = if self.name.is_empty() { "" } else { " " };
        format!(
            "{}) {at} {micros} µs {}{name}{}: {words}\n   {}\n",
            self.id,
            self.addr,
            self.name,
            self.timeline().line()
        )
    }
}

/// The answer of SLOWLOG GET and TRACE LIST.
pub fn write_all(
    all: &[Arc<ObservedCommand>],
    reply: &mut Reply,
    with_timeline: bool,
    as_text: bool,
) {
    if as_text {
        let mut page = String::new();
        for one in all {
            page += &one.describe();
            // Many entries are not one value, though they are one page.
            if !reply.fits(page.len()) {
                return;
            }
        }
        return reply.page(&page);
    }
    reply.array(all.len());
    all.iter().for_each(|one| one.write(reply, with_timeline));
}

/// A timeline for programs: microseconds by step, then what else is known.
pub fn write_timeline(reply: &mut Reply, timeline: &Timeline) {
    let steps = timeline.micros();
    reply.map(steps.len() + 2);
    for (name, micros) in steps {
        reply.bulk(name.as_bytes());
        reply.double(micros);
    }
    for (name, number) in [("seq", timeline.seq), ("records", timeline.records)] {
        reply.bulk(name.as_bytes());
        reply.int(number as i64);
    }
}

/// A word as one could have typed it.
pub(crate) fn as_typed(word: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
    match std::str::from_utf8(word) {
        Ok(text) if !word.is_empty() && word.iter().all(plain) => text.to_string(),
        _ => quote(word),
    }
}

/// The newest of the commands observed.
#[derive(Debug, Default)]
pub struct RecentCommands(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    newest_first: VecDeque<Arc<ObservedCommand>>,
    next_id: u64,
}

impl RecentCommands {
    /// Adds one and forgets those beyond `max`.
    pub(super) fn add(&self, max: usize, client: &Client, ran: Ran) -> Arc<ObservedCommand> {
        let Ran { command, words, ended, timeline } = ran;
        let (name, addr, at) = (client.labels.lock().name.clone(), client.addr, UnixMillis::now());
        let timeline = Mutex::new(timeline);
        let mut entries = self.0.lock();
        let id = entries.next_id;
        let new = ObservedCommand { id, at, command, words, addr, name, ended, timeline };
        let new = Arc::new(new);
        entries.next_id += 1;
        entries.newest_first.push_front(Arc::clone(&new));
        let kept = max.min(entries.newest_first.len());
        let _forgotten = entries.newest_first.split_off(kept);
        // They are freed after the lock.
        drop(entries);
        new
    }

    /// The newest ones, at most `count`.
    pub fn newest(&self, count: usize) -> Vec<Arc<ObservedCommand>> {
        self.0.lock().newest_first.iter().take(count).cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.lock().newest_first.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets them.
    pub fn clear(&self) {
        self.0.lock().newest_first.clear();
    }
}

/// A request's words, shortened, without its secrets. Kept in two buffers that are used again.
#[derive(Clone, Debug, Default)]
pub struct Words {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Words {
    /// Those of this call.
    pub(super) fn of(command: &Spec, args: Args<'_>, to: &Shortening) -> Words {
        let mut words = Words::default();
        words.fill(command, args, to);
        words
    }

    /// Replaces them by those of this call.
    pub(super) fn fill(&mut self, command: &Spec, args: Args<'_>, to: &Shortening) {
        self.bytes.clear();
        self.ends.clear();
        let whole = if args.len() > to.words_max { to.words_max - 1 } else { args.len() };
        for (index, word) in args.from(0).take(whole).enumerate() {
            let word = shown(command, args, index, word);
            let len = word.len().min(to.word_bytes_max);
            self.bytes.extend_from_slice(&word[..len]);
            if len < word.len() {
                self.remark(format_args!("... ({} more bytes)", word.len() - len));
            }
            self.ends.push(self.bytes.len());
        }
        if whole < args.len() {
            self.remark(format_args!("... ({} more arguments)", args.len() - whole));
            self.ends.push(self.bytes.len());
        }
    }

    fn remark(&mut self, remark: std::fmt::Arguments<'_>) {
        self.bytes.write_fmt(remark).expect("writing to a Vec does not fail");
    }

    /// One after another.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let start = |at: usize| if at == 0 { 0 } else { self.ends[at - 1] };
        self.ends.iter().enumerate().map(move |(at, end)| &self.bytes[start(at)..*end])
    }
}

/// A word of a call, as others may see it: passwords are hidden, as in Redis.
fn shown<'a>(command: &Spec, args: Args<'a>, index: usize, word: &'a [u8]) -> &'a [u8] {
    let is_secret = match command.secrets {
        Secrets::None => false,
        Secrets::All => index > 0,
        Secrets::AfterAuth => (1..=2).any(|back| index > back + 1 && args.is(index - back, "auth")),
        Secrets::Settings => index > 2 && index % 2 == 1 && config::is_secret(&args[index - 1]),
    };
    if is_secret { REDACTED } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Span;

    fn words(request: &[&str]) -> Vec<String> {
        let (mut bytes, mut spans) = (vec![], vec![]);
        for word in request {
            let start = bytes.len();
            bytes.extend_from_slice(word.as_bytes());
            spans.push(Span { start, end: bytes.len() });
        }
        let args = Args::new(&bytes, &spans);
        let commands = crate::admin::commands();
        let words = Words::of(commands.lookup(args).expect("a command").command, args, &KEPT);
        words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    #[test]
    fn long_calls_are_shortened_as_in_redis() {
        let long = "x".repeat(130);
        assert_eq!(words(&["SET", "k", &long])[2], "x".repeat(128) + "... (2 more bytes)");
        let many: Vec<&str> = std::iter::once("DEL").chain(vec!["k"; 32]).collect();
        let shown = words(&many);
        assert_eq!((shown.len(), shown[31].as_str()), (32, "... (2 more arguments)"));
        assert_eq!(words(&many[..32]).len(), 32);
        assert_eq!(words(&many[..32])[31], "k");
    }

    #[test]
    fn secrets_are_not_kept() {
        assert_eq!(words(&["AUTH", "a", "b"]), ["AUTH", "(redacted)", "(redacted)"]);
        let hello = ["HELLO", "3", "AUTH", "u", "p", "SETNAME", "n"];
        let shown = ["HELLO", "3", "AUTH", "(redacted)", "(redacted)", "SETNAME", "n"];
        assert_eq!(words(&hello), shown);
        let config = ["CONFIG", "SET", "hz", "1", "RequirePass", "secret"];
        assert_eq!(words(&config), ["CONFIG", "SET", "hz", "1", "RequirePass", "(redacted)"]);
    }
}
