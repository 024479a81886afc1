//! The hazard: a client that is broken, slow, greedy or malicious, and harms the others.
//!
//! Whatever arrives, the server answers that client or cuts it off; its memory stays bounded; nothing
//! leaks; everybody else goes on as if nothing had happened. So each test does one hostile thing
//! and then asks the same three questions ([`Scene::assert_unharmed`]): is the process alive, does a
//! client that was there before still get right answers, does a new one?
//!
//! - `framing`: lengths of 10^18, a billion elements, noise, nested garbage, browsers; the error texts
//!   against a real Redis.
//! - `endless`: lines, headers and requests without an end.
//! - `silent`: half a command and then nothing; clients that never read.
//! - `unread`: 600 clients that never read, replies of every sort, and the memory they may take.
//! - `limits`: one client too many; requests before AUTH.
//! - `patterns`: patterns made to be slow to match.
//! - `pipelines`: 200,000 requests before the first reply is read; half-close; requests after QUIT.
//! - `crowds`: many clients at once, idle or busy, and clients that come and go.
//!
//! `KVSTORE_LONG=1` makes the crowds ten times as large (`make soak`).

#[path = "../common/mod.rs"]
mod common;

mod crowds;
mod endless;
mod framing;
mod limits;
mod patterns;
mod pipelines;
mod silent;
mod unread;

use common::resp::{Resp, Value};
use common::server::Server;
use common::text::Text;
use common::wait_until;

/// A server, and a client of it that does nothing wrong.
struct Scene {
    server: Server,
    bystander: Resp,
    answers: u64,
}

impl Scene {
    fn new(settings: &[(&str, &str)]) -> Scene {
        let server = Server::start(settings);
        let bystander = Resp::connect(server.port());
        Scene { server, bystander, answers: 0 }
    }

    fn port(&self) -> u16 {
        self.server.port()
    }

    /// The conditions that hold after anything that a hostile client did.
    fn assert_unharmed(&mut self, after: &str) {
        assert!(self.server.is_alive(), "after {after} the server is gone");
        self.assert_bystander_is_served(after);
        let pong = Resp::connect(self.port()).call(&["PING"]);
        assert_eq!(pong, Value::simple("PONG"), "a new RESP client after {after}");
        assert_eq!(
            Text::connect(self.port()).line("PING"),
            "PONG",
            "a new text client after {after}"
        );
    }

    fn assert_bystander_is_served(&mut self, after: &str) {
        self.answers += 1;
        let value = self.answers.to_string();
        assert_eq!(
            self.bystander.call(&["SET", "bystander", &value]),
            Value::ok(),
            "after {after}"
        );
        let stored = self.bystander.call(&["GET", "bystander"]);
        assert_eq!(stored, Value::bulk(&value), "after {after}");
    }

    /// A number from INFO.
    fn info(&mut self, field: &str) -> u64 {
        let page = self.bystander.call(&["INFO"]);
        let page = String::from_utf8_lossy(page.as_bytes()).into_owned();
        let value = page.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let value = value.unwrap_or_else(|| panic!("INFO has no {field}:\n{page}"));
        value.trim().parse().unwrap_or_else(|_| panic!("{field}:{value} is not a number"))
    }

    fn wait_for_info(&mut self, field: &str, expected: u64) {
        let reached = wait_until(common::DEADLINE, || self.info(field) == expected);
        assert!(reached, "{field} is {} and not {expected}", self.info(field));
    }

    /// Waits until so many clients have a request of so many bytes unfinished: the server has then
    /// seen all that they sent.
    fn wait_for_unfinished(&mut self, clients: usize, bytes: usize) {
        let field = format!(" qbuf={bytes} ");
        let mut list = String::new();
        let seen = wait_until(common::DEADLINE, || {
            let page = self.bystander.call(&["CLIENT", "LIST"]);
            list = String::from_utf8_lossy(page.as_bytes()).into_owned();
            list.lines().filter(|line| line.contains(&field)).count() == clients
        });
        assert!(seen, "not {clients} clients with {bytes} bytes waiting:\n{list}");
    }

    fn assert_is_nil(&mut self, key: &str) {
        assert_eq!(self.bystander.call(&["GET", key]), Value::Null, "{key} was set");
    }
}
