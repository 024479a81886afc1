//! A server that answers OK to each request and does nothing else, with a blocking thread for each connection as kvstore
//! has: the limit of that shape. `make bench ARGS='--subject echo'` compares it with Redis, and shows kvstore beside it.
//!
//! It counts the `*` with which requests begin. That is enough for redis-benchmark, whose keys and values have none.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

const INPUT_BYTES: usize = 64 << 10;
const OK: &[u8] = b"+OK\r\n";
/// The benchmark asks for figures of the log. There are none.
const INFO: &[u8] = b"*2\r\n$4\r\nINFO\r\n";
const NO_FIELDS: &[u8] = b"$0\r\n\r\n";

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("ready on {}", listener.local_addr()?);
    for socket in listener.incoming() {
        let socket = socket?;
        thread::spawn(move || serve(socket));
    }
    Ok(())
}

fn serve(mut socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let (mut input, mut output) = (vec![0; INPUT_BYTES], Vec::new());
    loop {
        let n = socket.read(&mut input)?;
        if n == 0 {
            return Ok(());
        }
        let requests = &input[..n];
        output.clear();
        if requests.starts_with(INFO) {
            output.extend_from_slice(NO_FIELDS);
        } else {
            let count = requests.iter().filter(|byte| **byte == b'*').count();
            (0..count).for_each(|_| output.extend_from_slice(OK));
        }
        socket.write_all(&output)?;
    }
}
