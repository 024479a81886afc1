//! INFO: the table of figures with the sections and fields that clients and monitoring tools read from
//! Redis 7.

use super::figure::{Figure, Read};
use super::figures::SECTIONS;
use super::labelled::field;
use super::seen::Seen;
use super::value::Value;
use crate::engine::Engine;

/// The sections asked for. `default`, `all` and `everything` are groups of them.
pub fn page(engine: &Engine, wanted: &[String]) -> String {
    let asks_for = |name: &str| wanted.iter().any(|word| word.eq_ignore_ascii_case(name));
    let default = wanted.is_empty() || asks_for("default");
    let all = asks_for("all") || asks_for("everything");
    let seen = Seen::take(engine);
    let mut page = String::with_capacity(4096);
    for (heading, by_default, figures) in SECTIONS {
        if all || (default && *by_default) || asks_for(heading) {
            if !page.is_empty() {
                page.push_str("\r\n");
            }
            page.extend(["# ", heading, "\r\n"]);
            write_fields(&seen, figures, &mut page);
        }
    }
    page
}

fn write_fields(seen: &Seen<'_>, figures: &[Figure], page: &mut String) {
    for figure in figures {
        match figure.read {
            Read::Fields(write) => write(seen, page),
            Read::One(read) if !figure.field.is_empty() => match read(seen) {
                Value::None | Value::Histogram(..) => {}
                Value::Unknown => field(page, figure.field, -1),
                Value::Flag(flag) => field(page, figure.field, u8::from(flag)),
                Value::Millis(millis) => field(page, figure.field, millis),
                Value::Number(value) | Value::Text(value) => field(page, figure.field, value),
            },
            Read::One(_) | Read::Samples(_) => {}
        }
    }
}
