//! A row of the table of figures: names on each page, and how the value is read.

use super::samples::Samples;
use super::seen::Seen;
use super::value::Value;

/// How a figure is read.
pub(crate) enum Read {
    /// One value, shown on each page that the row names.
    One(fn(&Seen<'_>) -> Value),
    /// Fields of INFO with names that the row does not know.
    Fields(fn(&Seen<'_>, &mut String)),
    /// Samples of `/metrics` with labels.
    Samples(fn(&Seen<'_>, &mut Samples<'_>)),
}

/// A family of `/metrics`, in seconds and bytes. Names begin with `kvstore_`; those of counters end in `_total`.
pub(crate) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) help: &'static str,
}

pub(super) const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";
const HISTOGRAM: &str = "histogram";

/// A row of the table.
pub(crate) struct Figure {
    /// Its field in INFO, or empty.
    pub(super) field: &'static str,
    pub(super) family: Option<Family>,
    /// Its key in `/status.json`, as `object.key`, or empty.
    pub(super) status: &'static str,
    pub(super) read: Read,
}

impl Figure {
    const fn family(self, name: &'static str, kind: &'static str, help: &'static str) -> Figure {
        Figure { family: Some(Family { name, kind, help }), ..self }
    }

    pub(super) const fn counter(self, name: &'static str, help: &'static str) -> Figure {
        self.family(name, COUNTER, help)
    }

    pub(super) const fn gauge(self, name: &'static str, help: &'static str) -> Figure {
        self.family(name, GAUGE, help)
    }

    pub(super) const fn histogram(self, name: &'static str, help: &'static str) -> Figure {
        self.family(name, HISTOGRAM, help)
    }

    pub(super) const fn status(self, key: &'static str) -> Figure {
        Figure { status: key, ..self }
    }
}

const fn figure(field: &'static str, read: Read) -> Figure {
    Figure { field, family: None, status: "", read }
}

/// A figure of INFO; other pages are added to the row.
pub(super) const fn info(field: &'static str, read: fn(&Seen<'_>) -> Value) -> Figure {
    figure(field, Read::One(read))
}

/// A figure that is not in INFO.
pub(super) const fn other(read: fn(&Seen<'_>) -> Value) -> Figure {
    figure("", Read::One(read))
}

pub(super) const fn fields(write: fn(&Seen<'_>, &mut String)) -> Figure {
    figure("", Read::Fields(write))
}

pub(super) const fn samples(write: fn(&Seen<'_>, &mut Samples<'_>)) -> Figure {
    figure("", Read::Samples(write))
}
