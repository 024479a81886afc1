//! The server as people meet it: the real `telnet` program, and what shell scripts do with `nc`.
//!
//! The hazard: a test client of ours does what its author thinks that telnet does. The program itself
//! translates line ends, sends control sequences and, after Ctrl-C, waits for an answer to one of
//! them before it shows anything again. Once that answer was missing, and no other test noticed.

mod common;

use common::server::{Server, connect};
use common::{DEADLINE, skipped, wait_until};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

/// A program that is typed into, and its screen.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: Arc<Mutex<Vec<u8>>>,
    /// The length of the screen when the last awaited text had come.
    seen: usize,
}

impl Terminal {
    fn start(program: &str, arguments: &[&str]) -> Terminal {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        let keyboard = child.stdin.take().expect("a piped stdin");
        let mut output = child.stdout.take().expect("a piped stdout");
        let screen = Arc::new(Mutex::new(vec![]));
        let shared = Arc::clone(&screen);
        thread::spawn(move || {
            let mut bytes = [0; 1024];
            while let Ok(n @ 1..) = output.read(&mut bytes) {
                shared.lock().expect("no panic").extend_from_slice(&bytes[..n]);
            }
        });
        Terminal { child, keyboard, screen, seen: 0 }
    }

    /// Types, and waits until the screen ends in this.
    fn types(&mut self, keys: &str, expected: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the program reads");
        self.keyboard.flush().expect("the program reads");
        let came = wait_until(DEADLINE, || {
            let shown = self.shown();
            shown[self.seen..].ends_with(expected) && {
                self.seen = shown.len();
                true
            }
        });
        assert!(came, "after typing {keys:?}, no {expected:?} at the end of:\n{}", self.shown());
    }

    /// The screen without carriage returns.
    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("no panic")).replace('\r', "")
    }

    /// Waits until the program has ended by itself, while its keyboard is still there.
    fn ends(&mut self) {
        let ended = wait_until(DEADLINE, || matches!(self.child.try_wait(), Ok(Some(_))));
        assert!(ended, "it goes on; its screen:\n{}", self.shown());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_installed(program: &str, how: &str) -> bool {
    let found = Command::new("sh").arg("-c").arg(format!("command -v {program}")).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        skipped(&format!("{program} is not installed ({how})"));
    }
    found
}

fn has_telnet() -> bool {
    is_installed("telnet", "apt-get install telnet")
}

#[test]
fn telnet_sets_and_gets_and_quits() {
    if !has_telnet() {
        return;
    }
    let server = Server::start(&[]);
    let mut telnet = Terminal::start("telnet", &["127.0.0.1", &server.port().to_string()]);
    telnet.types("SET greeting hello big world\n", "OK\n");
    telnet.types("GET greeting\n", "hello big world\n");
    telnet.types(
        "GTE greeting\n",
        "ERR unknown command 'GTE'; did you mean GET? HELP lists the commands\n",
    );
    telnet.types("SET greeting \"no end\n", "followed by a blank\n");
    telnet.types("GET greeting\n", "hello big world\n");
    telnet.types("QUIT\n", "OK\n");
    telnet.ends();
}

/// Only at a terminal does telnet turn Ctrl-C into its control sequence; `script` gives it one.
#[test]
fn ctrl_c_drops_the_line_and_the_session_goes_on() {
    if !has_telnet() {
        return;
    }
    let script = Command::new("script").args(["-qec", "true", "/dev/null"]).output();
    if !script.is_ok_and(|output| output.status.success()) {
        return skipped("script of util-linux is not installed (apt-get install bsdutils)");
    }
    let server = Server::start(&[]);
    let command = format!("telnet 127.0.0.1 {}", server.port());
    let mut telnet = Terminal::start("script", &["-qec", &command, "/dev/null"]);
    telnet.types("", "Escape character is '^]'.\n");
    telnet.types("SET greeting hello big world\r", "\nOK\n");
    telnet.types("SET greeting oo\x03", "^C");
    telnet.types("GET greeting\r", "\nhello big world\n");
    telnet.types("exit\r", "OK\nConnection closed by foreign host.\n");
    telnet.ends();
}

/// `printf … | nc -N`: everything is sent, then the end of input, and then replies are read.
#[test]
fn a_script_gets_every_answer_after_a_half_close() {
    let server = Server::start(&[]);
    let mut stream = connect(server.port());
    stream.write_all(b"SET k one two\nGET k\nGET nothing\n").expect("sent");
    stream.shutdown(Shutdown::Write).expect("half-closed");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer and a close");
    assert_eq!(answer, "OK\none two\n(nil)\n");
}

/// More than any buffer on the way holds: the end of input is seen long before the replies are sent.
#[test]
fn a_half_close_behind_a_long_pipeline_loses_nothing() {
    const LINES: usize = 50_000;
    let server = Server::start(&[]);
    let mut stream = connect(server.port());
    let mut writer = stream.try_clone().expect("a second handle");
    let lines: String = (0..LINES).map(|n| format!("ECHO line number {n}\n")).collect();
    let sending = thread::spawn(move || {
        writer.write_all(lines.as_bytes()).expect("sent");
        writer.shutdown(Shutdown::Write).expect("half-closed");
    });
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer and a close");
    sending.join().expect("all was sent");
    assert_eq!(answer.lines().count(), LINES);
    assert!(answer.ends_with(&format!("line number {}\n", LINES - 1)));
}

#[test]
fn nc_gets_every_answer() {
    if !is_installed("nc", "apt-get install netcat-openbsd") {
        return;
    }
    let server = Server::start(&[]);
    // Only OpenBSD's nc knows -N, which others do not need.
    let script = format!(
        "nc -h 2>&1 | grep -q -e '-N' && N=-N; \
         printf 'SET k v\\nGET k\\n' | nc $N 127.0.0.1 {}",
        server.port()
    );
    let output = Command::new("sh").arg("-c").arg(script).output().expect("sh runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "OK\nv\n");
}

/// These modes of redis-cli send a line after requests in RESP, and waited without an end for an answer in RESP.
#[test]
fn redis_cli_reads_the_answers_to_its_lines() {
    if !is_installed("redis-cli", "apt-get install redis-tools") {
        return;
    }
    let server = Server::start(&[]);
    let run = |before: &str, mode: &str| {
        let script = format!("{before} timeout 10 redis-cli -p {} {mode} 2>&1", server.port());
        let output = Command::new("sh").arg("-c").arg(script).output().expect("sh runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for mode in ["--rdb /dev/null", "--replica"] {
        let (code, output) = run("", mode);
        assert_eq!(code, Some(1), "{mode}: {output}");
        assert!(output.contains("SYNC with master failed: -ERR unknown command"), "{output}");
        assert!(output.contains("kvstore export"), "it says what to do instead: {output}");
    }
    for (before, mode) in [
        ("printf 'SET a 1\\nGET a\\n' |", "-3 --pipe"),
        ("printf 'HELLO 2\\nSET a 1\\n' |", "--pipe"),
    ] {
        let (code, output) = run(before, mode);
        assert_eq!(code, Some(0), "{before} {output}");
        assert!(output.contains("errors: 0, replies: 2"), "{before} {output}");
    }
}

/// The way without nc: bash can open a connection by itself.
#[test]
fn bash_compares_an_answer() {
    if !is_installed("bash", "apt-get install bash") {
        return;
    }
    let server = Server::start(&[]);
    let script = r#"
        exec 3<>/dev/tcp/127.0.0.1/$0
        echo 'SET city New York' >&3 && read -r answer <&3 && [ "$answer" = OK ] &&
        echo 'GET city' >&3 && read -r answer <&3 && [ "$answer" = 'New York' ]"#;
    let port = server.port().to_string();
    let status = Command::new("bash").args(["-c", script, &port]).status().expect("bash runs");
    assert!(status.success(), "the script ended with {status}");
}
