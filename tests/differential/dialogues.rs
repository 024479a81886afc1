//! Exchanges in which what is sent depends on what was received, so that they cannot be part of a
//! batch: iterating with SCAN, picking a random key, restoring what was dumped, and switching
//! replies off.

use super::session::{Args, Session, words};
use super::vocabulary::KEYS;
use crate::common::resp::{Resp, Value, encode, quote};
use crate::common::rng::Rng;
use std::collections::BTreeSet;

/// An iteration that takes this many calls over a few dozen keys will never end.
const SCAN_CALLS_MAX: usize = 10_000;

impl Session {
    /// One exchange in which what is sent depends on what was received, so that it cannot be part
    /// of a batch.
    pub fn compare_a_dialogue(&mut self, rng: &mut Rng) {
        match rng.below(12) {
            0 => self.compare_scan(rng),
            1 => self.compare_random_key(),
            2 | 3 => self.compare_dump_and_restore(rng),
            4 => self.compare_client_reply(rng),
            _ => {}
        }
    }

    /// A whole iteration finds the same keys, whatever the cursors are in between.
    fn compare_scan(&mut self, rng: &mut Rng) {
        let options = [
            "",
            "COUNT 1",
            "COUNT 3",
            "MATCH k*",
            "MATCH k1? COUNT 2",
            "TYPE string",
            "TYPE list",
            "MATCH [^k]*",
        ];
        let options = words(rng.pick(&options));
        let [redis, ours] =
            [&mut self.redis, &mut self.subject].map(|side| whole_scan(side, &options));
        if redis != ours {
            let command = [words("SCAN 0"), options].concat();
            self.report(&command, "a set of keys", &format!("{redis:?}"), &format!("{ours:?}"));
            self.empty_both();
        }
    }

    fn compare_random_key(&mut self) {
        let ours = self.subject.call(&["RANDOMKEY"]);
        let redis = self.redis.call(&["RANDOMKEY"]);
        let agrees = match &ours {
            Value::Null => redis == Value::Null,
            key => self.redis.call(&[b"EXISTS", key.as_bytes()]) == Value::Int(1),
        };
        if !agrees {
            self.report(
                &words("RANDOMKEY"),
                "a key that exists",
                &format!("{redis:?}"),
                &format!("{ours:?}"),
            );
            self.empty_both();
        }
    }

    /// Both servers dump the same bytes; both restore them, whole or spoilt.
    fn compare_dump_and_restore(&mut self, rng: &mut Rng) {
        let (from, to) = (rng.pick(KEYS), rng.pick(KEYS));
        self.compare(vec![words("DUMP").into_iter().chain([from.to_vec()]).collect()]);
        let Value::Bulk(mut payload) = self.redis.call(&[b"DUMP", from]) else { return };
        match rng.below(10) {
            0 => payload[0] ^= 1,
            1 => payload.truncate(payload.len() - 1),
            2 => payload.clear(),
            // A compressed string that stands for less than it says, with the right checksum.
            3 => payload = b"\0\xc3\x02\x09\0a\x0a\0\x96\x93\x7d\xff\x25\x9b\x57\x8c".to_vec(),
            _ => {}
        }
        let ttl: &[u8] = rng.pick(&[b"0".as_slice(), b"0", b"50050000", b"-1", b"x"]);
        let options =
            ["", "", "REPLACE", "REPLACE", "ABSTTL", "REPLACE IDLETIME 5", "FREQ 3", "BOGUS"];
        let head = vec!["RESTORE".into(), to.to_vec(), ttl.to_vec(), payload];
        let restore = [head, words(rng.pick(&options))].concat();
        self.compare(vec![
            restore,
            [words("GET"), vec![to.to_vec()]].concat(),
            [words("PTTL"), vec![to.to_vec()]].concat(),
        ]);
    }

    /// Under CLIENT REPLY the number of replies differs from that of commands, so ECHO marks the
    /// end.
    fn compare_client_reply(&mut self, rng: &mut Rng) {
        let script = rng.pick(&[
            "CLIENT REPLY SKIP|INCR k0|INCR k0",
            "CLIENT REPLY OFF|INCR k0|NOSUCH|GET|CLIENT REPLY ON|INCR k0",
            "CLIENT REPLY SKIP|CLIENT REPLY ON|INCR k0",
            "CLIENT REPLY OFF|CLIENT REPLY SKIP|INCR k0|CLIENT REPLY ON",
            "CLIENT REPLY MAYBE|CLIENT REPLY",
        ]);
        let commands: Vec<_> = script.split('|').chain(["ECHO end-of-script"]).map(words).collect();
        let [redis, ours] =
            [&mut self.redis, &mut self.subject].map(|side| replies_to_script(side, &commands));
        if redis != ours {
            self.report(&vec![script.into()], "Exact", &redis, &ours);
            self.empty_both();
        }
        commands.into_iter().for_each(|args| self.remember(args));
    }
}

/// The keys that an iteration returns from the first cursor to the last.
fn whole_scan(side: &mut Resp, options: &[Vec<u8>]) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    let mut cursor = b"0".to_vec();
    for _ in 0..SCAN_CALLS_MAX {
        let command = [vec![b"SCAN".to_vec(), cursor], options.to_vec()].concat();
        let reply = side.call(&command);
        let [next, keys] = reply.as_array() else { panic!("SCAN replied {reply:?}") };
        found.extend(keys.as_array().iter().map(|key| key.as_bytes().to_vec()));
        cursor = next.as_bytes().to_vec();
        if cursor == b"0" {
            return found;
        }
    }
    panic!("SCAN has not ended after {SCAN_CALLS_MAX} calls");
}

/// All the bytes that come back up to the reply of the closing ECHO.
fn replies_to_script(side: &mut Resp, commands: &[Args]) -> String {
    let mut bytes = vec![];
    commands.iter().for_each(|args| encode(args, &mut bytes));
    side.send_raw(&bytes);
    let mut replies = vec![];
    let closing = Value::Bulk(commands.last().expect("a script has commands")[1].clone());
    while side.read_reply() != closing {
        replies.extend_from_slice(side.last_raw());
    }
    quote(&replies)
}
