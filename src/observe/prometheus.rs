//! `/metrics`: the table of figures in Prometheus's text format, version 0.0.4, in the table's order.
//!
//! A family without a sample is left out, and so is a command that was never called. A page has some ten
//! kilobytes.

use super::figure::{Family, Figure, Read};
use super::figures::figures;
use super::load::LoadProgress;
use super::samples::Samples;
use super::seen::Seen;
use super::value::Value;
use crate::engine::Engine;
use std::fmt::Write;

/// The format's media type.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The page during the first load, when there is nothing else to see.
pub fn loading(load: LoadProgress) -> String {
    let samples = [
        ("kvstore_loading", 1),
        ("kvstore_loading_total_bytes", load.total_bytes),
        ("kvstore_loading_loaded_bytes", load.loaded_bytes),
    ];
    let mut page = String::new();
    for (name, value) in samples {
        let families = families().filter(|(_, family)| family.name == name);
        families.for_each(|(_, family)| write_family(&mut page, family, |out| out.put(value)));
    }
    page
}

/// The page.
pub fn page(engine: &Engine) -> String {
    let seen = Seen::take(engine);
    let mut page = String::with_capacity(16 << 10);
    for (figure, family) in families() {
        write_family(&mut page, family, |out| write_samples(&seen, figure, out));
    }
    page
}

fn families() -> impl Iterator<Item = (&'static Figure, &'static Family)> {
    figures().filter_map(|figure| Some((figure, figure.family.as_ref()?)))
}

fn write_family(page: &mut String, family: &Family, write: impl FnOnce(&mut Samples<'_>)) {
    let Family { name, kind, help } = *family;
    let begin = page.len();
    let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    let head_end = page.len();
    write(&mut Samples { name, page });
    if page.len() == head_end {
        page.truncate(begin);
    }
}

fn write_samples(seen: &Seen<'_>, figure: &Figure, out: &mut Samples<'_>) {
    match figure.read {
        Read::Samples(write) => write(seen, out),
        Read::One(read) => match read(seen) {
            Value::None | Value::Unknown => {}
            Value::Flag(flag) => out.put(u8::from(flag)),
            Value::Millis(millis) => out.put(millis as f64 / 1e3),
            Value::Number(value) | Value::Text(value) => out.put(value),
            Value::Histogram(histogram, scale) => out.histogram(None, &histogram, scale),
        },
        Read::Fields(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn labels_are_escaped_and_families_without_samples_left_out() {
        let engine = Engine::open(
            Config::for_tests(&[("appendonly", "no")]),
            crate::admin::commands(),
            Default::default(),
        )
        .expect("no files");
        engine.metrics.count_error("A\"B\\C\nD");
        let page = page(&engine);
        assert!(page.contains("kvstore_errors_total{code=\"A\\\"B\\\\C\\nD\"} 1\n"), "{page}");
        assert!(page.contains("\n# TYPE kvstore_keys gauge\nkvstore_keys 0\n"), "{page}");
        assert!(
            !page.contains("kvstore_log_") && !page.contains("kvstore_commands_total"),
            "{page}"
        );
    }
}
