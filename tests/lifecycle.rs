//! The hazard: a server that cannot be stopped, that loses what it received when it is, or that says
//! "started" when it is not.
//!
//! SIGTERM and SIGINT end it with code 0 after it has answered what it had received; a client that is
//! stuck holds this up for `shutdown-timeout` and no longer, and so does a leader, a disk or a load that
//! takes its time; a second signal ends it at once. A terminal that closes ends it in order, and SIGHUP
//! without a terminal does nothing. What keeps it from starting is one line on stderr and a code that is not 0.

mod common;

use common::http;
use common::nodes::info;
use common::resp::{Resp, Value, encode};
use common::server::{Server, connect, number_behind, start_in_vain};
use common::{DEADLINE, skipped, wait_until};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// Waits until a client is in the middle of this command.
fn wait_for_command(server: &Server, command: &str) {
    let mut watcher = Resp::connect(server.port());
    let field = format!(" cmd={command} ");
    let seen = wait_until(DEADLINE, || {
        let list = watcher.call(&["CLIENT", "LIST"]);
        String::from_utf8_lossy(list.as_bytes()).contains(&field)
    });
    assert!(seen, "no client runs {command}");
}

/// A client that is owed more than it will ever read.
fn stuck_reader(server: &Server) -> TcpStream {
    let mut setter = Resp::connect(server.port());
    assert_eq!(setter.call(&["SET", "large", &"v".repeat(100_000)]), Value::ok());
    let mut stuck = connect(server.port());
    stuck.write_all(&b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".repeat(500)).expect("sending");
    let is_stuck = wait_until(DEADLINE, || {
        let list = setter.call(&["CLIENT", "LIST"]);
        let list = String::from_utf8_lossy(list.as_bytes()).into_owned();
        list.contains(" oll=1 ")
    });
    assert!(is_stuck, "50 MB are read by nobody, and nothing waits");
    stuck
}

#[test]
fn term_and_int_end_it_with_code_0() {
    for signal in ["TERM", "INT"] {
        let server = Server::start(&[]);
        let mut clients = [Resp::connect(server.port()), Resp::connect(server.port())];
        for client in &mut clients {
            assert_eq!(client.call(&["PING"]), Value::simple("PONG"));
        }
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "SIG{signal}");
        for client in &mut clients {
            assert!(client.read_to_end().is_empty(), "closed, not left hanging");
        }
    }
}

#[test]
fn what_was_received_is_answered_before_the_end() {
    const PINGS: usize = 1000;
    let server = Server::start(&[]);
    let mut client = Resp::connect(server.port());
    let mut requests = vec![];
    encode(&["DEBUG", "SLEEP", "1000"], &mut requests);
    for n in 0..PINGS {
        encode(&["ECHO", &n.to_string()], &mut requests);
    }
    client.send_raw(&requests);
    wait_for_command(&server, "debug|sleep");
    assert_eq!(server.stop().code(), Some(0));
    assert_eq!(client.read_reply(), Value::ok());
    for n in 0..PINGS {
        assert_eq!(client.read_reply(), Value::bulk(n.to_string()));
    }
    assert!(client.read_to_end().is_empty());
}

#[test]
fn a_sleeping_a_paused_and_a_silent_client_do_not_hold_it_up() {
    // If it waited for any of them, it would take the whole of this, and the test would give up.
    let server = Server::start(&[("shutdown-timeout", "1000")]);
    let mut sleeper = Resp::connect(server.port());
    sleeper.send(&["DEBUG", "SLEEP", "1000"]);
    wait_for_command(&server, "debug|sleep");
    let mut silent = Resp::connect(server.port());
    silent.send_raw(b"*2\r\n$3\r\nGET\r\n$100\r\nhalf");
    let mut pauser = Resp::connect(server.port());
    assert_eq!(pauser.call(&["CLIENT", "PAUSE", "1000000", "WRITE"]), Value::ok());
    let mut paused = Resp::connect(server.port());
    paused.send(&["SET", "k", "v"]);
    assert_eq!(server.stop().code(), Some(0));
    assert_eq!(sleeper.read_reply(), Value::ok());
    assert!(silent.read_to_end().is_empty());
}

#[test]
fn a_client_that_does_not_read_holds_it_up_for_shutdown_timeout_only() {
    let server = Server::start(&[("shutdown-timeout", "1")]);
    let _stuck = stuck_reader(&server);
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_client_that_reads_at_last_gets_everything() {
    let server = Server::start(&[("shutdown-timeout", "1000")]);
    let mut stuck = stuck_reader(&server);
    server.signal("TERM");
    wait_for_log(&server, "shutting down");
    let mut all = vec![];
    stuck.read_to_end(&mut all).expect("everything, and a close");
    assert_eq!(all.len(), 500 * ("$100000\r\n".len() + 100_000 + 2));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let server = Server::start(&[("shutdown-timeout", "1000")]);
    let _stuck = stuck_reader(&server);
    server.signal("INT");
    wait_for_log(&server, "shutting down");
    server.signal("INT");
    assert_ne!(server.wait().code(), Some(0), "it did not end in order, and says so");
}

#[test]
fn a_hangup_without_a_terminal_is_logged_and_the_server_goes_on() {
    let server = Server::start(&[]);
    for _ in 0..2 {
        server.signal("HUP");
        wait_for_log(&server, "SIGHUP is ignored");
        assert_eq!(Resp::connect(server.port()).call(&["PING"]), Value::simple("PONG"));
    }
    assert_eq!(server.stop().code(), Some(0));
}

/// A server at a terminal that `script` makes: by a shell, which notes the exit code.
struct AtTerminal {
    script: Child,
    dir: tempfile::TempDir,
}

impl AtTerminal {
    /// `before` is what the shell does first. None if there is no `script`.
    fn start(before: &str) -> Option<AtTerminal> {
        let script = Command::new("script").args(["-qec", "true", "/dev/null"]).output();
        if !script.is_ok_and(|output| output.status.success()) {
            skipped("script of util-linux is not installed (apt-get install bsdutils)");
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let server = Server::command().get_program().to_string_lossy().into_owned();
        let serve = format!("{server} serve --port 0 --metrics-port 0 --dir data > ready 2> log");
        // The outer shell leads the session: the hangup ends it, and its end is what signals the others.
        let command = format!("sh -c \"{before}; {serve}; echo \\$? > code\"; true");
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).env("SHELL", "/bin/sh");
        script.current_dir(dir.path()).stdin(Stdio::piped()).stdout(Stdio::null());
        let script = script.spawn().expect("script runs");
        let terminal = AtTerminal { script, dir };
        let is_ready = wait_until(DEADLINE, || terminal.read("ready").contains(" ready on "));
        assert!(is_ready, "{}", terminal.read("log"));
        Some(terminal)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    fn client(&self) -> Resp {
        Resp::connect(number_behind(&self.read("ready"), " ready on 127.0.0.1:").expect("a port"))
    }

    fn close(&mut self) {
        self.script.kill().expect("script is there");
        self.script.wait().expect("it has ended");
    }

    fn exit_code(&self) -> String {
        let has_ended = wait_until(DEADLINE, || self.read("code").ends_with('\n'));
        assert!(has_ended, "it has not ended; its log:\n{}", self.read("log"));
        self.read("code")
    }
}

impl Drop for AtTerminal {
    /// A server that goes on when it should have ended must not outlive the test.
    fn drop(&mut self) {
        let port = number_behind(&self.read("ready"), " ready on 127.0.0.1:");
        let stream = port.and_then(|port| TcpStream::connect(("127.0.0.1", port)).ok());
        stream.map(|mut stream| stream.write_all(b"SHUTDOWN\r\n"));
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn a_terminal_that_closes_ends_it_in_order() {
    // The shell must outlive the hangup, and the server must not inherit that.
    let Some(mut terminal) = AtTerminal::start("trap : HUP") else { return };
    assert_eq!(terminal.client().call(&["SET", "k", "v"]), Value::ok());
    terminal.close();
    assert_eq!(terminal.exit_code(), "0\n", "{}", terminal.read("log"));
    assert!(terminal.read("log").contains("bye"), "{}", terminal.read("log"));
}

#[test]
fn a_hangup_that_nohup_ignores_stays_ignored() {
    let Some(mut terminal) = AtTerminal::start("trap '' HUP") else { return };
    let mut client = terminal.client();
    terminal.close();
    let info = client.call(&["INFO", "server"]);
    let page = String::from_utf8_lossy(info.as_bytes()).into_owned();
    let pid = page.lines().find_map(|line| line.strip_prefix("process_id:")).expect("a process id");
    let hangup = Command::new("kill").args(["-HUP", pid]).status().expect("kill runs");
    assert!(hangup.success());
    assert_eq!(client.call(&["SET", "k", "v"]), Value::ok(), "it goes on");
    client.send(&["SHUTDOWN"]);
    assert_eq!(terminal.exit_code(), "0\n", "{}", terminal.read("log"));
}

#[test]
fn nobody_new_is_let_in_while_it_ends() {
    let server = Server::start(&[("shutdown-timeout", "1000")]);
    let stuck = stuck_reader(&server);
    server.signal("TERM");
    wait_for_log(&server, "shutting down");
    let refused =
        wait_until(DEADLINE, || TcpStream::connect(("127.0.0.1", server.port())).is_err());
    assert!(refused, "it still listens");
    drop(stuck);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_shutdown_command_ends_it_too() {
    for words in [&["SHUTDOWN"][..], &["SHUTDOWN", "NOSAVE"], &["shutdown", "now", "force"]] {
        let server = Server::start(&[]);
        let mut client = Resp::connect(server.port());
        client.send(words);
        assert!(client.read_to_end().is_empty(), "as Redis, it closes without a word");
        assert_eq!(server.wait().code(), Some(0));
    }
}

/// Whatever a client waits for, the end of the server ends the wait.
#[test]
fn clients_that_wait_listen_or_look_on_do_not_hold_it_up() {
    let server = Server::start(&[("shutdown-timeout", "1000")]);
    let waits: [(&[&str], &str); 5] = [
        (&["WAIT", "1", "0"], "wait"),
        (&["WAITAOF", "0", "1", "0"], "waitaof"),
        (&["SUBSCRIBE", "news"], "subscribe"),
        (&["MONITOR"], "monitor"),
        (&["DEBUG", "SLEEP", "1000"], "debug|sleep"),
    ];
    let mut clients = Vec::new();
    for (words, command) in waits {
        let mut client = Resp::connect(server.port());
        client.send(words);
        wait_for_command(&server, command);
        clients.push(client);
    }
    let mut sender = connect(server.port());
    sender.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$400000000\r\n").expect("sending");
    sender.write_all(&vec![b'x'; 1 << 20]).expect("sending");
    assert_eq!(server.stop().code(), Some(0));
}

/// True if a connection to this port is being made.
fn is_dialled(port: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let to = format!(":{port:04X} 02 ");
    table.lines().any(|line| line.contains(&to))
}

/// The link is being dialled when the server is told to end, and comes about a moment later.
#[test]
fn a_leader_that_is_being_dialled_does_not_hold_it_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    // Room for one connection, which is taken: the next one's first packet is dropped.
    rustix::net::listen(&listener, 0).expect("a shorter queue");
    let mut fillers = Vec::new();
    let full = wait_until(DEADLINE, || {
        let addr = ([127, 0, 0, 1], port).into();
        match TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
            Ok(filler) => fillers.push(filler),
            Err(_) => return true,
        }
        false
    });
    assert!(full, "the queue of the listener does not fill");
    let leader = format!("127.0.0.1 {port}");
    let settings =
        [("replicaof", leader.as_str()), ("shutdown-timeout", "5"), ("repl-timeout", "600")];
    let server = Server::start(&settings);
    assert!(wait_until(DEADLINE, || is_dialled(port)), "it does not dial");
    server.signal("TERM");
    wait_for_log(&server, "shutting down");
    let gone = wait_until(DEADLINE, || TcpStream::connect(("127.0.0.1", server.port())).is_err());
    assert!(gone, "it still listens");
    // From now on it accepts, and says nothing.
    let accepting = thread::spawn(move || {
        listener.set_nonblocking(true).expect("a socket option");
        let mut accepted = Vec::new();
        let _ = wait_until(2 * DEADLINE, || {
            accepted.extend(listener.accept());
            false
        });
    });
    assert_eq!(server.wait().code(), Some(0));
    drop((accepting, fillers));
}

/// A listener that accepts and stays silent is not a leader, and no reason to delay the end.
#[test]
fn a_leader_that_says_nothing_does_not_hold_it_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let leader = format!("127.0.0.1 {}", listener.local_addr().expect("its address").port());
    let server = Server::start(&[
        ("replicaof", &leader),
        ("shutdown-timeout", "1000"),
        ("repl-timeout", "600"),
    ]);
    let (mut link, _) = listener.accept().expect("it dials");
    let mut request = [0; 64];
    assert!(link.read(&mut request).expect("it asks") > 0);
    assert_eq!(server.stop().code(), Some(0));
}

/// A load is given up at shutdown; the part that it has read is shown to no client, and the next
/// start has all of it.
#[test]
fn a_full_copy_that_is_loaded_does_not_hold_it_up_and_is_there_the_next_time() {
    const KEYS: usize = 200_000;
    let leader = Server::start(&[("repl-backlog-size", "0")]);
    let mut client = Resp::connect(leader.port());
    for start in (0..KEYS).step_by(2000) {
        let mut bytes = vec![];
        (start..start + 2000).for_each(|n| encode(&["SET", &format!("key:{n}"), "v"], &mut bytes));
        client.send_raw(&bytes);
        (0..2000).for_each(|_| drop(client.read_reply()));
    }
    assert_eq!(client.call(&["SAVE"]), Value::ok());
    let follower = format!("127.0.0.1 {}", leader.port());
    let settings = [("replicaof", follower.as_str()), ("shutdown-timeout", "1000")];
    let mut server = Server::start(&settings);
    let loads = wait_until(DEADLINE, || info(server.port(), "loading") == "1");
    assert!(loads, "it is not seen to load:\n{}", server.stderr());
    server.restart("TERM");
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
    let mut reader = Resp::connect(server.port());
    let all = wait_until(2 * DEADLINE, || reader.call(&["DBSIZE"]) == Value::Int(KEYS as i64));
    assert!(all, "{:?} keys:\n{}", reader.call(&["DBSIZE"]), server.stderr());
}

/// The request to follow was received before the end began, and is answered after it has.
#[test]
fn one_that_becomes_a_follower_while_it_ends_gets_the_rest_of_the_log() {
    let server = Server::start(&[("shutdown-timeout", "1000")]);
    let mut client = Resp::connect(server.port());
    let text = "abcdefghij".repeat(600);
    client.call(&["MSET", "one", &text, "two", &text[3..]]);
    let mut requests = vec![];
    encode(&["DEBUG", "SLEEP", "1000"], &mut requests);
    // Some tenths of a second, in which the server closes its connections for reading.
    (0..4).for_each(|_| encode(&["LCS", "one", "two", "LEN"], &mut requests));
    encode(&["REPLICATE", &"a".repeat(40), "0", "0", "00000000", "0"], &mut requests);
    client.send_raw(&requests);
    wait_for_command(&server, "debug|sleep");
    // More than can be on its way when the connection is cut off.
    let mut writer = Resp::connect(server.port());
    for n in 0..24 {
        writer.call(&["SET", &format!("large{n}"), &"v".repeat(1 << 20)]);
    }
    let written = writer.call(&["SET", "last", "the last write"]);
    assert_eq!(written, Value::ok());
    server.signal("TERM");
    assert_eq!(client.read_reply(), Value::ok());
    (0..4).for_each(|_| drop(client.read_reply()));
    let stream = String::from_utf8_lossy(&client.read_to_end()).into_owned();
    assert!(stream.contains("CONTINUE "), "{}", &stream[..stream.len().min(200)]);
    assert!(stream.contains("the last write"), "{} bytes, without the last", stream.len());
    assert_eq!(server.wait().code(), Some(0));
}

fn wait_for_log(server: &Server, line: &str) {
    let seen = wait_until(DEADLINE, || server.stderr().contains(line));
    assert!(seen, "{line:?} is not in the log:\n{}", server.stderr());
}

/// It did not start, and the one line on stderr holds these words.
fn assert_refused(args: &[&str], words: &[&str]) {
    let output = start_in_vain(args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{args:?} ends with {}: {stderr}", output.status);
    assert_eq!(stderr.trim_end().lines().count(), 1, "{args:?} prints:\n{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{args:?} prints {stderr:?} without {word:?}");
    }
    assert!(output.stdout.is_empty(), "{args:?} prints to stdout: {output:?}");
}

#[test]
fn what_keeps_it_from_starting_is_told_in_one_line() {
    assert_refused(&["serve", "--prot", "7000"], &["--prot", "port"]);
    assert_refused(&["--port", "seven"], &["--port"]);
    assert_refused(&["serve", "--port", "65536"], &["--port", "65535"]);
    assert_refused(&["serve", "--port"], &["--port"]);
    assert_refused(&["serve", "7000"], &["option"]);
    assert_refused(&["sevre"], &["sevre"]);
    assert_refused(&["serve", "--bind", "nowhere"], &["--bind"]);
    assert_refused(&["serve", "--config", "/no/such/file"], &["/no/such/file"]);
    assert_refused(&["serve", "--requirepass-file", "/no/such/file"], &["/no/such/file"]);
    // An address of the documentation's range: no machine has it.
    let foreign = ["serve", "--port", "0", "--bind", "192.0.2.1", "--no-password"];
    assert_refused(&foreign, &["192.0.2.1"]);
}

#[test]
fn a_port_in_use_is_told_with_the_way_out() {
    let server = Server::start(&[]);
    let port = server.port().to_string();
    assert_refused(&["serve", "--port", &port], &[&port, "in use", "--port"]);
    let pong = Resp::connect(server.port()).call(&["PING"]);
    assert_eq!(pong, Value::simple("PONG"), "the first one is not harmed");
}

#[test]
fn a_bad_configuration_file_is_told_with_the_line() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("kvstore.conf");
    let file = path.to_str().expect("a path of plain letters");
    for (text, word) in [
        ("port 0\nprot 7000\n", "kvstore.conf:2"),
        ("maxclients many\n", "kvstore.conf:1"),
        ("\n\nrequirepass \"unclosed\n", "kvstore.conf:3"),
    ] {
        fs::write(&path, text).expect("writing a file");
        assert_refused(&["serve", "--config", file], &[word]);
    }
    fs::write(&path, [0xff, 0xfe, 0]).expect("writing a file");
    assert_refused(&["serve", "--config", file], &["kvstore.conf"]);
    assert_refused(&["serve", "--config", dir.path().to_str().expect("plain letters")], &[]);
}

#[test]
fn other_machines_are_not_served_without_a_password() {
    for bind in ["0.0.0.0", "*", "127.0.0.1 0.0.0.0", "::"] {
        assert_refused(&["serve", "--port", "0", "--bind", bind], &["password"]);
    }
    // A password from any source will do, and so will saying that none is wanted: then it is the
    // address that keeps it from starting.
    for (name, value) in [("--requirepass", "secret"), ("--no-password", "yes")] {
        let args = ["serve", "--port", "0", "--bind", "192.0.2.1", name, value];
        assert_refused(&args, &["cannot listen on 192.0.2.1"]);
    }
}

#[test]
fn settings_that_make_it_useless_are_warned_of_wherever_they_are_given() {
    let warns = |server: &Server, words: &str| {
        let said = || server.stderr().lines().any(|l| l.contains("WARN") && l.contains(words));
        assert!(wait_until(DEADLINE, said), "no warning of {words:?}:\n{}", server.stderr());
    };
    const TOO_LITTLE: &str = "maxmemory 1048576: an empty server needs";
    warns(&Server::start(&[("maxmemory", "1mb")]), TOO_LITTLE);

    let server = Server::start(&[]);
    assert!(!server.stderr().contains("WARN"), "warned of its defaults:\n{}", server.stderr());
    let mut client = Resp::connect(server.port());
    assert_eq!(client.call(&["CONFIG", "SET", "maxmemory", "1mb"]), Value::ok());
    warns(&server, TOO_LITTLE);
    let refused = client.call(&["SET", "k", "v"]);
    assert!(refused.as_bytes().starts_with(b"OOM "), "{refused:?}");
    assert_eq!(client.call(&["CONFIG", "SET", "maxmemory", "0"]), Value::ok());
    client.call(&["SET", "k", &"v".repeat(64 << 20)]);
    assert_eq!(client.call(&["CONFIG", "SET", "maxmemory", "20mb"]), Value::ok());
    warns(&server, "maxmemory 20971520 is less than the ");
    // Unchanged settings are not warned of again.
    let count = || server.stderr().matches("maxmemory 20971520").count();
    let before = count();
    assert_eq!(client.call(&["CONFIG", "SET", "notify-keyspace-events", "A"]), Value::ok());
    warns(&server, "notify-keyspace-events publishes nothing");
    assert_eq!(count(), before);

    let dir = std::sync::Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let file = dir.path().join("kvstore.conf");
    fs::write(&file, "maxmemory 1mb\nclient-output-buffer-limit normal 1kb 0 0\n").expect("a file");
    let server = Server::start_in(&dir, &[("config", file.to_str().expect("plain letters"))]);
    warns(&server, TOO_LITTLE);
    warns(&server, "client-output-buffer-limit normal 1024");
}

#[test]
fn settings_that_allow_what_no_record_can_hold_are_refused() {
    let server = Server::start(&[]);
    let mut client = Resp::connect(server.port());
    for name in ["proto-max-bulk-len", "client-query-buffer-limit"] {
        for value in ["1073741825", "4gb", "5gb", "9223372036854775807"] {
            let refused = client.call(&["CONFIG", "SET", name, value]);
            let text = String::from_utf8_lossy(refused.as_bytes()).into_owned();
            assert!(text.contains("at most 1073741824: a record"), "{name} {value}: {text}");
            assert_refused(&["serve", &format!("--{name}"), value], &[name, "1073741824"]);
        }
        assert_eq!(client.call(&["CONFIG", "SET", name, "1gb"]), Value::ok());
    }
}

#[test]
fn what_was_set_aside_is_measured_and_warned_of() {
    let dir = std::sync::Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let data = dir.path().join("data");
    for (name, bytes) in [("quarantine", 3000), ("diverged", 2000), ("diverged/all-1-00", 500)] {
        fs::create_dir_all(data.join(name)).expect("a directory");
        fs::write(data.join(name).join("log-1.aof"), vec![0; bytes]).expect("a file");
    }
    let server = Server::start_in(&dir, &[("set-aside-warn-size", "5000")]);
    let mut client = Resp::connect(server.port());
    let mut has = |line: &str| {
        let page = client.call(&["INFO", "persistence"]);
        String::from_utf8_lossy(page.as_bytes()).lines().any(|other| other == line)
    };
    assert!(has("kvstore_quarantine_size:3000"));
    assert!(has("kvstore_diverged_size:2500"));
    assert!(has("kvstore_set_aside_warning:1"));
    let metrics = http::get(http::page_port(&server), "/metrics");
    assert!(metrics.contains("\nkvstore_quarantine_bytes 3000\n"), "{metrics}");
    assert!(metrics.contains("\nkvstore_diverged_bytes 2500\n"), "{metrics}");
    let said = || server.stderr().contains("more than set-aside-warn-size (5000)");
    assert!(wait_until(DEADLINE, said), "no warning:\n{}", server.stderr());
    // An operator looks through it.
    fs::remove_dir_all(data.join("diverged")).expect("removing");
    assert!(wait_until(4 * DEADLINE, || has("kvstore_diverged_size:0")), "still there");
    assert!(has("kvstore_set_aside_warning:0"));
    assert_eq!(server.stderr().matches("more than set-aside-warn-size").count(), 1);
}
