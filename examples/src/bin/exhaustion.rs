//! Sixteen threads share a pool and make twenty calls each. Usage: `exhaustion HOST:PORT SIZE sleep|write`
//!
//! A call sleeps 20 ms in the server, or is a SET. It may wait 50 ms for a connection. Prints how many calls were
//! answered, how many were refused because the pool was exhausted, and the pool's figures in the middle of it.

use kvstore::client::{Client, Error};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

const THREADS: usize = 16;
const CALLS: usize = 20;
/// Longer than two calls that go before, shorter than three.
const CHECKOUT: Duration = Duration::from_millis(50);

fn main() -> Result<(), Error> {
    let [addr, size, call] = [1, 2, 3].map(|at| std::env::args().nth(at).unwrap_or_default());
    let size = size.parse().unwrap_or_default();
    let client = Client::builder().nodes([addr]).pool(size).checkout(CHECKOUT).build()?;
    let call: &[&str] = match call.as_str() {
        "sleep" => &["DEBUG", "SLEEP", "0.02"],
        _ => &["SET", "k", "v"],
    };
    let counts = [const { AtomicU64::new(0) }; 2];
    let [answered, exhausted] = counts.each_ref();
    let figures = thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..CALLS {
                    match client.command(call).query() {
                        Ok(()) => answered.fetch_add(1, Relaxed),
                        Err(Error::Exhausted { .. }) => exhausted.fetch_add(1, Relaxed),
                        Err(error) => panic!("{error}"),
                    };
                }
            });
        }
        thread::sleep(CHECKOUT / 2);
        client.figures()
    });
    let (answered, exhausted) = (answered.load(Relaxed), exhausted.load(Relaxed));
    println!("answered {answered}, exhausted {exhausted}; in use {}, waiting {}", figures.in_use, figures.waiting);
    Ok(())
}
