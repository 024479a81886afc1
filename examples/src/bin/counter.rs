//! Four threads count up, whatever happens to the nodes. Usage: `counter SECONDS HOST:PORT…`
//!
//! Each increment is acknowledged, or in doubt, or certain not to have happened; none is sent twice. At the end the counter
//! stands between the number acknowledged and that plus the number in doubt. Otherwise the exit code is 1.

use kvstore::client::{Client, Error};
use std::process::ExitCode;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

const THREADS: usize = 4;

fn main() -> Result<ExitCode, Error> {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let client = Client::builder().nodes(args).deadline(Duration::from_secs(20)).build()?;
    let before = client.get::<Option<i64>>("counter")?.unwrap_or(0);
    let counts = [const { AtomicI64::new(0) }; 3];
    let [acknowledged, in_doubt, refused] = counts.each_ref();
    let end = Instant::now() + Duration::from_secs(seconds);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while Instant::now() < end {
                    match client.incr("counter") {
                        Ok(_) => acknowledged,
                        Err(Error::InDoubt(_)) => in_doubt,
                        Err(_) => refused,
                    }
                    .fetch_add(1, Relaxed);
                }
            });
        }
    });
    let value = client.get::<Option<i64>>("counter")?.unwrap_or(0) - before;
    let [acknowledged, in_doubt, refused] =
        [acknowledged, in_doubt, refused].map(|count| count.load(Relaxed));
    println!(
        "acknowledged {acknowledged}, in doubt {in_doubt}, refused {refused}; counted {value}"
    );
    let is_right = (acknowledged..=acknowledged + in_doubt).contains(&value);
    Ok(ExitCode::from(u8::from(!is_right)))
}
