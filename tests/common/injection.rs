//! Single system calls of a running server that fail, by `strace -e inject`.

use super::server::Server;
use super::{DEADLINE, skipped, wait_until};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Calls fail as long as this lives.
pub struct Injection {
    strace: Child,
    dir: tempfile::TempDir,
}

impl Injection {
    /// Makes calls of the server fail, as strace spells it: `fdatasync:error=EIO`.
    pub fn begin(server: &Server, what: &str) -> Option<Injection> {
        Injection::begin_on(server, what, None)
    }

    /// As `begin`, only for calls on this file or directory, if one is given.
    pub fn begin_on(server: &Server, what: &str, path: Option<&Path>) -> Option<Injection> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let messages = File::create(dir.path().join("messages")).expect("a file");
        let calls = what.split(':').next().expect("a call");
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &server.pid().to_string(), "-o"]).arg(dir.path().join("trace"));
        command.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={what}")]);
        path.map(|path| command.arg("-P").arg(path));
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages);
        let Ok(strace) = command.spawn() else {
            skipped("strace is not installed (apt-get install strace)");
            return None;
        };
        let mut injection = Injection { strace, dir };
        let attached = |injection: &Injection| injection.messages().contains(" attached");
        let begun = wait_until(DEADLINE, || attached(&injection) || injection.has_ended());
        if !begun || injection.has_ended() {
            skipped(&format!("strace cannot trace: {}", injection.messages().trim()));
            return None;
        }
        Some(injection)
    }

    fn has_ended(&mut self) -> bool {
        self.strace.try_wait().expect("the state of a child").is_some()
    }

    fn messages(&self) -> String {
        fs::read_to_string(self.dir.path().join("messages")).unwrap_or_default()
    }

    /// Lets go of the server at once, whatever it is waiting for.
    pub fn kill(mut self) {
        self.strace.kill().expect("killing a child");
    }

    /// True if any such call has been made.
    pub fn has_traced(&self) -> bool {
        fs::metadata(self.dir.path().join("trace")).is_ok_and(|trace| trace.len() > 0)
    }

    /// The number of calls that were made to fail.
    pub fn injected(&self) -> usize {
        let trace = fs::read_to_string(self.dir.path().join("trace")).unwrap_or_default();
        trace.matches("(INJECTED)").count()
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        // On TERM it lets go of the server.
        let _ = Command::new("kill").arg(self.strace.id().to_string()).status();
        let _ = self.strace.wait();
    }
}
