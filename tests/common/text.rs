//! A client that does what a person at `telnet` does: it types lines and reads lines.

use super::server::connect;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

pub struct Text {
    stream: BufReader<TcpStream>,
    /// The line typed last, for the report of a failure.
    last_sent: String,
}

impl Text {
    pub fn connect(port: u16) -> Text {
        Text { stream: BufReader::new(connect(port)), last_sent: String::new() }
    }

    /// Types a line and returns the one line that answers it.
    pub fn line(&mut self, line: &str) -> String {
        self.send(line);
        self.read_line()
    }

    /// Types a line.
    pub fn send(&mut self, line: &str) {
        self.send_raw(format!("{line}\r\n").as_bytes());
    }

    /// Sends bytes as they are: several lines at once, half a line, or garbage.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.last_sent = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned();
        let sent = self.stream.get_mut().write_all(bytes);
        sent.unwrap_or_else(|error| panic!("sending {:?}: {error}", self.last_sent));
    }

    /// The next line, without its end.
    pub fn read_line(&mut self) -> String {
        let mut line = vec![];
        let read = self.stream.read_until(b'\n', &mut line);
        read.unwrap_or_else(|error| {
            panic!("no reply to {:?}: {error}; received {line:?}", self.last_sent)
        });
        assert_eq!(
            line.pop(),
            Some(b'\n'),
            "the server closed before it answered {:?}",
            self.last_sent
        );
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line)
            .unwrap_or_else(|error| panic!("{error} in reply to {:?}", self.last_sent))
    }

    /// Everything up to the server's closing.
    pub fn read_to_end(&mut self) -> String {
        let mut rest = vec![];
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            // A server that closes with bytes unread makes the kernel send a reset: closed all the
            // same.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("after {:?} the server does not close: {error}", self.last_sent),
        }
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Says that no more lines come, as `nc -N` does, while replies are still read.
    pub fn finish_sending(&self) {
        self.stream.get_ref().shutdown(Shutdown::Write).expect("half-close");
    }

    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }
}
