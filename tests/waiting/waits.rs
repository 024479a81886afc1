//! Each sort of wait, to be put in front of other commands.

use crate::call;
use crate::common::resp::{Resp, encode};
use crate::common::server::{Server, set_deadline};
use crate::common::{DEADLINE, wait_until};
use std::time::{Duration, Instant};

/// The end of the wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// The commands in front take so long, longer than any key of the test lives.
    ByItself,
    /// The test does, with CLIENT UNPAUSE.
    WithUnpause,
    /// An EXEC does: it gives the locks back.
    WithLocks,
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
    Wait { name: "locks held by an EXEC", ends: Ends::WithLocks, ..PLAIN },
];

/// An EXEC that holds the locks of all shards for two seconds and more.
pub struct HeldLocks(Resp);

impl HeldLocks {
    pub fn begin(server: &Server) -> HeldLocks {
        const ROWS: usize = 8000;
        let (mut client, mut probe) = (Resp::connect(server.port()), Resp::connect(server.port()));
        for (key, letters) in [("held:a", "ab"), ("held:b", "ba")] {
            client.call(&["SET", key, &letters.repeat(ROWS / 2)]);
        }
        // So many of them as take long enough on this machine, as it is now.
        let began = Instant::now();
        call(&mut client, "LCS held:a held:b LEN");
        let count = 2500 / began.elapsed().as_millis().max(1) + 1;
        set_deadline(client.stream(), 3 * DEADLINE);
        let mut bytes = Vec::new();
        encode(&["MULTI"], &mut bytes);
        // A write, and a command on all keys: so all shards are locked, and for writing.
        encode(&["SET", "held:c", "v"], &mut bytes);
        encode(&["DBSIZE"], &mut bytes);
        (0..count).for_each(|_| encode(&["LCS", "held:a", "held:b", "LEN"], &mut bytes));
        client.send_raw(&bytes);
        (0..count + 3).for_each(|_| drop(client.read_reply()));
        client.send(&["EXEC"]);
        set_deadline(probe.stream(), Duration::from_millis(100));
        // The first reply that does not come at once waits for the locks.
        let holds_locks = || {
            probe.send(&["GET", "held:a"]);
            let waits = probe.stream().peek(&mut [0]).is_err();
            if !waits {
                probe.read_reply();
            }
            waits
        };
        assert!(wait_until(DEADLINE, holds_locks), "the EXEC holds no locks");
        HeldLocks(client)
    }

    pub fn end(mut self) {
        assert!(!self.0.read_reply().is_error());
    }
}
