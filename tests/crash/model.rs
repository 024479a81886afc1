//! The expected values of one connection's keys: a map, and the commands that change it.

use crate::common::resp;
use crate::common::rng::Rng;
use std::collections::BTreeMap;

/// Keys of each kind that a connection owns.
const TEXTS: usize = 60;
const COUNTERS: usize = 3;
/// An appended value this long is begun anew.
const VALUE_LEN_MAX: usize = 300;

/// A command on a connection's own keys.
#[derive(Clone, Debug)]
pub enum Op {
    Set(String, String),
    Append(String, String),
    Incr(String),
    Del(String, String),
    /// All `pair` keys get the same value.
    Mset(String),
    Expire(String),
}

/// A value, and whether it expires some day.
pub type Held = (String, bool);

/// The keys of one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    owner: usize,
    pub held: BTreeMap<String, Held>,
}

impl Model {
    pub fn new(owner: usize) -> Model {
        Model { owner, held: BTreeMap::new() }
    }

    /// All keys that it may have.
    pub fn keys(&self) -> Vec<String> {
        let texts = (0..TEXTS).map(|n| self.key("text", n));
        let counters = (0..COUNTERS).map(|n| self.key("counter", n));
        texts.chain(counters).chain(self.pair()).collect()
    }

    fn key(&self, kind: &str, n: usize) -> String {
        format!("{kind}:{}:{n}", self.owner)
    }

    fn pair(&self) -> Vec<String> {
        (0..3).map(|n| self.key("pair", n)).collect()
    }

    pub fn random_op(&self, rng: &mut Rng) -> Op {
        let text = self.key("text", rng.below(TEXTS));
        let long = self.held.get(&text).is_some_and(|(value, _)| value.len() > VALUE_LEN_MAX);
        let value = format!("{:x}", rng.next_u64()).repeat(1 + rng.below(8));
        match rng.below(20) {
            0..6 => Op::Set(text, value),
            6..10 if long => Op::Set(text, value),
            6..10 => Op::Append(text, value[..4.min(value.len())].to_owned()),
            10..13 => Op::Incr(self.key("counter", rng.below(COUNTERS))),
            13..15 => Op::Del(text, self.key("text", rng.below(TEXTS))),
            15..18 => Op::Mset(value),
            _ => Op::Expire(text),
        }
    }

    /// Writes the command as a client sends it.
    pub fn encode(&self, op: &Op, into: &mut Vec<u8>) {
        match op {
            Op::Set(key, value) => resp::encode(&["SET", key, value], into),
            Op::Append(key, value) => resp::encode(&["APPEND", key, value], into),
            Op::Incr(key) => resp::encode(&["INCR", key], into),
            Op::Del(one, other) => resp::encode(&["DEL", one, other], into),
            Op::Expire(key) => resp::encode(&["EXPIRE", key, "100000"], into),
            Op::Mset(value) => {
                let mut words = vec!["MSET".to_owned()];
                words.extend(self.pair().into_iter().flat_map(|key| [key, value.clone()]));
                resp::encode(&words, into);
            }
        }
    }

    /// Does what the server is to do, and returns what it is to answer.
    pub fn apply(&mut self, op: &Op) -> String {
        match op {
            Op::Set(key, value) => {
                self.held.insert(key.clone(), (value.clone(), false));
                "+OK".to_owned()
            }
            Op::Append(key, value) => {
                let held = self.held.entry(key.clone()).or_default();
                held.0.push_str(value);
                format!(":{}", held.0.len())
            }
            Op::Incr(key) => {
                let held = self.held.entry(key.clone()).or_insert(("0".to_owned(), false));
                let next = held.0.parse::<u64>().expect("a counter") + 1;
                held.0 = next.to_string();
                format!(":{next}")
            }
            Op::Del(one, other) => {
                let removed = [one, other].map(|key| usize::from(self.held.remove(key).is_some()));
                format!(":{}", removed.iter().sum::<usize>())
            }
            Op::Mset(value) => {
                let entries = self.pair().into_iter().map(|key| (key, (value.clone(), false)));
                self.held.extend(entries);
                "+OK".to_owned()
            }
            Op::Expire(key) => match self.held.get_mut(key) {
                Some(held) => {
                    held.1 = true;
                    ":1".to_owned()
                }
                None => ":0".to_owned(),
            },
        }
    }
}
