//! The hazard: the Unix socket is a second door, and what guards the first one is forgotten there: limits, the order at
//! the end, and that no server takes another one's file.

mod common;

use common::DEADLINE;
use common::server::{Server, start_in_vain};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

fn place() -> (Arc<TempDir>, PathBuf) {
    let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let path = dir.path().join("kv.sock");
    (dir, path)
}

fn start(dir: &Arc<TempDir>, path: &Path, more: &[(&str, &str)]) -> Server {
    let path = path.display().to_string();
    Server::start_in(dir, &[&[("unixsocket", &*path), ("unixsocketperm", "600")], more].concat())
}

fn connect(path: &Path) -> UnixStream {
    let socket = UnixStream::connect(path).expect("a server listens");
    socket.set_read_timeout(Some(DEADLINE)).expect("a socket option");
    socket.set_write_timeout(Some(DEADLINE)).expect("a socket option");
    socket
}

/// Sends a line and reads one.
fn ask(socket: &UnixStream, line: &str) -> String {
    writeln!(&*socket, "{line}").expect("to send");
    read_line(socket)
}

/// Byte by byte, so that nothing of what follows is taken.
fn read_line(mut socket: &UnixStream) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    loop {
        socket.read_exact(&mut byte).expect("an answer");
        match byte {
            [b'\n'] => return String::from_utf8(line).expect("text"),
            [byte] => line.push(byte),
        }
    }
}

#[test]
fn it_is_served_as_a_port_is() {
    let (dir, path) = place();
    let server = start(&dir, &path, &[]);
    let mode = fs::metadata(&path).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let socket = connect(&path);
    assert_eq!(ask(&socket, "SET k hello world"), "OK");
    let shown = ask(&socket, "CLIENT INFO");
    let addr = format!("addr={0}:0 laddr={0}:0 ", path.display());
    assert!(shown.contains(&addr) && shown.contains(" flags=U "), "{shown}");
    let monitor = connect(&path);
    assert_eq!(ask(&monitor, "MONITOR"), "OK");
    assert_eq!(ask(&socket, "GET k"), "hello world");
    let line = read_line(&monitor);
    assert!(line.ends_with(&format!("[0 unix:{}] \"GET\" \"k\"", path.display())), "{line}");
    drop(monitor);
    // What was sent before the end is answered.
    (&socket).write_all(b"GET k\nSTRLEN k\n").expect("to send");
    socket.shutdown(Shutdown::Write).expect("to end");
    let mut rest = String::new();
    (&socket).read_to_string(&mut rest).expect("the answers");
    assert_eq!(rest.replace('\r', ""), "hello world\n11\n");
    assert!(server.stop().success());
    assert!(!path.exists(), "the file is removed at the end");
}

#[test]
fn limits_and_kill_hold_there_too() {
    let (dir, path) = place();
    let server = start(&dir, &path, &[("maxclients", "2")]);
    let (first, second) = (connect(&path), common::server::connect(server.port()));
    assert_eq!(ask(&first, "PING"), "PONG");
    (&second).write_all(b"PING\n").expect("to send");
    (&second).read_exact(&mut [0; 5]).expect("PONG");
    let third = connect(&path);
    assert_eq!(read_line(&third).trim_end(), "-ERR max number of clients reached");
    (&second).write_all(format!("CLIENT KILL {}:0\n", path.display()).as_bytes()).expect("to send");
    assert_eq!((&first).read(&mut [0; 9]).expect("its end"), 0);
}

#[test]
fn a_client_may_send_a_hundred_thousand_commands_before_it_reads() {
    let (dir, path) = place();
    let _server = start(&dir, &path, &[]);
    let socket = connect(&path);
    let value = "x".repeat(500);
    assert_eq!(ask(&socket, &format!("SET k {value}")), "OK");
    (&socket).write_all("GET k\n".repeat(100_000).as_bytes()).expect("it goes on reading");
    socket.shutdown(Shutdown::Write).expect("to end");
    let mut answers = String::new();
    (&socket).read_to_string(&mut answers).expect("all answers");
    assert_eq!(answers.lines().filter(|line| *line == value).count(), 100_000);
}

#[test]
fn the_file_of_a_dead_server_is_replaced_and_that_of_a_living_one_is_not() {
    let (dir, path) = place();
    let mut server = start(&dir, &path, &[]);
    let (other, _) = place();
    let vain = |metrics_port: &str, words: &str| {
        let data = other.path().join("data").display().to_string();
        let path = path.display().to_string();
        let args = ["serve", "--port", "0", "--metrics-port", metrics_port, "--dir", &data];
        let output = start_in_vain(&[&args[..], &["--unixsocket", &path]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(words), "{said}");
    };
    vain("0", "a server listens on it; stop that one, or choose another path");
    assert_eq!(ask(&connect(&path), "PING"), "PONG", "the first server still has it");
    server.kill();
    assert!(path.exists(), "a server that was killed leaves its file");
    let server = start(&dir, &path, &[]);
    assert_eq!(ask(&connect(&path), "PING"), "PONG");
    // A file that another process has put there is not removed.
    fs::remove_file(&path).expect("to remove it");
    let listener = UnixListener::bind(&path).expect("another's");
    assert!(server.stop().success() && path.exists());
    drop(listener);
    fs::remove_file(&path).expect("to remove it");
    fs::write(&path, "precious").expect("a file");
    vain("0", "a file that is not a socket has this name");
    assert_eq!(fs::read(&path).expect("the file"), b"precious");
    fs::remove_file(&path).expect("to remove it");
    // A start that fails later leaves nothing.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    vain(&port, "for no status page");
    assert_eq!(fs::read_dir(dir.path()).expect("it").filter(is_socket_file).count(), 0);
}

fn is_socket_file(entry: &std::io::Result<fs::DirEntry>) -> bool {
    entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("kv.sock"))
}

#[test]
fn the_service_manager_is_told_when_it_is_ready() {
    let (dir, path) = place();
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a socket option");
    let name = path.display().to_string();
    let _server = Server::start_with(&dir, &[], &[("NOTIFY_SOCKET", &name)]);
    let mut datagram = [0; 64];
    let len = socket.recv(&mut datagram).expect("a datagram");
    assert_eq!(&datagram[..len], b"READY=1\n");
}
