//! What the library costs: GET over a bare socket and by `client.get`, in turn. Usage: `overhead CALLS HOST:PORT`
//!
//! Prints both in calls per second: the median of a hundred turns.

use kvstore::client::Client;
use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const KEY: &str = "overhead";
const VALUE: &str = "0123456789012345678901234567890123456789012345678901234567890123";
const TURNS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let calls = args.next().ok_or("how many calls?")?.parse::<u32>()? / TURNS as u32;
    let addr = args.next().ok_or("which server?")?;
    let client = Client::builder().nodes([addr.clone()]).build()?;
    client.set(KEY, VALUE)?;
    let mut socket = TcpStream::connect(addr)?;
    socket.set_nodelay(true)?;
    let (mut bare, mut library) = ([Duration::ZERO; TURNS], [Duration::ZERO; TURNS]);
    for turn in 0..TURNS {
        bare[turn] = timed(calls, || bare_get(&mut socket))?;
        library[turn] = timed(calls, || {
            assert_eq!(client.get::<String>(KEY)?, VALUE);
            Ok(())
        })?;
    }
    let [bare, library] = [bare, library].map(|mut times| {
        times.sort();
        f64::from(calls) / times[TURNS / 2].as_secs_f64()
    });
    println!("bare {bare:.0} client {library:.0}");
    Ok(())
}

fn timed(
    calls: u32,
    mut call: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<Duration, Box<dyn Error>> {
    let begin = Instant::now();
    (0..calls).try_for_each(|_| call())?;
    Ok(begin.elapsed())
}

/// What any client must do at least: a request in one write, and its reply read to the end.
fn bare_get(socket: &mut TcpStream) -> Result<(), Box<dyn Error>> {
    socket.write_all(format!("*2\r\n$3\r\nGET\r\n${}\r\n{KEY}\r\n", KEY.len()).as_bytes())?;
    let expected = format!("${}\r\n{VALUE}\r\n", VALUE.len());
    let mut reply = [0; 128];
    socket.read_exact(&mut reply[..expected.len()])?;
    assert_eq!(&reply[..expected.len()], expected.as_bytes());
    Ok(())
}
