//! The wire: from bytes to requests, from replies to bytes. Pure: no socket, no clock.
//!
//! One port serves people and programs. The first byte of each request decides:
//!
//! ```text
//! *3␍␊$3␍␊SET␍␊$1␍␊k␍␊$1␍␊v␍␊     begins with '*': a RESP array, answered in RESP2 or RESP3
//! SET k hello big world␊           anything else: a line of text, answered in text
//! ```
//!
//! - `request` takes one request at a time from the bytes received so far ([`Decoder`]).
//! - `input` is the buffer that they are read into ([`Input`]).
//! - `line` is the grammar of a line of text: words, quotes, telnet's control sequences.
//! - `reply` writes a reply in any of the three dialects ([`Reply`]); `levels` numbers arrays in text.
//! - `quoting` has the escapes for all of them.
//!
//! Promised:
//!
//! - An announced length is never trusted for an allocation: memory grows with the bytes received.
//! - A request that arrives in a thousand pieces is parsed once.
//! - A value that text prints in quotes reads back to the same bytes, and no value can forge a reply.
//!
//! Out of scope: what commands mean. Redis's inline requests are our text lines.

mod args;
mod input;
mod levels;
mod line;
mod quoting;
mod reply;
mod request;

pub use args::{Args, Span};
pub use input::Input;
pub use line::Word;
pub use quoting::{Escaping, escape, quote, unescape};
pub use reply::{Dialect, Mark, Reply};
pub use request::{Decoder, Limits, Step, integer};
