//! The oracle: a map, one command after another, nothing clever. And the commands to try it with.
//!
//! Time does not matter to it: deadlines are either far in the future, and then given as points in time
//! so that they can be compared exactly, or in the past, and then the key is gone.

use super::common::resp::Value;
use super::common::rng::Rng;
use std::collections::BTreeMap;

type Command = Vec<Vec<u8>>;

/// The year 2100 and a bit, in seconds.
const FAR_SECONDS: i64 = 4_102_444_800;

/// Any command of those that the model knows, on some of these keys.
pub fn random_command(rng: &mut Rng, keys: &[Vec<u8>]) -> Command {
    let mut words: Command = vec![];
    let template = rng.pick(TEMPLATES);
    for word in template.split(' ') {
        match word {
            "$key" => words.push(any_key(rng, keys)),
            "$value" => words.push(value(rng)),
            "$int" => words.push(rng.between(-50, 50).to_string().into()),
            "$offset" => words.push(rng.between(0, 40).to_string().into()),
            "$bit" => words.push(rng.between(0, 1).to_string().into()),
            "$at" => words.push((FAR_SECONDS + rng.between(0, 1000)).to_string().into()),
            "$at_ms" => words.push((FAR_SECONDS * 1000 + rng.between(0, 1000)).to_string().into()),
            "$past" => words.push(rng.between(-5, 0).to_string().into()),
            "$pairs" => {
                for _ in 0..rng.below(4) + 1 {
                    words.extend([any_key(rng, keys), value(rng)]);
                }
            }
            literal => words.push(literal.as_bytes().to_vec()),
        }
    }
    words
}

fn any_key(rng: &mut Rng, keys: &[Vec<u8>]) -> Vec<u8> {
    keys[rng.below(keys.len())].clone()
}

/// Numbers, short texts and bytes.
fn value(rng: &mut Rng) -> Vec<u8> {
    match rng.below(3) {
        0 => rng.between(-1000, 1000).to_string().into_bytes(),
        1 => "abc".repeat(rng.below(10)).into_bytes(),
        _ => {
            let len = rng.below(12);
            rng.bytes(len)
        }
    }
}

const TEMPLATES: &[&str] = &[
    "SET $key $value",
    "SET $key $value NX",
    "SET $key $value XX",
    "SET $key $value GET",
    "SET $key $value KEEPTTL",
    "SET $key $value EXAT $at",
    "SET $key $value PXAT $at_ms XX GET",
    "SET $key $value IFEQ $value",
    "SET $key $value IFNE $value",
    "SETNX $key $value",
    "GETSET $key $value",
    "GET $key",
    "GETDEL $key",
    "DELEX $key IFEQ $value",
    "GETEX $key PERSIST",
    "GETEX $key EXAT $at",
    "STRLEN $key",
    "APPEND $key $value",
    "INCR $key",
    "DECR $key",
    "INCRBY $key $int",
    "DECRBY $key $int",
    "SETRANGE $key $offset $value",
    "GETRANGE $key $int $int",
    "SETBIT $key $offset $bit",
    "GETBIT $key $offset",
    "MSET $pairs",
    "MSETNX $pairs",
    "MGET $key $key $key",
    "DEL $key",
    "DEL $key $key",
    "UNLINK $key",
    "EXISTS $key $key",
    "TYPE $key",
    "RENAME $key $key",
    "RENAMENX $key $key",
    "COPY $key $key",
    "COPY $key $key REPLACE",
    "EXPIREAT $key $at",
    "PEXPIREAT $key $at_ms",
    "EXPIREAT $key $at NX",
    "EXPIREAT $key $at XX",
    "EXPIREAT $key $at GT",
    "PEXPIREAT $key $at_ms LT",
    "EXPIRE $key $past",
    "PEXPIREAT $key $past",
    "PERSIST $key",
    "EXPIRETIME $key",
    "PEXPIRETIME $key",
];

/// A value and its deadline in Unix milliseconds.
type Entry = (Vec<u8>, Option<i64>);

pub struct Model(BTreeMap<Vec<u8>, Entry>);

impl Model {
    pub fn new() -> Model {
        Model(BTreeMap::new())
    }

    pub fn run(&mut self, command: &Command) -> Value {
        let name = String::from_utf8(command[0].clone()).expect("a name of letters");
        let (key, rest) = (&command[1], &command[2..]);
        match name.as_str() {
            "SET" => self.set(key, &rest[0], &rest[1..]),
            "SETNX" => flag(self.set(key, &rest[0], &[b"NX".to_vec()]) == Value::ok()),
            "GETSET" => self.set(key, &rest[0], &[b"GET".to_vec()]),
            "GET" => self.get(key),
            "DELEX" => {
                let met = self.0.get(key).is_some_and(|entry| entry.0 == rest[1]);
                if met {
                    self.0.remove(key);
                }
                flag(met)
            }
            "GETDEL" => bulk_or_nil(self.0.remove(key).map(|entry| entry.0)),
            "GETEX" => self.getex(key, rest),
            "STRLEN" => Value::Int(self.value(key).len() as i64),
            "APPEND" => self.edit(key, |value| value.extend_from_slice(&rest[0])),
            "INCR" => self.add(key, 1),
            "DECR" => self.add(key, -1),
            "INCRBY" => self.add(key, number(&rest[0])),
            "DECRBY" => self.add(key, -number(&rest[0])),
            "SETRANGE" if rest[1].is_empty() => Value::Int(self.value(key).len() as i64),
            "SETRANGE" => {
                self.edit(key, |value| overwrite(value, number(&rest[0]) as usize, &rest[1]))
            }
            "GETRANGE" => getrange(&self.value(key), number(&rest[0]), number(&rest[1])),
            "SETBIT" => self.setbit(key, number(&rest[0]) as usize, number(&rest[1]) as u8),
            "GETBIT" => Value::Int(bit(&self.value(key), number(&rest[0]) as usize)),
            "MSET" => self.mset(&command[1..]),
            "MSETNX" if command[1..].chunks(2).any(|pair| self.0.contains_key(&pair[0])) => {
                Value::Int(0)
            }
            "MSETNX" => flag(self.mset(&command[1..]) == Value::ok()),
            "MGET" => Value::Array(command[1..].iter().map(|key| self.get(key)).collect()),
            "DEL" | "UNLINK" => count(&command[1..], |key| self.0.remove(key).is_some()),
            "EXISTS" => count(&command[1..], |key| self.0.contains_key(key)),
            "TYPE" => Value::simple(if self.0.contains_key(key) { "string" } else { "none" }),
            "RENAME" => self.rename(key, &rest[0], true),
            "RENAMENX" => self.rename(key, &rest[0], false),
            "COPY" => self.copy(key, &rest[0], rest.len() > 1),
            "EXPIRE" => flag(self.0.remove(key).is_some()),
            "EXPIREAT" => self.expire(key, number(&rest[0]) * 1000, rest.get(1)),
            "PEXPIREAT" => self.expire(key, number(&rest[0]), rest.get(1)),
            "PERSIST" => flag(self.0.get_mut(key).is_some_and(|entry| entry.1.take().is_some())),
            "EXPIRETIME" => self.deadline(key, 1000),
            "PEXPIRETIME" => self.deadline(key, 1),
            other => panic!("the model does not know {other}"),
        }
    }

    fn value(&self, key: &[u8]) -> Vec<u8> {
        self.0.get(key).map(|entry| entry.0.clone()).unwrap_or_default()
    }

    fn get(&self, key: &[u8]) -> Value {
        bulk_or_nil(self.0.get(key).map(|entry| entry.0.clone()))
    }

    fn set(&mut self, key: &[u8], value: &[u8], options: &[Vec<u8>]) -> Value {
        let old = self.0.get(key).cloned();
        let (mut met, mut get, mut deadline) = (true, false, None);
        let mut options = options.iter();
        while let Some(option) = options.next() {
            let mut argument = || options.next().expect("an argument");
            match option.as_slice() {
                b"NX" => met = old.is_none(),
                b"XX" => met = old.is_some(),
                b"IFEQ" => {
                    let expected = argument();
                    met = old.as_ref().is_some_and(|old| old.0 == *expected);
                }
                b"IFNE" => {
                    let unwanted = argument();
                    met = old.as_ref().is_none_or(|old| old.0 != *unwanted);
                }
                b"GET" => get = true,
                b"KEEPTTL" => deadline = old.as_ref().and_then(|old| old.1),
                b"EXAT" => deadline = Some(number(argument()) * 1000),
                _ => deadline = Some(number(argument())),
            }
        }
        if met {
            self.0.insert(key.to_vec(), (value.to_vec(), deadline));
        }
        match (get, met) {
            (true, _) => bulk_or_nil(old.map(|old| old.0)),
            (false, true) => Value::ok(),
            (false, false) => Value::Null,
        }
    }

    fn getex(&mut self, key: &[u8], options: &[Vec<u8>]) -> Value {
        if let Some(entry) = self.0.get_mut(key) {
            entry.1 = options.get(1).map(|at| number(at) * 1000);
        }
        self.get(key)
    }

    /// Changes a value in place and answers its new length.
    fn edit(&mut self, key: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Value {
        let entry = self.0.entry(key.to_vec()).or_default();
        change(&mut entry.0);
        Value::Int(entry.0.len() as i64)
    }

    fn add(&mut self, key: &[u8], by: i64) -> Value {
        let old = match self.0.get(key) {
            None => Some(0),
            Some((value, _)) => std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<i64>().ok().filter(|n| n.to_string() == text)),
        };
        let Some(old) = old else {
            return Value::error("ERR value is not an integer or out of range");
        };
        let new = old + by;
        self.0.entry(key.to_vec()).or_default().0 = new.to_string().into_bytes();
        Value::Int(new)
    }

    fn setbit(&mut self, key: &[u8], offset: usize, new: u8) -> Value {
        let old = bit(&self.value(key), offset);
        self.edit(key, |value| {
            value.resize(value.len().max(offset / 8 + 1), 0);
            let mask = 0x80 >> (offset % 8);
            value[offset / 8] = value[offset / 8] & !mask | if new == 1 { mask } else { 0 };
        });
        Value::Int(old)
    }

    fn mset(&mut self, pairs: &[Vec<u8>]) -> Value {
        for pair in pairs.chunks(2) {
            self.0.insert(pair[0].clone(), (pair[1].clone(), None));
        }
        Value::ok()
    }

    fn rename(&mut self, from: &[u8], to: &[u8], over: bool) -> Value {
        let Some(entry) = self.0.get(from).cloned() else { return Value::error("ERR no such key") };
        if !over && self.0.contains_key(to) {
            return Value::Int(0);
        }
        self.0.remove(from);
        self.0.insert(to.to_vec(), entry);
        if over { Value::ok() } else { Value::Int(1) }
    }

    fn copy(&mut self, from: &[u8], to: &[u8], over: bool) -> Value {
        if from == to {
            return Value::error("ERR source and destination objects are the same");
        }
        match self.0.get(from).cloned() {
            Some(entry) if over || !self.0.contains_key(to) => {
                self.0.insert(to.to_vec(), entry);
                Value::Int(1)
            }
            _ => Value::Int(0),
        }
    }

    fn expire(&mut self, key: &[u8], at: i64, condition: Option<&Vec<u8>>) -> Value {
        let Some((_, deadline)) = self.0.get_mut(key) else { return Value::Int(0) };
        // No deadline counts as one that never comes.
        let before = deadline.unwrap_or(i64::MAX);
        let met = match condition.map(Vec::as_slice) {
            Some(b"NX") => deadline.is_none(),
            Some(b"XX") => deadline.is_some(),
            Some(b"GT") => at > before,
            Some(b"LT") => at < before,
            _ => true,
        };
        if met {
            *deadline = Some(at);
            if at <= 0 {
                self.0.remove(key);
            }
        }
        flag(met)
    }

    fn deadline(&self, key: &[u8], unit: i64) -> Value {
        Value::Int(match self.0.get(key) {
            None => -2,
            Some((_, None)) => -1,
            Some((_, Some(at))) if unit == 1 => *at,
            // Rounded to the nearest second, as Redis does.
            Some((_, Some(at))) => (at + unit / 2) / unit,
        })
    }
}

fn number(word: &[u8]) -> i64 {
    std::str::from_utf8(word).ok().and_then(|text| text.parse().ok()).expect("a number")
}

fn flag(yes: bool) -> Value {
    Value::Int(i64::from(yes))
}

fn bulk_or_nil(value: Option<Vec<u8>>) -> Value {
    value.map_or(Value::Null, Value::Bulk)
}

fn count(keys: &[Vec<u8>], mut is: impl FnMut(&Vec<u8>) -> bool) -> Value {
    Value::Int(keys.iter().filter(|key| is(key)).count() as i64)
}

fn overwrite(value: &mut Vec<u8>, offset: usize, part: &[u8]) {
    value.resize(value.len().max(offset + part.len()), 0);
    value[offset..offset + part.len()].copy_from_slice(part);
}

fn bit(value: &[u8], offset: usize) -> i64 {
    value.get(offset / 8).map_or(0, |byte| i64::from(byte >> (7 - offset % 8) & 1))
}

/// From `start` to `end`, both included, negative ones counted from the end.
fn getrange(value: &[u8], start: i64, end: i64) -> Value {
    let len = value.len() as i64;
    let from_end = |at: i64| if at < 0 { (len + at).max(0) } else { at };
    let both_before = start < 0 && end < 0 && start > end;
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    if both_before || start > end {
        return Value::bulk("");
    }
    Value::bulk(&value[start as usize..=end as usize])
}
