//! The replies that a client got, to be compared with the data in the end.

use crate::common::resp::{Resp, Value};

/// One connection's writes: a key for each, and a counter of all of them.
pub struct Ledger {
    name: String,
    value: String,
    attempts: usize,
    acked: Vec<String>,
    counted: u64,
    /// INCRs that were answered with an error: it says nothing about whether they will be there.
    unknown: u64,
}

impl Ledger {
    /// A ledger whose values have this length.
    pub fn new(name: &str, value_len: usize) -> Ledger {
        let (name, value) = (name.to_owned(), "v".repeat(value_len));
        Ledger { name, value, attempts: 0, acked: Vec::new(), counted: 0, unknown: 0 }
    }

    /// Tries two writes; returns the error of the second, which must be a MISCONF.
    pub fn write(&mut self, client: &mut Resp) -> Result<(), String> {
        self.attempts += 1;
        let key = format!("{}:{}", self.name, self.attempts);
        match client.call(&["SET", &key, &self.value]) {
            Value::Error(text) => check_error(&text),
            reply => {
                assert_eq!(reply, Value::ok(), "SET {key}");
                self.acked.push(key);
            }
        }
        match client.call(&["INCR", &self.counter()]) {
            Value::Error(text) => {
                check_error(&text);
                self.unknown += 1;
                Err(text)
            }
            reply => {
                self.counted += 1;
                let count = reply.as_int() as u64;
                assert!(self.is_possible(count), "INCR says {count}; {}", self.report());
                Ok(())
            }
        }
    }

    /// Writes until it is refused.
    pub fn write_until_refused(&mut self, client: &mut Resp) -> String {
        (0..100_000).find_map(|_| self.write(client).err()).expect("the disk fills up at last")
    }

    /// Everything acknowledged is there, and nothing twice.
    pub fn check(&self, client: &mut Resp) {
        for key in &self.acked {
            let value = client.call(&["GET", key]);
            assert_eq!(value, Value::bulk(&self.value), "{key} was acknowledged");
        }
        let count = match client.call(&["GET", &self.counter()]) {
            Value::Null => 0,
            value => String::from_utf8_lossy(value.as_bytes()).parse().expect("a counter"),
        };
        assert!(self.is_possible(count), "the counter is {count}; {}", self.report());
    }

    /// A reading of the newest values only.
    pub fn check_some(&self, client: &mut Resp) {
        for key in self.acked.iter().rev().take(3) {
            assert_eq!(client.call(&["GET", key]), Value::bulk(&self.value), "{key}");
        }
    }

    /// The number of acknowledged writes.
    pub fn acked(&self) -> usize {
        self.acked.len()
    }

    fn counter(&self) -> String {
        format!("{}:count", self.name)
    }

    fn is_possible(&self, count: u64) -> bool {
        (self.counted..=self.counted + self.unknown).contains(&count)
    }

    fn report(&self) -> String {
        format!("{} INCRs acknowledged, {} answered with an error", self.counted, self.unknown)
    }
}

fn check_error(text: &str) {
    assert!(text.starts_with("MISCONF "), "an error of another kind: {text}");
}

/// A field of INFO.
pub fn info(client: &mut Resp, field: &str) -> String {
    let page = client.call(&["INFO", "persistence"]);
    let page = String::from_utf8_lossy(page.as_bytes()).into_owned();
    let found = page.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {field} in {page}")).to_owned()
}
