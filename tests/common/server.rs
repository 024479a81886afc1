//! Servers as child processes: kvstore, and the real Redis as the oracle.
//!
//! Both write their output to files in a temporary directory of their own, which is also their
//! working directory. Files and not pipes: no thread has to drain them, and they are complete when a test
//! fails and wants to show them.

use super::{DEADLINE, skipped, wait_until};
use std::fmt::Write;
use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::Deref;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::Duration;

/// As much of a log as a failed test prints: its end.
const LOG_SHOWN_MAX_BYTES: usize = 16 * 1024;

/// A running server of either kind. On drop it is killed; if the test is failing, its directory and
/// logs are shown.
pub struct Process {
    child: Child,
    /// Shared with the server that is started in it next.
    dir: Arc<tempfile::TempDir>,
    port: u16,
}

impl Process {
    fn spawn(command: &mut Command) -> Process {
        Process::spawn_in(Arc::new(tempfile::tempdir().expect("a temporary directory")), command)
    }

    pub fn spawn_in(dir: Arc<tempfile::TempDir>, command: &mut Command) -> Process {
        // The output is searched for the ready line; the log of one server follows that of the other.
        let _ = fs::remove_file(dir.path().join("stdout.log"));
        let open = OpenOptions::new().create(true).append(true).clone();
        let file = |name| open.open(dir.path().join(name)).expect("a log file");
        command.current_dir(dir.path()).stdin(Stdio::null());
        command.stdout(file("stdout.log")).stderr(file("stderr.log"));
        // A developer's own settings must not reach the server under test.
        for (name, _) in
            std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("KVSTORE_"))
        {
            command.env_remove(name);
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Process { child, dir, port: 0 }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The server's working directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("the child's state").is_none()
    }

    /// The server's stdout so far.
    pub fn stdout(&self) -> String {
        self.output("stdout.log")
    }

    /// The server's log so far.
    pub fn stderr(&self) -> String {
        self.output("stderr.log")
    }

    fn output(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.dir().join(name)).unwrap_or_default()).into_owned()
    }

    /// Sends a signal by its name, as `kill` takes it: `TERM`, `INT`, `KILL`, `STOP`, `CONT`. STOP takes
    /// effect after the server's first thread has run once more; this returns after none of its threads runs.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.expect("kill runs").success(), "kill -{name} {} failed", self.pid());
        let stands_still = || thread_states(self.pid()).iter().all(|state| *state == 'T');
        assert!(name != "STOP" || wait_until(DEADLINE, stands_still), "it does not stop");
    }

    /// Kills it as `kill -9` does: nothing that it holds in its memory survives.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("the exit status of a killed child");
    }

    /// The directory, to start another server in.
    pub fn shared_dir(&self) -> Arc<tempfile::TempDir> {
        Arc::clone(&self.dir)
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        // A server may take its whole shutdown timeout, which is ten seconds unless a test says
        // otherwise.
        let ended = wait_until(2 * DEADLINE, || !self.is_alive());
        assert!(ended, "process {} has not ended; its log:\n{}", self.pid(), self.stderr());
        self.child.wait().expect("the exit status of an ended child")
    }

    /// SIGTERM, as an init system does it.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    pub fn threads(&self) -> usize {
        self.count("task")
    }

    pub fn descriptors(&self) -> usize {
        self.count("fd")
    }

    fn count(&self, what: &str) -> usize {
        let path = format!("/proc/{}/{what}", self.pid());
        fs::read_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}")).count()
    }

    /// Resident memory, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a VmRSS line");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("VmRSS in kB")
    }

    /// The directory listing and the logs, for a failure's report.
    fn report(&self) -> String {
        let mut report =
            format!("--- process {} on port {}, {}\n", self.pid(), self.port, self.dir().display());
        list(self.dir(), &mut report);
        for name in ["stdout.log", "stderr.log"] {
            let text = self.output(name);
            let start = text.floor_char_boundary(text.len().saturating_sub(LOG_SHOWN_MAX_BYTES));
            let _ = writeln!(report, "--- {name}\n{}", &text[start..]);
        }
        report
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        } else if let Some(fault) =
            self.stderr().lines().find(|line| line.starts_with("lock order"))
        {
            // A thread of a debug build took its locks in the wrong order: see `src/lock.rs`.
            panic!("{fault}\n{}", self.report());
        }
    }
}

fn list(dir: &Path, into: &mut String) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            list(&path, into);
        } else {
            let len = entry.metadata().map_or(0, |metadata| metadata.len());
            let _ = writeln!(into, "{len:>10} {}", path.display());
        }
    }
}

/// A kvstore that listens on a free port of the loopback address.
pub struct Server(Process, Settings);

/// The arguments that a server was started with, to start it again.
type Settings = Vec<(String, String)>;

impl Server {
    /// Starts the binary with further settings, such as `&[("maxclients", "10")]`, and waits until
    /// it is ready.
    ///
    /// With `KVSTORE_DIFF_SUBJECT=redis` a second Redis stands in: that is how a test is itself
    /// tested.
    pub fn start(settings: &[(&str, &str)]) -> Server {
        if is_stand_in() {
            let known: Vec<_> =
                settings.iter().filter(|(name, _)| *name != "worker-idle-timeout").collect();
            let settings: Vec<_> = known.into_iter().copied().collect();
            let redis = RedisServer::start_with(&settings).expect("redis-server as the subject");
            return Server(redis.0, Vec::new());
        }
        let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        Server::start_in(&dir, settings)
    }

    /// As `start`, in a directory where another server may have run before.
    pub fn start_in(dir: &Arc<tempfile::TempDir>, settings: &[(&str, &str)]) -> Server {
        let mut server = Server::spawn_in(dir, settings);
        server.0.port = ready_port(&mut server.0);
        server
    }

    /// As `start_in`, with these variables in its environment.
    pub fn start_with(
        dir: &Arc<tempfile::TempDir>,
        settings: &[(&str, &str)],
        environment: &[(&str, &str)],
    ) -> Server {
        let mut command = Server::command();
        command.envs(environment.iter().copied());
        let mut server = Server::spawn(dir, command, settings);
        server.0.port = ready_port(&mut server.0);
        server
    }

    /// As `start_in`, without waiting until it is ready.
    pub fn spawn_in(dir: &Arc<tempfile::TempDir>, settings: &[(&str, &str)]) -> Server {
        Server::spawn(dir, Server::command(), settings)
    }

    fn spawn(
        dir: &Arc<tempfile::TempDir>,
        mut command: Command,
        settings: &[(&str, &str)],
    ) -> Server {
        command.args(["serve", "--port", "0", "--bind", "127.0.0.1"]);
        for (name, value) in settings {
            command.arg(format!("--{name}")).arg(value);
        }
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let settings = settings.iter().map(own).collect();
        Server(Process::spawn_in(Arc::clone(dir), &mut command), settings)
    }

    /// Ends the process with a signal, `TERM` or `KILL`, and starts it again on the data that it left,
    /// on another port.
    pub fn restart(&mut self, signal: &str) {
        self.0.signal(signal);
        let status = self.0.wait();
        assert_eq!(status.success(), signal != "KILL", "SIG{signal} ends it with {status}");
        let settings: Vec<(&str, &str)> =
            self.1.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        *self = Server::start_in(&self.0.shared_dir(), &settings);
    }

    /// The process's exit status, waiting for it.
    pub fn exit_status(&mut self) -> ExitStatus {
        self.0.wait()
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        self.0.kill();
    }

    /// The binary with no arguments yet, for tests of how it starts, or refuses to.
    pub fn command() -> Command {
        Command::new(env!("CARGO_BIN_EXE_kvstore"))
    }

    /// Sends SIGTERM and returns the exit status.
    pub fn stop(mut self) -> ExitStatus {
        self.0.stop()
    }

    /// Waits until a server that was told to end has ended.
    pub fn wait(mut self) -> ExitStatus {
        self.0.wait()
    }

    pub fn is_alive(&mut self) -> bool {
        self.0.is_alive()
    }
}

impl Deref for Server {
    type Target = Process;
    fn deref(&self) -> &Process {
        &self.0
    }
}

/// True if a Redis stands in for kvstore, to test a test.
pub fn is_stand_in() -> bool {
    std::env::var("KVSTORE_DIFF_SUBJECT").is_ok_and(|subject| subject == "redis")
}

/// Runs a server that is expected not to start.
pub fn start_in_vain(args: &[&str]) -> Output {
    let mut command = Server::command();
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KVSTORE_") {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let ended = wait_until(DEADLINE, || child.try_wait().expect("its state").is_some());
    if !ended {
        child.kill().expect("killing a child");
    }
    let output = child.wait_with_output().expect("its output");
    assert!(ended, "{args:?} starts a server: {output:?}");
    output
}

/// The port from the line that a server prints once it listens: `kvstore 0.1.0 ready on
/// 127.0.0.1:41234`.
fn ready_port(process: &mut Process) -> u16 {
    let is_ready = wait_until(DEADLINE, || process.stdout().ends_with('\n') || !process.is_alive());
    let line = process.stdout();
    let port = number_behind(&line, " ready on 127.0.0.1:");
    match port {
        Some(port) if is_ready => port,
        _ => panic!(
            "kvstore printed {line:?} in place of its ready line; its log:\n{}",
            process.stderr()
        ),
    }
}

/// The number after these words.
pub fn number_behind(text: &str, words: &str) -> Option<u16> {
    let rest = text.split_once(words)?.1;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// A real Redis without persistence and with one database, the oracle.
pub struct RedisServer(Process);

impl RedisServer {
    /// Starts it on a free port. Where Redis is not installed, says so and returns nothing.
    pub fn start() -> Option<RedisServer> {
        RedisServer::start_with(&[])
    }

    pub fn start_with(settings: &[(&str, &str)]) -> Option<RedisServer> {
        if Command::new("redis-server").arg("--version").output().is_err() {
            skipped("redis-server is not installed (apt-get install redis-server)");
            return None;
        }
        // Redis cannot be asked for "any free port", so somebody else may take the one found here
        // before it does.
        (0..5)
            .find_map(|_| RedisServer::try_start(free_port(), settings))
            .or_else(|| panic!("redis-server does not start"))
    }

    fn try_start(port: u16, settings: &[(&str, &str)]) -> Option<RedisServer> {
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--databases", "1"]);
        command.args(["--save", "", "--appendonly", "no", "--enable-debug-command", "yes"]);
        for (name, value) in settings {
            command.arg(format!("--{name}")).arg(value);
        }
        let mut process = Process::spawn(&mut command);
        process.port = port;
        // Its own log tells that it is this Redis that listens there; a connection alone could
        // reach a stranger.
        let is_ready = |process: &Process| process.stdout().contains("Ready to accept connections");
        let _ = wait_until(DEADLINE, || is_ready(&process) || !process.is_alive());
        is_ready(&process).then_some(RedisServer(process))
    }
}

impl Deref for RedisServer {
    type Target = Process;
    fn deref(&self) -> &Process {
        &self.0
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("the address of a bound socket").port()
}

/// A free port for a server that must come back on it: below those that the kernel gives to outgoing
/// connections, of which one could have it meanwhile. Never the same twice in one process.
pub fn lasting_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id() as u16 % 150 * 64;
    let port = || 20_000 + (start + NEXT.fetch_add(1, Relaxed)) % 10_000;
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    std::iter::repeat_with(port).take(10_000).find(is_free).expect("a free port")
}

/// A bare connection for tests that speak to the server in their own way; its reads and writes have
/// the deadline.
pub fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
    let stream = stream.unwrap_or_else(|error| panic!("connecting to port {port}: {error}"));
    set_deadline(&stream, DEADLINE);
    stream.set_nodelay(true).expect("a socket option");
    stream
}

/// The time that one read or write may block.
pub fn set_deadline(stream: &TcpStream, deadline: Duration) {
    stream.set_read_timeout(Some(deadline)).expect("a socket option");
    stream.set_write_timeout(Some(deadline)).expect("a socket option");
}

/// The states of a process's threads, as the kernel shows them: T is stopped.
fn thread_states(pid: u32) -> Vec<char> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let status =
        |path: std::path::PathBuf| fs::read_to_string(path.join("status")).unwrap_or_default();
    let state =
        |text: String| text.lines().find_map(|line| line.strip_prefix("State:\t")?.chars().next());
    threads.flatten().filter_map(|thread| state(status(thread.path()))).collect()
}
