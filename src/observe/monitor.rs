//! MONITOR: every command of every client, as it runs.
//!
//! ```text
//! conn-3 ── ran a command ──┐                               ┌── conn-7: a monitor
//! conn-4 ── ran a command ──┴─▶ [ its feed, at most 1 MiB ] ─┘   takes it 200 times a second and sends it
//! ```
//!
//! A command adds its line to the feed of each monitor: a lock held for a memcpy, without a wake-up or a system
//! call. A monitor's own thread sends it. A monitor that cannot keep up is cut off, counted and logged, so that it
//! knows that it misses lines. Without monitors, a command pays one relaxed load.
//!
//! As in Redis, commands for operators are not shown, and passwords are hidden. Unlike in Redis, very long words
//! are shortened, and a monitor may also read and write data.

use super::cut::record_cut;
use super::observed::{Shortening, Words};
use crate::clients::Client;
use crate::clients::outbox::SendError;
use crate::clients::socket::Addr;
use crate::clock;
use crate::commands::{Flags, Spec};
use crate::config::{ConfigSnapshot, OutputLimit};
use crate::lock::{Mutex, rank};
use crate::memory::account::{Account, Total};
use crate::metrics::{Metrics, Stat};
use crate::protocol::{Args, Dialect, Escaping, escape};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// How often a monitor's thread takes its lines.
pub const PACE: Duration = Duration::from_millis(5);
/// Bytes that may wait in a feed; twice as many for a client that does not read.
const FEED_BYTES_MAX: usize = 1 << 20;
const UNREAD_BYTES_MAX: u64 = 2 * FEED_BYTES_MAX as u64;
/// So that a line has a bound.
const SHOWN: Shortening = Shortening { words_max: 129, word_bytes_max: 1024 };

/// The limit of what may wait for a monitor: at most that of its class.
fn limit(of_class: OutputLimit) -> OutputLimit {
    let hard_bytes = match of_class.hard_bytes {
        0 => UNREAD_BYTES_MAX,
        hard => hard.min(UNREAD_BYTES_MAX),
    };
    OutputLimit { hard_bytes, ..of_class }
}

/// The clients that monitor.
#[derive(Debug, Default)]
pub struct Monitors {
    count: AtomicUsize,
    feeds: Mutex<Vec<Arc<Feed>>, { rank::FEEDS }>,
}

/// Lines that a monitor has yet to be sent.
#[derive(Debug)]
struct Feed {
    client: Arc<Client>,
    /// The lines are text; otherwise each is a simple string.
    is_text: AtomicBool,
    lines: Mutex<Vec<u8>>,
    /// The lines' bytes, for the sum over all clients.
    held: Account,
    overflown: AtomicBool,
}

/// A session's part in MONITOR.
#[derive(Debug, Default)]
pub enum Monitoring {
    /// It shows nothing.
    #[default]
    Off,
    /// MONITOR was called in this batch; the dialect of its lines.
    Begins(Dialect),
    /// The client is fed.
    On(Membership),
}

/// A place among the monitors, left when this is dropped.
#[derive(Debug)]
pub struct Membership {
    monitors: Arc<Monitors>,
    feed: Arc<Feed>,
}

impl Monitors {
    /// True if there are monitors.
    pub fn are_watching(&self) -> bool {
        self.count.load(Relaxed) > 0
    }

    fn join(
        self: &Arc<Self>,
        client: &Arc<Client>,
        dialect: Dialect,
        memory: &Total,
    ) -> Membership {
        let feed = Arc::new(Feed {
            client: Arc::clone(client),
            is_text: AtomicBool::new(dialect == Dialect::Text),
            lines: Mutex::default(),
            held: Account::new(memory),
            overflown: AtomicBool::new(false),
        });
        let mut feeds = self.feeds.lock();
        feeds.push(Arc::clone(&feed));
        self.count.store(feeds.len(), Relaxed);
        client.monitors.store(true, Relaxed);
        Membership { monitors: Arc::clone(self), feed }
    }

    /// Shows a command that has run to all monitors.
    pub fn tell(&self, addr: Addr, command: &Spec, args: Args<'_>) {
        if command.flags.has(Flags::ADMIN) {
            return;
        }
        let line = line(addr, command, args);
        for feed in self.feeds.lock().iter() {
            feed.add(line.as_bytes());
        }
    }
}

impl Feed {
    fn add(&self, line: &[u8]) {
        let mut lines = self.lines.lock();
        if lines.len() + line.len() > FEED_BYTES_MAX {
            self.overflown.store(true, Relaxed);
            return;
        }
        let is_text = self.is_text.load(Relaxed);
        let (prefix, end) = if is_text { ("", "\n") } else { ("+", "\r\n") };
        [prefix.as_bytes(), line, end.as_bytes()]
            .into_iter()
            .for_each(|part| lines.extend_from_slice(part));
        self.held.set(lines.capacity());
    }
}

impl Membership {
    /// Sends the lines that have come since the last call.
    fn send_lines(&self, of_class: OutputLimit, metrics: &Metrics) -> Result<(), SendError> {
        let outbox = &self.feed.client.outbox;
        if self.feed.overflown.load(Relaxed) {
            return Err(SendError::OverLimit(outbox.queued_bytes()));
        }
        let lines = {
            let mut lines = self.feed.lines.lock();
            self.feed.held.set(0);
            std::mem::take(&mut *lines)
        };
        if lines.is_empty() {
            return Ok(());
        }
        metrics[Stat::OutputBytes].add(lines.len() as u64);
        outbox.send(&lines, 0, limit(of_class))
    }
}

impl Monitoring {
    /// True from MONITOR on.
    pub fn is_on(&self) -> bool {
        !matches!(self, Monitoring::Off)
    }

    /// MONITOR: the client is fed from the end of this batch on.
    pub fn request(&mut self, dialect: Dialect) {
        if !matches!(self, Monitoring::On(_)) {
            *self = Monitoring::Begins(dialect);
        }
    }

    /// From now on, lines are written in this dialect.
    pub fn speak(&mut self, dialect: Dialect) {
        match self {
            Monitoring::Off => {}
            Monitoring::Begins(lines) => *lines = dialect,
            Monitoring::On(member) => {
                member.feed.is_text.store(dialect == Dialect::Text, Relaxed);
            }
        }
    }

    /// Begins to feed the client if MONITOR was called in this batch; returns whether. It is called before the
    /// reply leaves: a client that has the reply misses nothing.
    pub fn begin(&mut self, all: &Arc<Monitors>, client: &Arc<Client>, memory: &Total) -> bool {
        let Monitoring::Begins(dialect) = *self else { return false };
        *self = Monitoring::On(all.join(client, dialect, memory));
        true
    }

    /// Sends a monitor the lines that have come for it. An error means that it is gone or has been cut off.
    pub fn feed(&self, config: &ConfigSnapshot, metrics: &Metrics) -> Result<(), SendError> {
        let Monitoring::On(member) = self else { return Ok(()) };
        let client = &member.feed.client;
        let sent = member.send_lines(config.output_limit(client.class()), metrics);
        sent.inspect_err(|error| {
            let SendError::OverLimit(waiting) = error else {
                return record_cut(metrics, client.addr, error);
            };
            metrics[Stat::OutputLimitDisconnections].increment();
            log::warn!(
                "client {}: a monitor that cannot keep up is cut off ({waiting} bytes not read)",
                client.addr
            );
        })
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut feeds = self.monitors.feeds.lock();
        feeds.retain(|feed| !Arc::ptr_eq(feed, &self.feed));
        self.monitors.count.store(feeds.len(), Relaxed);
        self.feed.client.monitors.store(false, Relaxed);
    }
}

/// `1339518083.107412 [0 127.0.0.1:60866] "keys" "*"`
fn line(addr: Addr, command: &Spec, args: Args<'_>) -> String {
    let micros = clock::unix_micros();
    let mut line = String::with_capacity(128);
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let _ = match addr {
        Addr::Tcp(addr) => write!(line, "{seconds}.{micros:06} [0 {addr}]"),
        Addr::Unix(path) => write!(line, "{seconds}.{micros:06} [0 unix:{path}]"),
    };
    for word in Words::of(command, args, &SHOWN).iter() {
        line.push_str(" \"");
        escape(&mut line, word, Escaping::Redis);
        line.push('"');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Span;

    fn line_of(request: &[&[u8]]) -> String {
        let (mut bytes, mut spans) = (vec![], vec![]);
        for word in request {
            let start = bytes.len();
            bytes.extend_from_slice(word);
            spans.push(Span { start, end: bytes.len() });
        }
        let args = Args::new(&bytes, &spans);
        let found = crate::admin::commands().lookup(args).expect("a command");
        let addr = Addr::Tcp("127.0.0.1:7".parse().expect("an address"));
        let line = line(addr, found.command, args);
        line.split_once(' ').expect("a time, then the rest").1.to_owned()
    }

    #[test]
    fn words_are_quoted_as_in_redis() {
        let words: &[&[u8]] = &[b"set", b"k", b"a\"\\\n\r\t\x07\x08\x01\xff \xc3\xbc"];
        let expected = r#"[0 127.0.0.1:7] "set" "k" "a\"\\\n\r\t\a\b\x01\xff \xc3\xbc""#;
        assert_eq!(line_of(words), expected);
        assert_eq!(line_of(&[b"AUTH", b"secret"]), r#"[0 127.0.0.1:7] "AUTH" "(redacted)""#);
    }

    #[test]
    fn a_line_has_a_bound() {
        let long = vec![0; 5000];
        let words: Vec<&[u8]> = std::iter::once(&b"DEL"[..]).chain(vec![&long[..]; 300]).collect();
        let line = line_of(&words);
        assert!(line.ends_with(r#" "... (173 more arguments)""#), "{}", &line[line.len() - 90..]);
        assert!(line.contains("... (3976 more bytes)") && line.len() < 600_000);
    }
}
