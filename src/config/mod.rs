//! Configuration: the settings, the places they are given in, and how the server reads them.
//!
//! # One table
//!
//! Every setting is one row of [`SETTINGS`]: name, kind, default, help. All code about settings walks that
//! table, so a new row has a flag, an environment variable, a line in the configuration file, CONFIG GET,
//! SET and REWRITE, and its text in `--help`, all at once.
//!
//! ```text
//!            default  <  file              <  environment        <  flag
//!   port     8080        port 7000            KVSTORE_PORT=7001     --port 7002
//!            └── the table   └── --config FILE, or KVSTORE_CONFIG   └── this one wins
//! ```
//!
//! # Read on the hot path, changed by CONFIG SET
//!
//! A running server reads its settings all the time and changes them almost never. So [`Config`] has one
//! cell per setting. A setting that can be a number (yes/no and choices can) is an atomic: reading it is
//! one relaxed load, without a lock. Each text has an RwLock.
//! - A cell only gets values that the setting's [`Kind`] has accepted.
//! - Changes are made one at a time, under a mutex that readers never take.
//! - CONFIG SET checks all its values before it stores the first, so it changes all or nothing. A reader
//!   may still see the first new value with the second old one: settings that only make sense together
//!   belong into one value, as in `client-output-buffer-limit`.
//! - Changes are only stored here. The caller gets the list of what changed and acts on it.
//!
//! # Secrets
//!
//! CONFIG GET shows a value of kind [`Kind::Secret`], as in Redis, and CONFIG REWRITE writes it. `Debug`
//! hides it, and no error message repeats a value, secret or not.
//!
//! # Left out
//!
//! Redis's `include`, reading the configuration from standard input, and re-reading the file while the
//! server runs.

mod advice;
mod checks;
mod cluster;
mod error;
mod help;
mod kind;
mod limits;
mod load;
mod quoting;
mod rewrite;
mod settings;
mod snapshot;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::cluster::members::{Ack, Reads};
use crate::error::Failure;
use crate::lock::{Mutex, RwLock, rank};
use crate::pubsub::glob::Pattern;

pub use cluster::{Address, ClusterSettings};
pub use error::ConfigError;
pub(crate) use error::not_set;
pub use help::{OPENING, description, help, wrap};
pub use kind::Kind;
use kind::Value;
pub use limits::{ClientClass, OutputLimit};
use limits::{OutputLimits, change_limits, show_limits};
pub use quoting::split_words;
pub use settings::{Id, SETTINGS, Setting};
use settings::{find, nearest};
pub use snapshot::ConfigSnapshot;

/// The value of every setting. Shared by all threads; see the module's header.
pub struct Config {
    /// One cell per row of [`SETTINGS`], in its order.
    cells: Box<[Cell]>,
    /// The configuration file, if one was given. CONFIG REWRITE rewrites it.
    file: Option<PathBuf>,
    /// The password from requirepass-file, if it was used. CONFIG REWRITE does not copy it elsewhere.
    password_from_file: Option<String>,
    /// Warnings for the operator that do not keep the server from starting.
    warnings: Vec<String>,
    /// Moved by each change, so that a reader of many settings knows when to read them again.
    generation: AtomicU64,
    /// Held while values are changed or written to the file. Readers do not take it.
    changing: Mutex<(), { rank::CONFIG_CHANGE }>,
}

/// The place of one value.
enum Cell {
    Number(AtomicI64),
    Text(RwLock<String>),
    Limits(RwLock<OutputLimits>),
}

impl Cell {
    fn new(value: Value) -> Self {
        match value {
            Value::Number(n) => Cell::Number(AtomicI64::new(n)),
            Value::Text(text) => Cell::Text(RwLock::new(text)),
            Value::Limits(classes) => {
                Cell::Limits(RwLock::new(classes.map(Option::unwrap_or_default)))
            }
        }
    }

    fn store(&self, value: Value) {
        match (self, value) {
            (Cell::Number(cell), Value::Number(n)) => cell.store(n, Ordering::Relaxed),
            (Cell::Text(cell), Value::Text(text)) => *cell.write() = text,
            (Cell::Limits(cell), Value::Limits(changes)) => {
                change_limits(&mut cell.write(), &changes);
            }
            _ => unreachable!("a setting's kind decides both its cell and its values"),
        }
    }
}

impl Default for Config {
    /// Every setting at its default.
    fn default() -> Self {
        let default = |row: &Setting| {
            Cell::new(row.kind.parse(row.default).expect("the table's defaults are valid"))
        };
        Config {
            cells: SETTINGS.iter().map(default).collect(),
            file: None,
            password_from_file: None,
            warnings: Vec::new(),
            generation: AtomicU64::new(0),
            changing: Mutex::new(()),
        }
    }
}

/// The time at which the log is forced to the disk (`appendfsync`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before each reply that depends on it.
    Always,
    /// Once in this interval.
    Every(Duration),
    /// Only when the operating system chooses to.
    Never,
}

const ALWAYS: u64 = 0;
const NEVER: u64 = u64::MAX;

/// A copy of `appendfsync`, packed into a number so that reading it takes no lock.
#[derive(Debug)]
pub struct FsyncCell(AtomicU64);

impl FsyncCell {
    /// A cell with this policy.
    pub fn new(policy: Fsync) -> FsyncCell {
        let cell = FsyncCell(AtomicU64::new(ALWAYS));
        cell.set(policy);
        cell
    }

    /// Changes it. An interval is its milliseconds; the settings allow none below 1.
    pub fn set(&self, policy: Fsync) {
        let packed = match policy {
            Fsync::Always => ALWAYS,
            Fsync::Never => NEVER,
            Fsync::Every(interval) => interval.as_millis() as u64,
        };
        self.0.store(packed, Ordering::Relaxed);
    }

    /// The policy. One relaxed load.
    pub fn get(&self) -> Fsync {
        match self.0.load(Ordering::Relaxed) {
            ALWAYS => Fsync::Always,
            NEVER => Fsync::Never,
            millis => Fsync::Every(Duration::from_millis(millis)),
        }
    }
}

/// The port of the status page (`metrics-port`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsPort {
    /// The status page is off.
    Off,
    /// `auto`: the port after the command port; 0 is any that is free.
    Beside(u16),
    /// The port that the operator chose.
    Fixed(u16),
}

/// Reading. Reading a setting in a form that its kind does not have is a bug, and panics.
impl Config {
    /// A number, in the unit that the table states. One relaxed load.
    pub fn int(&self, id: Id) -> i64 {
        match &self.cells[id as usize] {
            Cell::Number(cell) => cell.load(Ordering::Relaxed),
            _ => panic!("{id:?} is not kept as a number"),
        }
    }

    /// True if a yes/no setting is yes. One relaxed load.
    pub fn flag(&self, id: Id) -> bool {
        debug_assert!(matches!(id.setting().kind, Kind::YesNo), "{id:?} is not yes or no");
        self.int(id) != 0
    }

    /// The chosen word, in the table's spelling. One relaxed load.
    pub fn choice(&self, id: Id) -> &'static str {
        match id.setting().kind {
            Kind::Choice(words) => words[self.int(id) as usize],
            _ => panic!("{id:?} is not a choice"),
        }
    }

    /// Any setting as CONFIG GET shows it; for text, the text itself.
    pub fn text(&self, id: Id) -> String {
        match &self.cells[id as usize] {
            Cell::Number(cell) => id.setting().kind.show(cell.load(Ordering::Relaxed)),
            Cell::Text(cell) => cell.read().clone(),
            Cell::Limits(cell) => show_limits(&cell.read()),
        }
    }

    /// Moved by each change of a setting.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The limit on output that waits for a client of this class.
    pub fn output_limit(&self, class: ClientClass) -> OutputLimit {
        match &self.cells[Id::ClientOutputBufferLimit as usize] {
            Cell::Limits(cell) => cell.read()[class as usize],
            _ => unreachable!("the output limits have a cell of their own kind"),
        }
    }

    /// The policy of `appendfsync`.
    pub fn fsync(&self) -> Fsync {
        match self.text(Id::Appendfsync).as_str() {
            "always" => Fsync::Always,
            policy => checks::fsync_interval(policy).map_or(Fsync::Never, Fsync::Every),
        }
    }

    /// How many bytes of the log may wait to be written. They count toward `maxmemory`, and a slow disk should not
    /// cost keys, so under a limit it is little.
    pub fn pending_bytes_max(&self) -> u64 {
        /// However little memory there is.
        const PENDING_BYTES_MIN: u64 = 1 << 20;
        match self.int(Id::Maxmemory) as u64 {
            0 => u64::MAX,
            limit => (limit / 64).max(PENDING_BYTES_MIN),
        }
    }

    /// The addresses to listen on, at least one: those of `Bind` or of `MetricsBind`.
    pub fn addresses(&self, id: Id) -> Vec<IpAddr> {
        let parse = |word: &str| word.parse().expect("these settings take only addresses");
        self.text(id).split(' ').map(parse).collect()
    }

    /// The port of the status page.
    pub fn metrics_port(&self) -> MetricsPort {
        match (self.text(Id::MetricsPort).parse(), self.int(Id::Port) as u16) {
            (Ok(0), _) | (Err(_), u16::MAX) => MetricsPort::Off,
            (Ok(port), _) => MetricsPort::Fixed(port),
            (Err(_), 0) => MetricsPort::Beside(0),
            (Err(_), port) => MetricsPort::Beside(port + 1),
        }
    }

    /// Warnings to log once logging has started, a line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Refuses settings that are fine one by one but not together.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.leader().is_some() && !self.flag(Id::Appendonly) {
            let problem = "a follower keeps its leader's log, so it cannot run with appendonly no";
            return Err(ConfigError::at("replicaof", problem));
        }
        self.validate_cluster()?;
        match self.address_for_others() {
            Some(address) if self.text(Id::Requirepass).is_empty() => {
                let problem = "other machines could connect without a password; set one \
                               (--requirepass-file FILE), or say --no-password if all of them may \
                               read and erase everything";
                Err(ConfigError::at(format!("bind {address}"), problem))
            }
            _ => Ok(()),
        }
    }

    /// An address that needs a password, because other machines can reach it.
    fn address_for_others(&self) -> Option<IpAddr> {
        if self.flag(Id::NoPassword) {
            return None;
        }
        self.addresses(Id::Bind).into_iter().find(|address| !address.to_canonical().is_loopback())
    }
}

/// CONFIG GET and SET.
impl Config {
    /// The settings whose name or alias matches one of the patterns, each once, in the table's order.
    /// As in Redis, a pattern that is a plain name gives it back as it was typed. Secrets are included:
    /// the caller must let in only clients that may see them.
    pub fn get(&self, patterns: &[&[u8]]) -> Result<Vec<(String, String)>, Failure> {
        let parsed = patterns.iter().map(|typed| Pattern::parse(&typed.to_ascii_lowercase()));
        let parsed = parsed.collect::<Result<Vec<_>, Failure>>()?;
        let shown = |name: &str| {
            let first = parsed.iter().position(|pattern| pattern.matches(name.as_bytes()))?;
            let typed = std::str::from_utf8(patterns[first]).unwrap_or_default();
            Some(if typed.eq_ignore_ascii_case(name) { typed } else { name }.to_owned())
        };
        let names = SETTINGS.iter().flat_map(|row| row.names().map(move |name| (name, row.id)));
        Ok(names.filter_map(|(name, id)| Some((shown(name)?, self.text(id)))).collect())
    }

    /// Changes all of these settings or, on an error, none. Returns those whose value has changed, so
    /// that the caller can act on them.
    pub fn set_many(&self, pairs: &[(&[u8], &[u8])]) -> Result<Vec<Id>, Failure> {
        let rows = changeable(pairs.iter().map(|(name, _)| *name))?;
        rows.iter().try_for_each(|row| cluster::check_change(self, row))?;
        let _changing = self.changing.lock();
        let mut values = Vec::new();
        for (row, (_, value)) in rows.into_iter().zip(pairs) {
            let value = self.parse_change(row, value);
            values.push((row.id, value.map_err(|why| not_set(row.name, why))?));
        }
        let changed = values.into_iter().filter_map(|(id, value)| self.change(id, value));
        Ok(changed.collect())
    }

    /// Records a change of role: the leader to follow, or none. CONFIG REWRITE then keeps it. Not in a cluster, where
    /// the next start must not depend on who leads now.
    pub fn set_leader(&self, leader: Option<(&str, u16)>) {
        if self.is_in_cluster() {
            return;
        }
        let _changing = self.changing.lock();
        let text = leader.map_or(String::new(), |(host, port)| format!("{host} {port}"));
        self.change(Id::Replicaof, Value::Text(text));
    }

    /// Records what the cluster's members record says, for CONFIG GET and CONFIG REWRITE. Returns what has changed.
    pub fn set_policies(&self, ack: Ack, reads: Reads) -> Vec<Id> {
        let _changing = self.changing.lock();
        let words = [(Id::Ack, ack.word()), (Id::Reads, reads.word())];
        let values = words.map(|(id, word)| (id, id.setting().kind.parse(word).expect("a choice")));
        values.into_iter().filter_map(|(id, value)| self.change(id, value)).collect()
    }

    /// The leader to follow, if this node is to follow one.
    pub fn leader(&self) -> Option<(String, u16)> {
        let text = self.text(Id::Replicaof);
        let (host, port) = text.split_once(' ')?;
        Some((host.to_string(), port.parse().expect("replicaof takes only ports")))
    }

    fn parse_change(&self, row: &Setting, value: &[u8]) -> Result<Value, String> {
        let value = std::str::from_utf8(value).map_err(|_| "argument must be UTF-8 text")?;
        // NB: start-up refuses to serve other machines without a password; so must CONFIG SET.
        if row.id == Id::Requirepass && value.is_empty() {
            self.address_for_others().map_or(Ok(()), |address| {
                Err(format!("argument can't be empty while bind has {address}"))
            })?;
        }
        row.kind.parse(value)
    }

    /// Stores a value. Returns the id if that changed the setting.
    fn change(&self, id: Id, value: Value) -> Option<Id> {
        let before = self.text(id);
        self.cells[id as usize].store(value);
        self.generation.fetch_add(1, Ordering::Release);
        (self.text(id) != before).then_some(id)
    }
}

/// True if the setting's value must not be shown in the slow log, MONITOR and the like.
pub fn is_secret(name: &[u8]) -> bool {
    let row = str::from_utf8(name).ok().and_then(find);
    row.is_some_and(|row| matches!(row.kind, Kind::Secret))
}

/// The rows of these names, if CONFIG SET may change all of them. As in Redis, the first wrong name gives
/// the error.
fn changeable<'a>(names: impl Iterator<Item = &'a [u8]>) -> Result<Vec<&'static Setting>, Failure> {
    let mut rows: Vec<&'static Setting> = Vec::new();
    for name in names {
        let known = str::from_utf8(name).ok().and_then(|name| Some((name, find(name)?)));
        let unknown = "ERR Unknown option or number of arguments for CONFIG SET - '";
        let (name, row) = known.ok_or_else(|| Failure::quoting(unknown, name, "'"))?;
        if !row.at_run_time {
            return Err(not_set(name, "can't set immutable config"));
        }
        if rows.iter().any(|earlier| earlier.id == row.id) {
            return Err(not_set(name, "duplicate parameter"));
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Names and values, without secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |row: &Setting| match row.kind {
            Kind::Secret => (row.name, "(hidden)".to_string()),
            _ => (row.name, self.text(row.id)),
        };
        f.debug_map().entries(SETTINGS.iter().map(show)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(config: &Config, patterns: &[&str]) -> Vec<(String, String)> {
        let patterns: Vec<_> = patterns.iter().map(|p| p.as_bytes()).collect();
        config.get(&patterns).expect("short patterns")
    }

    fn set(config: &Config, pairs: &[(&str, &str)]) -> Result<Vec<Id>, String> {
        let pairs: Vec<_> = pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        config.set_many(&pairs).map_err(|error| error.to_string())
    }

    /// The reason for which CONFIG SET refuses one value.
    fn refusal(config: &Config, name: &str, value: &str) -> String {
        let prefix = format!("ERR CONFIG SET failed (possibly related to argument '{name}') - ");
        let error = set(config, &[(name, value)]).expect_err("should be refused");
        error.strip_prefix(&prefix).expect(&error).to_string()
    }

    #[test]
    fn defaults_are_those_of_the_table() {
        let config = Config::default();
        assert_eq!(config.int(Id::Port), 8080);
        assert_eq!(config.int(Id::ProtoMaxBulkLen), 512 << 20);
        assert!(!config.flag(Id::NoPassword));
        assert_eq!(config.choice(Id::Loglevel), "notice");
        assert_eq!(config.addresses(Id::Bind), ["127.0.0.1".parse::<IpAddr>().expect("valid")]);
        let normal = OutputLimit { hard_bytes: 256 << 20, soft_bytes: 0, soft_seconds: 0 };
        assert_eq!(config.output_limit(ClientClass::Normal), normal);
        let pubsub = OutputLimit { hard_bytes: 32 << 20, soft_bytes: 8 << 20, soft_seconds: 60 };
        assert_eq!(config.output_limit(ClientClass::PubSub), pubsub);
    }

    #[test]
    fn the_status_page_is_beside_the_command_port_unless_told_otherwise() {
        let port = |settings: &[_]| Config::for_tests(settings).metrics_port();
        assert_eq!(port(&[]), MetricsPort::Beside(8081));
        assert_eq!(port(&[("port", "0")]), MetricsPort::Beside(0));
        assert_eq!(port(&[("port", "65535")]), MetricsPort::Off);
        assert_eq!(port(&[("metrics-port", "0")]), MetricsPort::Off);
        assert_eq!(port(&[("port", "7000"), ("metrics-port", "9000")]), MetricsPort::Fixed(9000));
    }

    #[test]
    fn every_setting_can_be_read_as_its_kind() {
        let config = Config::default();
        for row in SETTINGS {
            let text = config.text(row.id);
            match row.kind {
                Kind::YesNo => assert_eq!(config.flag(row.id), text == "yes"),
                Kind::Choice(_) => assert_eq!(config.choice(row.id), text),
                Kind::Int(..) | Kind::Bytes(_) => {
                    assert_eq!(config.int(row.id).to_string(), text);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn get_answers_in_the_tables_order_without_doubles() {
        let config = Config::default();
        let pairs = get(&config, &["SAVE", "port", "p*", "timeout", "no-such"]);
        let names: Vec<_> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["port", "timeout", "proto-max-bulk-len", "SAVE"]);
        assert_eq!(pairs[2].1, "536870912");
        let aliases = SETTINGS.iter().filter(|row| row.alias.is_some()).count();
        assert_eq!(get(&config, &["*"]).len(), SETTINGS.len() + aliases);
    }

    #[test]
    fn get_answers_a_plain_name_as_it_was_typed() {
        let config = Config::default();
        assert_eq!(get(&config, &["TimeOut", "timeout"])[0].0, "TimeOut");
        assert_eq!(get(&config, &["TIMEOU*"])[0].0, "timeout");
    }

    #[test]
    fn get_answers_an_alias_by_the_name_that_was_asked_for() {
        let pairs = get(&Config::default(), &["slave-r*"]);
        assert_eq!(pairs, [("slave-read-only".to_string(), "yes".to_string())]);
    }

    #[test]
    fn set_changes_all_and_reports_what_changed() {
        let config = Config::default();
        let pairs = [("MaxClients", "5"), ("timeout", "0"), ("inline-replies", "RESP")];
        assert_eq!(set(&config, &pairs), Ok(vec![Id::Maxclients, Id::InlineReplies]));
        assert_eq!(config.int(Id::Maxclients), 5);
        assert_eq!(config.choice(Id::InlineReplies), "resp");
    }

    #[test]
    fn set_changes_nothing_if_one_value_is_refused() {
        let config = Config::default();
        assert!(set(&config, &[("hz", "20"), ("timeout", "soon")]).is_err());
        assert_eq!(config.int(Id::Hz), 10);
    }

    #[test]
    fn set_changes_only_the_classes_that_are_named() {
        let config = Config::default();
        let change = [("client-output-buffer-limit", "pubsub 1mb 0 0")];
        assert_eq!(set(&config, &change), Ok(vec![Id::ClientOutputBufferLimit]));
        assert_eq!(set(&config, &change), Ok(vec![]), "the second time it is no change");
        assert_eq!(
            config.text(Id::ClientOutputBufferLimit),
            "normal 268435456 0 0 slave 268435456 67108864 60 pubsub 1048576 0 0"
        );
    }

    #[test]
    fn set_refuses_in_the_words_of_redis() {
        let config = Config::default();
        assert_eq!(refusal(&config, "port", "1"), "can't set immutable config");
        assert_eq!(
            refusal(&config, "maxclients", "0"),
            "argument must be between 1 and 4294967295 inclusive"
        );
        assert_eq!(refusal(&config, "hz", "often"), "argument couldn't be parsed into an integer");
        assert_eq!(
            refusal(&config, "proto-max-bulk-len", "big"),
            "argument must be a memory value"
        );
        assert_eq!(
            refusal(&config, "loglevel", "loud"),
            "argument(s) must be one of the following: debug, verbose, notice, warning"
        );
        assert_eq!(
            set(&config, &[("hz", "1"), ("prot", "2")]),
            Err("ERR Unknown option or number of arguments for CONFIG SET - 'prot'".to_string())
        );
        assert_eq!(
            set(&config, &[("hz", "1"), ("HZ", "2")]),
            Err("ERR CONFIG SET failed (possibly related to argument 'HZ') - duplicate parameter"
                .to_string())
        );
    }

    #[test]
    fn set_takes_any_bytes_without_harm() {
        let config = Config::default();
        assert!(config.set_many(&[(b"\xff", b"1")]).is_err());
        assert!(config.set_many(&[(b"requirepass", b"\xff")]).is_err());
    }

    #[test]
    fn set_cannot_take_away_the_password_that_others_need() {
        let config = Config::for_tests(&[("bind", "0.0.0.0"), ("requirepass", "old")]);
        let reason = refusal(&config, "requirepass", "");
        assert_eq!(reason, "argument can't be empty while bind has 0.0.0.0");
        assert!(set(&config, &[("requirepass", "new")]).is_ok());
        let config = Config::for_tests(&[("requirepass", "old")]);
        assert!(set(&config, &[("requirepass", "")]).is_ok(), "on loopback it may");
    }

    #[test]
    fn secrets_are_shown_by_get_and_hidden_from_debug() {
        let config = Config::for_tests(&[("requirepass", "hunter2")]);
        assert_eq!(get(&config, &["requirepass"])[0].1, "hunter2");
        let debug = format!("{config:?}");
        assert!(debug.contains("8080") && !debug.contains("hunter2"), "{debug}");
    }
}
