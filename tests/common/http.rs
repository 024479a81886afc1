//! HTTP as raw bytes, for the status page.

use super::server::{Server, connect, number_behind};
use std::io::{Read, Write};
use std::net::TcpStream;

/// The text that a server prints before its page's port.
pub const PAGE: &str = "status page on http://127.0.0.1:";

/// The port of a server's status page.
pub fn page_port(server: &Server) -> u16 {
    number_behind(&server.stdout(), PAGE).expect("the page's address is printed")
}

/// Sends these bytes and returns all that comes back.
pub fn exchange(port: u16, request: &[u8]) -> String {
    let mut socket = connect(port);
    socket.write_all(request).expect("sending");
    read_all(&mut socket)
}

/// All that is sent until the close.
pub fn read_all(socket: &mut TcpStream) -> String {
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer, and a close");
    answer
}

/// A well-formed GET.
pub fn get(port: u16, path: &str) -> String {
    exchange(port, format!("GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n").as_bytes())
}

/// The three digits.
pub fn status(answer: &str) -> &str {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or("none")
}

/// The text after the head.
pub fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a head").1
}
