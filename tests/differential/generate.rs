//! The random commands: templates, their arguments, and how some commands are spoilt.
//!
//! A template is picked by its weight and its placeholders are filled in. Then a few commands in a
//! hundred are spoilt: a word is dropped, doubled, swapped, replaced. Most stay valid, since an
//! error changes nothing, and a run of errors tests little.
//!
//! No reply may depend on how fast the machine is. So durations are long, each is used once, and
//! all are multiples of 100 s, which keeps GT and LT from comparing equal ones; points in time lie
//! in the past or beyond any duration. [`is_safe`] keeps the spoilt ones to that, and to moderate
//! amounts of memory.

use super::deviations::is_word;
use super::session::{Args, words};
use super::vocabulary::{
    FIXED, KEYS, ODD_DURATIONS, ODD_FLOATS, ODD_INTS, ODD_TIMES, ODD_VALUES, OTHER_TYPES, PATTERNS,
    STRAY_OPTIONS, TEMPLATES, UNKNOWN, choices,
};
use crate::common::rng::Rng;
use std::collections::{BTreeSet, VecDeque};

/// Points in time in the future start here: the year 33658. A duration from now does not reach it.
pub const ABSOLUTE_FROM_MS: i64 = 1_000_000_000_000_000;

/// The shortest duration: far longer than a run.
const DURATION_MIN_SECONDS: i64 = 1_000;

/// An offset above this would make a value, and the memory for it, too big; those above all limits
/// are errors.
const OFFSET_MAX: i64 = 100_000;
const OFFSET_REFUSED_FROM: i64 = 1 << 32;

const SPOILT_PERCENT: usize = 7;
const ODD_CHOICE_PERCENT: usize = 8;
const ODD_CASE_PERCENT: usize = 10;

pub struct Generator {
    rng: Rng,
    protocol: u8,
    durations_used: i64,
    /// Words of spoilt commands since the last FLUSHALL: what may have become a key besides `KEYS`.
    stray_words: BTreeSet<Vec<u8>>,
    /// The commands that must follow the last one.
    following: VecDeque<Args>,
}

impl Generator {
    pub fn new(rng: Rng, protocol: u8) -> Generator {
        Generator {
            rng,
            protocol,
            durations_used: 0,
            stray_words: BTreeSet::new(),
            following: VecDeque::new(),
        }
    }

    /// The next command of the run.
    pub fn command(&mut self) -> Args {
        if let Some(args) = self.following.pop_front() {
            return args;
        }
        loop {
            let args = self.any_command();
            if is_safe(&args) {
                if is_flush(&args) {
                    self.stray_words.clear();
                }
                return args;
            }
        }
    }

    /// The next command, and what has to follow it.
    pub fn whole_command_sequence(&mut self) -> Vec<Args> {
        let mut sequence = vec![self.command()];
        while let Some(args) = self.following.pop_front() {
            sequence.push(args);
        }
        sequence
    }

    fn any_command(&mut self) -> Args {
        let template = self.template();
        if template == "$fixed" {
            return self.fixed();
        }
        let mut args = self.expand(template);
        // One word tells a container from its subcommand, and an unspoilt name keeps FIXED's
        // promise.
        let name = template.split(' ').next().unwrap_or_default();
        let is_container = ["CLIENT", "CONFIG", "COMMAND", "DEBUG"].contains(&name);
        let is_spoilt = !is_container && self.rng.chance(SPOILT_PERCENT);
        if is_spoilt {
            self.spoil(&mut args);
        }
        if self.rng.chance(ODD_CASE_PERCENT) {
            let at = self.rng.below(args.len());
            self.change_case(&mut args[at]);
        }
        if is_spoilt {
            self.stray_words.extend(args[1..].iter().cloned());
        }
        if sees_expired_keys(&args) {
            self.touch_to_expire();
            self.following.push_back(args);
            return self.command();
        }
        args
    }

    /// An empty SETRANGE touches a key and changes nothing. These come in front of a command that sees
    /// expired keys.
    fn touch_to_expire(&mut self) {
        let keys = KEYS.iter().map(|key| key.to_vec()).chain(self.stray_words.iter().cloned());
        let touch = |key| vec![b"SETRANGE".to_vec(), key, b"0".to_vec(), vec![]];
        self.following.extend(keys.map(touch));
    }

    fn change_case(&mut self, arg: &mut [u8]) {
        let letters = arg.iter_mut().filter(|b| b.is_ascii_uppercase());
        letters.filter(|_| self.rng.chance(50)).for_each(|b| b.make_ascii_lowercase());
    }

    fn template(&mut self) -> &'static str {
        let total: usize = TEMPLATES.iter().map(|(weight, _)| weight).sum();
        let mut left = self.rng.below(total);
        for (weight, template) in TEMPLATES {
            if left < *weight {
                return template;
            }
            left -= weight;
        }
        unreachable!("the weights add up to the total")
    }

    fn fixed(&mut self) -> Args {
        let line = self.rng.pick(FIXED);
        let args = self.expand(line);
        // RESET goes back to RESP2.
        if args == words("RESET") {
            let hello = self.expand("HELLO $protocol");
            self.following.push_back(hello);
        }
        args
    }

    fn expand(&mut self, template: &str) -> Args {
        let mut args = vec![];
        for word in template.split(' ') {
            match word.strip_prefix('$') {
                Some(placeholder) => self.fill(placeholder, &mut args),
                None => args.push(word.into()),
            }
        }
        args
    }

    fn fill(&mut self, placeholder: &str, args: &mut Args) {
        match placeholder {
            "key" => args.push(self.key()),
            "keys" => (0..=self.rng.below(4)).for_each(|_| args.push(self.key())),
            "pairs" => {
                (0..=self.rng.below(4)).for_each(|_| args.extend([self.key(), self.value()]))
            }
            "value" => args.push(self.value()),
            "int" => args.push(self.int()),
            "float" => args.push(self.float()),
            "index" => args.push(self.index()),
            "offset" => args.push(self.offset(40, 600)),
            "bit_offset" => args.push(self.offset(80, 4000)),
            "seconds" => args.push(self.duration(1)),
            "ms" => args.push(self.duration(1000)),
            "at" => args.push(self.point_in_time(1)),
            "at_ms" => args.push(self.point_in_time(1000)),
            "set_options" => self.set_options(args),
            "getex_option" => self.getex_option(args),
            "bitfield" => self.bitfield(args),
            "bitfield_get" => self.bitfield_get(args),
            "template" => self.whole_command(args),
            "known" => args.push(self.template().split(' ').next().unwrap_or_default().into()),
            "pattern" => args.push(self.rng.pick(PATTERNS).into()),
            "protocol" => args.push(self.protocol.to_string().into()),
            "unknown" => args.push(self.rng.pick(UNKNOWN).into()),
            "other_type" => args.push(self.rng.pick(OTHER_TYPES).into()),
            other => {
                let (usual, odd) = choices(other);
                let from = if self.rng.chance(ODD_CHOICE_PERCENT) { odd } else { usual };
                args.extend(words(self.rng.pick(from)));
            }
        }
    }

    fn key(&mut self) -> Vec<u8> {
        self.rng.pick(KEYS).into()
    }

    fn value(&mut self) -> Vec<u8> {
        match self.rng.below(12) {
            0..=2 => self.rng.between(-20, 20).to_string().into(),
            3 => self.int(),
            4 => self.float(),
            5 => self.rng.pick(ODD_VALUES).into(),
            6 => {
                let len = self.rng.pick(&[1, 2, 8, 43, 44, 45, 200]);
                self.rng.bytes(len)
            }
            // From few letters, so that LCS, BITOP and BITPOS find something.
            _ => (0..self.rng.below(20)).map(|_| self.rng.pick(b"abc")).collect(),
        }
    }

    fn int(&mut self) -> Vec<u8> {
        match self.rng.below(10) {
            0 => self.rng.pick(ODD_INTS).into(),
            1 => (i64::MAX - self.rng.between(0, 3)).to_string().into(),
            2 => (i64::MIN + self.rng.between(0, 3)).to_string().into(),
            3 => self.rng.between(-1_000_000_000_000, 1_000_000_000_000).to_string().into(),
            _ => self.rng.between(-100, 100).to_string().into(),
        }
    }

    fn float(&mut self) -> Vec<u8> {
        match self.rng.below(8) {
            0 => self.rng.pick(ODD_FLOATS).into(),
            1 => self.int(),
            2 => format!("{}e{}", self.rng.between(-99, 99), self.rng.between(-12, 12)).into(),
            _ => {
                let (whole, places) = (self.rng.between(-9999, 9999), self.rng.below(6) + 1);
                format!("{whole}.{:0places$}", self.rng.below(10_usize.pow(places as u32))).into()
            }
        }
    }

    fn index(&mut self) -> Vec<u8> {
        match self.rng.below(16) {
            0 => self.rng.pick(ODD_INTS).into(),
            1 => self.rng.between(-1000, 1000).to_string().into(),
            _ => self.rng.between(-12, 12).to_string().into(),
        }
    }

    fn offset(&mut self, usual_max: i64, max: i64) -> Vec<u8> {
        match self.rng.below(16) {
            0 => self.rng.pick(ODD_INTS).into(),
            1 => self.rng.between(0, max).to_string().into(),
            _ => self.rng.between(0, usual_max).to_string().into(),
        }
    }

    /// A duration in units of which there are `per_second`.
    fn duration(&mut self, per_second: i64) -> Vec<u8> {
        if self.rng.chance(15) {
            return self.rng.pick(ODD_DURATIONS).into();
        }
        // Both are primes, so that a hundred thousand durations are used, long and short in turn,
        // before one comes again.
        self.durations_used += 1;
        let seconds = DURATION_MIN_SECONDS + self.durations_used * 7919 % 100_003 * 100;
        (seconds * per_second).to_string().into()
    }

    /// A point in time, in units of which there are `per_second`.
    fn point_in_time(&mut self, per_second: i64) -> Vec<u8> {
        match self.rng.below(10) {
            0 => self.rng.pick(ODD_TIMES).into(),
            1 | 2 => (self.rng.between(1, 1_000_000_000) * per_second).to_string().into(),
            _ => {
                let later = self.rng.below(1_000_000_000) as i64;
                (ABSOLUTE_FROM_MS / 1000 * per_second + later).to_string().into()
            }
        }
    }

    fn expiry_option(&mut self, args: &mut Args) {
        let option = self.rng.pick(&["EX $seconds", "PX $ms", "EXAT $at", "PXAT $at_ms"]);
        args.extend(self.expand(option));
    }

    fn set_options(&mut self, args: &mut Args) {
        for _ in 0..=self.rng.below(3) {
            match self.rng.below(6) {
                0 | 1 => self.expiry_option(args),
                _ => args.push(self.rng.pick(&["NX", "XX", "GET", "KEEPTTL"]).into()),
            }
        }
    }

    fn getex_option(&mut self, args: &mut Args) {
        match self.rng.below(6) {
            0 => {}
            1 | 2 => args.push("PERSIST".into()),
            _ => self.expiry_option(args),
        }
    }

    fn bitfield(&mut self, args: &mut Args) {
        for _ in 0..=self.rng.below(4) {
            let form = self.rng.pick(&[
                "GET $bitfield_type $bitfield_offset",
                "SET $bitfield_type $bitfield_offset $int",
                "INCRBY $bitfield_type $bitfield_offset $int",
                "OVERFLOW $overflow INCRBY $bitfield_type $bitfield_offset $int",
                "OVERFLOW $overflow SET $bitfield_type $bitfield_offset $int",
            ]);
            args.extend(self.expand(form));
        }
    }

    fn bitfield_get(&mut self, args: &mut Args) {
        (0..=self.rng.below(3))
            .for_each(|_| args.extend(self.expand("GET $bitfield_type $bitfield_offset")));
    }

    /// Another command as the argument of COMMAND GETKEYS.
    fn whole_command(&mut self, args: &mut Args) {
        let template = loop {
            let template = self.template();
            if !template.starts_with('$') && !template.starts_with("COMMAND") {
                break template;
            }
        };
        args.extend(self.expand(template));
    }

    fn spoil(&mut self, args: &mut Args) {
        if args.len() == 1 {
            return args.push(self.value());
        }
        let at = 1 + self.rng.below(args.len() - 1);
        match self.rng.below(7) {
            0 => args.truncate(at),
            1 => args.push(self.value()),
            2 => args.insert(at, args[at].clone()),
            3 => args[at] = self.value(),
            4 => args[at] = self.int(),
            5 => args.push(self.rng.pick(STRAY_OPTIONS).into()),
            _ => {
                let other = 1 + self.rng.below(args.len() - 1);
                args.swap(at, other);
            }
        }
    }
}

/// Redis counts an expired key in DBSIZE, and shows it in these others, until somebody touches it, for
/// which its sweeper, switched off here, usually cares.
pub fn sees_expired_keys(args: &Args) -> bool {
    let begins_with = |words: &[&str]| {
        args.len() >= words.len() && args.iter().zip(words).all(|(arg, word)| is_word(arg, word))
    };
    begins_with(&["DBSIZE"])
        || begins_with(&["MEMORY", "USAGE"])
        || begins_with(&["DEBUG", "OBJECT"])
}

fn is_flush(args: &Args) -> bool {
    (is_word(&args[0], "FLUSHALL") || is_word(&args[0], "FLUSHDB"))
        && args[1..].iter().all(|arg| is_word(arg, "SYNC") || is_word(arg, "ASYNC"))
        && args.len() <= 2
}

/// True if the reply is the same on a slow machine, and the memory that the command may use is
/// moderate.
fn is_safe(args: &Args) -> bool {
    let int = |arg: &Vec<u8>| {
        std::str::from_utf8(arg).ok().and_then(|s| s.trim_start_matches('#').parse::<i64>().ok())
    };
    let ints_after = |options: &[&str]| -> Vec<i64> {
        let places =
            (1..args.len()).filter(|&i| options.iter().any(|option| is_word(&args[i], option)));
        places.filter_map(|i| args.get(i + 1).and_then(int)).collect()
    };
    let is_name = |names: &[&str]| names.iter().any(|name| is_word(&args[0], name));
    let is_long = |duration: i64, per_second: i64| {
        duration <= 0 || duration >= DURATION_MIN_SECONDS * per_second
    };
    let third = args.get(2).and_then(int);
    let offset_is_fine = |offset: i64| offset <= OFFSET_MAX || offset >= OFFSET_REFUSED_FROM;
    if is_name(&["SET", "GETEX"]) {
        return ints_after(&["EX"]).iter().all(|n| is_long(*n, 1))
            && ints_after(&["PX"]).iter().all(|n| is_long(*n, 1000));
    }
    if is_name(&["EXPIRE", "SETEX"]) {
        return third.is_none_or(|seconds| is_long(seconds, 1));
    }
    if is_name(&["PEXPIRE", "PSETEX", "RESTORE"]) {
        return third.is_none_or(|ms| is_long(ms, 1000));
    }
    if is_name(&["SETRANGE", "SETBIT", "BITFIELD"]) {
        return args.iter().skip(2).filter_map(int).all(offset_is_fine);
    }
    true
}
