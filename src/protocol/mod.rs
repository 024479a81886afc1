//! The wire: from bytes to requests, from replies to bytes. Pure: no socket, no clock.
//!
//! One port serves people and programs. The first byte of each request decides:
//!
//! ```text
//! *3␍␊$3␍␊SET␍␊$1␍␊k␍␊$1␍␊v␍␊     begins with '*': a RESP array, answered in RESP2 or RESP3
//! SET k hello big world␊           anything else: a line of text, answered in text
//! ```
//!
//! - `request` takes one request at a time off the bytes received so far ([`Decoder`]).
//! - `input` is the buffer that they are read into ([`Input`]).
//! - `text` is the grammar of a line: words, quotes, telnet's control sequences.
//! - `reply` writes one answer in any of the three dialects ([`Reply`]).
//!
//! What is promised: a length that a client announces is never trusted for an allocation, so memory
//! grows with the bytes that were really received; a request that comes in a thousand pieces is looked
//! at once; whatever text prints, `text` can read back, and no value can forge a reply.
//!
//! Out of scope: what commands mean. Inline requests of Redis are our text lines.

mod args;
mod input;
mod reply;
mod request;
mod text;

pub use args::{Args, Span};
pub use input::Input;
pub use reply::{Dialect, Mark, Reply};
pub use request::{Decoder, Limits, Step, integer};
pub use text::{Word, quote};
