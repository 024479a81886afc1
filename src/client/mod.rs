//! The client library. It imports nothing of the server but the pure part of [`crate::protocol`].
//!
//! ```no_run
//! use kvstore::client::{Client, Error, Event, Reads};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Error> {
//! let client = Client::builder().nodes(["127.0.0.1:8080"]).pool(16)
//!     .checkout(Duration::from_millis(200)).deadline(Duration::from_secs(2)).build()?;
//! client.set("visits", "0")?;
//! let n: i64 = client.incr("visits")?;      // Err(Error::InDoubt(_)): sent and not answered, and not sent again
//! let (a, b): (Option<String>, i64) = client.pipeline().get("a").incr("b").run()?;
//! let mut session = client.session(Reads::Followers { wait: Duration::from_millis(50) });
//! session.set("name", "Ada")?;
//! let name: Option<String> = session.get("name")?;      // from a follower once it has that write, else from the leader
//! let done: bool = client.compare_and_set("lease", Some("me:1"), "me:2")?;
//! for event in client.subscribe(["news"])? {
//!     match event? { Event::Message(m) => println!("{}", m.payload_str()), Event::Gap => {} }
//! }
//! # drop((n, a, b, name, done));
//! # Ok(())
//! # }
//! ```
//!
//! # The way of a call
//!
//! ```text
//! handle      INCR visits                     Client, Session, Pipeline; a Subscriber has a connection for itself
//! command     encodes it; does it read?
//! executor    attempts until the deadline; after each one, `retry` says whether another is allowed
//! attempt     send, receive
//! pool        lends a connection, first come, first served
//! cluster     finds the node that leads
//! connection  one socket, with deadlines
//! reply       bytes to values ─▶ convert: values to the caller's types
//! ```
//!
//! Read [`pool`] for connections that many threads share, and `retry` for what may be sent twice.
//!
//! # Threads
//!
//! The library starts none: every call runs in the thread of its caller, which blocks until the call's deadline at most. A
//! [`Client`] may be shared or cloned; clones share one pool.
//!
//! # Out of scope
//!
//! - TLS: use a tunnel.
//! - Commands that change their connection (MULTI, WATCH, SELECT, …): the pool's next caller would get it so changed.
//! - A cache in the client, and replies that are processed while they arrive.

mod attempt;
mod builder;
mod cluster;
mod command;
pub(crate) mod connection;
mod convert;
mod error;
mod executor;
mod followers;
mod handle;
mod pipeline;
pub mod pool;
mod reply;
mod retry;
mod session;
mod subscriber;
mod token;

pub use builder::Builder;
pub use command::{HARMLESS, READS};
pub use convert::FromValue;
pub use error::Error;
pub use handle::{Call, Client};
pub use pipeline::Pipeline;
pub use pool::Figures;
pub use reply::{Decoder, Malformed, Value};
pub use session::{Reads, Session};
pub use subscriber::{Event, Message, Subscriber};
pub use token::Token;
