//! Plays a transcript against a server and returns what came back.

use super::script::{Action, CLOSED, Script, matches, may_still_match, shown};
use crate::common::server::connect;
use crate::common::{DEADLINE, wait_until};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// Unexpected lines come within this time or not at all: a reply is one write.
const QUIET: Duration = Duration::from_millis(200);
/// When expectations are rewritten, how long a reply is waited for.
const PATIENCE_OF_UPDATE: Duration = Duration::from_millis(1500);

/// The lines that came back for each step, and in the end those that no step expected.
pub fn play(script: &Script, port: u16, updating: bool) -> Vec<Vec<String>> {
    let mut clients = BTreeMap::new();
    let mut replies: Vec<Vec<String>> = vec![];
    for step in script.steps() {
        let client = clients.entry(step.client.clone()).or_insert_with(|| Player::connect(port));
        client.act(&step.action);
        if matches!(step.action, Action::Close) {
            clients.remove(&step.client);
            replies.push(vec![]);
        } else {
            replies.push(client.observe(&step.reply, updating));
        }
    }
    let rest = clients.into_values().filter(|client| !client.closed).flat_map(|mut client| {
        client.act(&Action::HalfClose);
        client.observe(&[CLOSED.to_owned()], false)
    });
    replies.push(rest.filter(|line| line != CLOSED).collect());
    replies
}

struct Player {
    stream: TcpStream,
    received: Vec<u8>,
    /// The server has closed.
    closed: bool,
}

impl Player {
    fn connect(port: u16) -> Player {
        Player { stream: connect(port), received: vec![], closed: false }
    }

    fn act(&mut self, action: &Action) {
        // A write fails if the server has closed, which is what the reading will show.
        let _ = match action {
            Action::Type(line) => self.stream.write_all(format!("{line}\r\n").as_bytes()),
            Action::Send(bytes) => self.stream.write_all(bytes),
            Action::HalfClose => self.stream.shutdown(Shutdown::Write),
            Action::UntilItLeads => {
                assert!(wait_until(DEADLINE, || self.sees_a_leader()), "it is not elected");
                Ok(())
            }
            Action::Close | Action::Wait => Ok(()),
        };
    }

    /// It leads, and the first record of its epoch is durable.
    fn sees_a_leader(&mut self) -> bool {
        self.act(&Action::Type("INFO cluster".to_owned()));
        self.act(&Action::Type("ECHO end".to_owned()));
        while !self.received.ends_with(b"end\n") && self.receive(DEADLINE) && !self.closed {}
        let info = String::from_utf8_lossy(&std::mem::take(&mut self.received)).into_owned();
        info.contains("part=leader") && info.contains("kvstore_cluster_memory:whole")
    }

    /// Reads until what came is what is expected, or cannot become so.
    fn observe(&mut self, expected: &[String], updating: bool) -> Vec<String> {
        let is_new = updating && expected.is_empty();
        loop {
            let lines = self.lines();
            if self.closed || (matches(expected, &lines) && !is_new) {
                self.received.clear();
                return lines;
            }
            let hope = may_still_match(expected, &lines) && (!is_new || lines.is_empty());
            let patience = match (hope, updating) {
                (false, _) => QUIET,
                (true, true) => PATIENCE_OF_UPDATE,
                (true, false) => DEADLINE,
            };
            if !self.receive(patience) {
                self.received.clear();
                return lines;
            }
        }
    }

    /// The bytes received, and whether the server closed the connection after them.
    fn lines(&self) -> Vec<String> {
        let whole = self.received.strip_suffix(b"\n").unwrap_or(&self.received);
        let mut lines: Vec<String> = whole.split(|&byte| byte == b'\n').map(shown).collect();
        if self.received.is_empty() {
            lines.clear();
        } else if !self.received.ends_with(b"\n")
            && let Some(last) = lines.last_mut()
        {
            last.push_str("<no line end>");
        }
        lines.extend(self.closed.then(|| CLOSED.to_owned()));
        lines
    }

    /// True if something happened in that time.
    fn receive(&mut self, patience: Duration) -> bool {
        self.stream.set_read_timeout(Some(patience)).expect("a socket option");
        let mut bytes = [0; 16 << 10];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.closed = true,
            Ok(n) => self.received.extend_from_slice(&bytes[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.closed = true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return false;
            }
            Err(error) => panic!("reading a reply: {error}"),
        }
        true
    }
}
