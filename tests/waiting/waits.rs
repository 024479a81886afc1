//! Each sort of wait, to be put in front of other commands.

use crate::call;
use crate::common::resp::{Resp, Value};
use crate::common::server::{Server, set_deadline};
use crate::common::{DEADLINE, skipped, wait_until};
use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How the wait ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// The commands in front take so long, longer than any key of the test lives.
    ByItself,
    /// The test does, with CLIENT UNPAUSE.
    WithUnpause,
    /// DEBUG RELOAD does: it gives the locks back.
    WithReload,
}

/// A sort of wait.
pub struct Wait {
    pub name: &'static str,
    /// Further settings of the server.
    pub settings: &'static [(&'static str, &'static str)],
    /// Commands of another client before.
    pub before: &'static [&'static str],
    /// Commands before and after those of the test, in the same pipeline.
    pub first: &'static [&'static str],
    pub last: &'static [&'static str],
    pub ends: Ends,
}

const PLAIN: Wait =
    Wait { name: "", settings: &[], before: &[], first: &[], last: &[], ends: Ends::ByItself };
const WITH_UNPAUSE: Wait = Wait { ends: Ends::WithUnpause, ..PLAIN };

pub const ALL: &[Wait] = &[
    Wait {
        name: "CLIENT PAUSE WRITE",
        before: &["CLIENT PAUSE 600000 WRITE"],
        first: &["SET first v"],
        ..WITH_UNPAUSE
    },
    Wait { name: "CLIENT PAUSE ALL", before: &["CLIENT PAUSE 600000"], ..WITH_UNPAUSE },
    Wait {
        name: "EXEC after a pause",
        before: &["CLIENT PAUSE 600000 WRITE"],
        first: &["MULTI"],
        last: &["EXEC"],
        ..WITH_UNPAUSE
    },
    Wait {
        name: "a pause that begins with an EXEC",
        first: &["MULTI", "CLIENT PAUSE 600000 WRITE", "EXEC", "SET first v"],
        ..WITH_UNPAUSE
    },
    Wait { name: "WAIT", first: &["SET first v", "WAIT 1 2000"], ..PLAIN },
    Wait { name: "WAITAOF", first: &["SET first v", "WAITAOF 0 1 2000"], ..PLAIN },
    Wait { name: "WAITSEQ", first: &["WAITSEQ 99.00000000:5 2000"], ..PLAIN },
    Wait { name: "DEBUG SLEEP", first: &["DEBUG SLEEP 2"], ..PLAIN },
    Wait { name: "TRACE DEBUG SLEEP", first: &["TRACE DEBUG SLEEP 2"], ..PLAIN },
    // At this pace the filling takes more than two seconds.
    Wait { name: "SAVE", settings: &[("compact-rate", "64kb")], first: &["SAVE"], ..PLAIN },
    Wait {
        name: "AUTH",
        before: &["CONFIG SET requirepass right"],
        first: &[
            "AUTH wrong",
            "AUTH wrong",
            "AUTH wrong",
            "AUTH wrong",
            "AUTH wrong",
            "AUTH wrong",
        ],
        ..PLAIN
    },
    Wait {
        name: "DEBUG RELOAD",
        settings: &[("appendfsync", "no")],
        ends: Ends::WithReload,
        ..PLAIN
    },
];

/// Every `fdatasync` of a server takes this much longer, as long as this lives.
pub struct SlowSyncs(Child);

impl SlowSyncs {
    pub fn begin(server: &Server, delay: Duration) -> Option<SlowSyncs> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let messages = dir.path().join("messages");
        let inject = format!("inject=fdatasync:delay_enter={}", delay.as_micros());
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &server.pid().to_string(), "-o", "/dev/null"]);
        command.args(["-e", "trace=fdatasync", "-e", &inject]);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        let Ok(child) = command.stderr(File::create(&messages).expect("a file")).spawn() else {
            skipped("strace is not installed (apt-get install strace)");
            return None;
        };
        let mut slow = SlowSyncs(child);
        let said = || fs::read_to_string(&messages).unwrap_or_default();
        let mut has_ended = || slow.0.try_wait().expect("the state of a child").is_some();
        if wait_until(DEADLINE, || said().contains(" attached") || has_ended()) && !has_ended() {
            return Some(slow);
        }
        skipped(&format!("strace cannot trace: {}", said().trim()));
        None
    }
}

impl Drop for SlowSyncs {
    fn drop(&mut self) {
        // On TERM it lets go of the server.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// A DEBUG RELOAD that holds all locks for two seconds.
pub struct Reload {
    client: Resp,
    _slow: SlowSyncs,
}

impl Reload {
    pub fn begin(server: &Server) -> Option<Reload> {
        let slow = SlowSyncs::begin(server, Duration::from_secs(2))?;
        let (mut client, mut probe) = (Resp::connect(server.port()), Resp::connect(server.port()));
        call(&mut probe, "SET unsynced v");
        client.send(&["DEBUG", "RELOAD"]);
        set_deadline(probe.stream(), Duration::from_millis(100));
        // The first reply that does not come at once waits for the locks.
        let holds_locks = || {
            probe.send(&["GET", "unsynced"]);
            let waits = probe.stream().peek(&mut [0]).is_err();
            if !waits {
                probe.read_reply();
            }
            waits
        };
        assert!(wait_until(DEADLINE, holds_locks), "DEBUG RELOAD holds no locks");
        Some(Reload { client, _slow: slow })
    }

    pub fn end(mut self) {
        assert_eq!(self.client.read_reply(), Value::ok());
    }
}
