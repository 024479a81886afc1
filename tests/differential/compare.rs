//! The ways in which two replies can agree.

use super::replies::reply_len;
use crate::common::resp::Value;

/// A reply as a value and as the bytes that came.
pub struct Reply {
    pub value: Value,
    pub raw: Vec<u8>,
}

impl Reply {
    /// The elements of an array; none if it is something else.
    pub fn elements(&self, protocol: u8) -> Vec<Reply> {
        let Value::Array(values) = &self.value else { return vec![] };
        let line_end = self.raw.iter().position(|&byte| byte == b'\n').expect("a header");
        let mut rest = &self.raw[line_end + 1..];
        let element = |value: &Value| {
            let (raw, more) = rest.split_at(reply_len(rest, protocol).expect("a whole reply"));
            rest = more;
            Reply { value: value.clone(), raw: raw.to_vec() }
        };
        values.iter().map(element).collect()
    }
}

/// The way in which a reply of ours is compared with that of Redis. In each way, an error and a null agree
/// only with the very same bytes, and two replies of different types never agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The same bytes.
    Exact,
    /// The same elements, in any order, at every depth.
    Sorted,
    /// Integers that lie this close together; those below zero are codes and must be the same.
    Within(i64),
    /// A point in time: the same if it was given as one, close if it was computed from the clock.
    /// `generate` keeps the two apart: what it gives as a point in time lies beyond
    /// `ABSOLUTE_FROM`, where no duration reaches.
    Deadline { absolute_from: i64, tolerance: i64 },
    /// Only the outermost type.
    Type,
    /// The types and the lengths, at every depth.
    Shape,
    /// An `OBJECT ENCODING` that is at least as compact as that of Redis.
    Encoding,
    /// `COMMAND INFO`: name, arity, key positions, and key specifications without their notes.
    CommandInfo,
    /// Exact, but Redis is sent a name that it does not know in place of one that it does.
    AsUnknown,
}

impl Compare {
    pub fn agree(self, redis: &Reply, ours: &Reply) -> bool {
        if redis.raw == ours.raw {
            return true;
        }
        let is_exact = |reply: &Reply| matches!(reply.value, Value::Error(_) | Value::Null);
        if is_exact(redis) || is_exact(ours) || redis.raw[0] != ours.raw[0] {
            return false;
        }
        match self {
            Compare::Exact | Compare::AsUnknown => false,
            Compare::Sorted => sorted(&redis.value) == sorted(&ours.value),
            Compare::Within(tolerance) => within(redis, ours, tolerance),
            Compare::Deadline { absolute_from, tolerance } => {
                redis.value.as_int() < absolute_from && within(redis, ours, tolerance)
            }
            Compare::Type => true,
            Compare::Shape => shape(&redis.value) == shape(&ours.value),
            Compare::Encoding => compactness(&ours.value) <= compactness(&redis.value),
            Compare::CommandInfo => command_info(&redis.value) == command_info(&ours.value),
        }
    }
}

fn within(redis: &Reply, ours: &Reply, tolerance: i64) -> bool {
    let (redis, ours) = (redis.value.as_int(), ours.value.as_int());
    redis >= 0 && ours >= 0 && redis.abs_diff(ours) <= tolerance as u64
}

/// The value with all its sequences in order.
fn sorted(value: &Value) -> Value {
    let in_order = |items: &[Value]| {
        let mut items: Vec<Value> = items.iter().map(sorted).collect();
        items.sort();
        items
    };
    match value {
        Value::Array(items) => Value::Array(in_order(items)),
        Value::Set(items) => Value::Set(in_order(items)),
        other => other.clone(),
    }
}

/// The value with its contents blanked out: what is left is what a client library decodes by.
fn shape(value: &Value) -> Value {
    match value {
        Value::Int(_) => Value::Int(0),
        Value::Bulk(_) => Value::bulk(""),
        Value::Array(items) => Value::Array(items.iter().map(shape).collect()),
        Value::Set(items) => Value::Set(items.iter().map(shape).collect()),
        Value::Map(pairs) => Value::Map(pairs.iter().map(|(k, v)| (k.clone(), shape(v))).collect()),
        other => other.clone(),
    }
}

fn compactness(encoding: &Value) -> usize {
    let order: [&[u8]; 3] = [b"int", b"embstr", b"raw"];
    let position = order.iter().position(|name| *name == encoding.as_bytes());
    position.unwrap_or_else(|| panic!("not an encoding of a string: {encoding:?}"))
}

/// Of each command: name, arity, first key, last key, step, key specifications.
fn command_info(reply: &Value) -> Vec<Vec<Value>> {
    let of_one = |info: &Value| match info {
        Value::Array(fields) => {
            [0, 1, 3, 4, 5, 8].iter().filter_map(|&i| fields.get(i)).map(without_notes).collect()
        }
        other => vec![other.clone()],
    };
    reply.as_array().iter().map(of_one).collect()
}

/// A key specification, or a list of them, without the remarks for people.
fn without_notes(value: &Value) -> Value {
    match value {
        Value::Array(items) => match &items[..] {
            [name, _, rest @ ..] if *name == Value::bulk("notes") => Value::Array(rest.to_vec()),
            items => Value::Array(items.iter().map(without_notes).collect()),
        },
        Value::Set(items) => Value::Set(items.iter().map(without_notes).collect()),
        Value::Map(pairs) => {
            let rest = pairs.iter().filter(|(name, _)| *name != Value::bulk("notes"));
            Value::Map(rest.cloned().collect())
        }
        other => other.clone(),
    }
}

/// Each way must be able to say no.
#[test]
fn each_way_tells_replies_apart() {
    let int = |n: i64| Reply { value: Value::Int(n), raw: format!(":{n}\r\n").into_bytes() };
    let bulk = |s: &str| Reply {
        value: Value::bulk(s),
        raw: format!("${}\r\n{s}\r\n", s.len()).into_bytes(),
    };
    let error = |s: &str| Reply { value: Value::error(s), raw: format!("-{s}\r\n").into_bytes() };
    let null = |raw: &str| Reply { value: Value::Null, raw: raw.into() };
    let list = |items: &[&str]| {
        let raw = items.iter().fold(format!("*{}\r\n", items.len()), |raw, i| {
            raw + &format!("${}\r\n{i}\r\n", i.len())
        });
        Reply { value: Value::Array(items.iter().map(Value::bulk).collect()), raw: raw.into() }
    };

    assert!(Compare::Exact.agree(&bulk("a"), &bulk("a")));
    assert!(!Compare::Exact.agree(&bulk("a"), &bulk("b")));
    assert!(!Compare::Exact.agree(&null("$-1\r\n"), &null("*-1\r\n")));
    assert!(Compare::Sorted.agree(&list(&["a", "b"]), &list(&["b", "a"])));
    assert!(!Compare::Sorted.agree(&list(&["a", "b"]), &list(&["a", "c"])));
    assert!(!Compare::Sorted.agree(&list(&["a", "a", "b"]), &list(&["a", "b", "b"])));
    assert!(Compare::Within(5).agree(&int(100), &int(105)));
    assert!(!Compare::Within(5).agree(&int(100), &int(106)));
    assert!(!Compare::Within(5).agree(&int(-1), &int(-2)));
    let deadline = Compare::Deadline { absolute_from: 1000, tolerance: 5 };
    assert!(deadline.agree(&int(900), &int(905)));
    assert!(!deadline.agree(&int(1000), &int(1001)));
    assert!(!deadline.agree(&int(-1), &int(1)));
    assert!(Compare::Type.agree(&bulk("a"), &bulk("b")));
    assert!(!Compare::Type.agree(&bulk("1"), &int(1)));
    assert!(!Compare::Type.agree(&error("ERR a"), &error("ERR b")));
    assert!(!Compare::Type.agree(&null("$-1\r\n"), &bulk("")));
    assert!(Compare::Shape.agree(&list(&["a"]), &list(&["b"])));
    assert!(!Compare::Shape.agree(&list(&["a"]), &list(&["a", "b"])));
    assert!(Compare::Encoding.agree(&bulk("raw"), &bulk("int")));
    assert!(!Compare::Encoding.agree(&bulk("int"), &bulk("raw")));
}
