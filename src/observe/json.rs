//! Writes JSON: just what `/status.json` needs.

use crate::metrics::HistogramSnapshot;
use std::fmt::{Display, Write};

/// A JSON document that is being written.
#[derive(Default)]
pub(super) struct Json {
    pub(super) text: String,
}

impl Json {
    /// A comma follows a value; nothing follows an opening bracket or a colon.
    fn separate(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with(['{', '[', ':']) {
            self.text.push(',');
        }
    }

    pub(super) fn raw(&mut self, value: impl Display) {
        self.separate();
        let _ = write!(self.text, "{value}");
    }

    pub(super) fn string(&mut self, value: &str) {
        self.separate();
        self.text.push('"');
        for c in value.chars() {
            match c {
                '"' | '\\' => self.text.extend(['\\', c]),
                c if c < ' ' => {
                    let _ = write!(self.text, "\\u{:04x}", c as u32);
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }

    pub(super) fn key(&mut self, name: &str, value: impl FnOnce(&mut Json)) {
        self.string(name);
        self.text.push(':');
        value(self);
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.key(name, |json| json.string(value));
    }

    pub(super) fn number(&mut self, name: &str, value: impl Display) {
        self.key(name, |json| json.raw(value));
    }

    /// A pair for each bucket: its largest value and its count.
    pub(super) fn histogram(&mut self, name: &str, histogram: &HistogramSnapshot) {
        self.key(name, |json| {
            json.array(|json| {
                for (bound, count) in histogram.buckets() {
                    json.raw(format_args!("[{bound},{count}]"));
                }
            });
        });
    }

    pub(super) fn object(&mut self, fields: impl FnOnce(&mut Json)) {
        self.separate();
        self.text.push('{');
        fields(self);
        self.text.push('}');
    }

    pub(super) fn array(&mut self, items: impl FnOnce(&mut Json)) {
        self.separate();
        self.text.push('[');
        items(self);
        self.text.push(']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_well_formed() {
        let mut json = Json::default();
        json.object(|json| {
            json.text("a\"b", "c\\d\n:é");
            json.key("list", |json| {
                json.array(|json| {
                    json.raw(1);
                    json.object(|_| ());
                    json.array(|json| json.string("{"));
                    json.raw(2);
                });
            });
            json.number("n", 1.5);
        });
        let expected = r#"{"a\"b":"c\\d\u000a:é","list":[1,{},["{"],2],"n":1.5}"#;
        assert_eq!(json.text, expected);
    }
}
