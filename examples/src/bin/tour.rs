//! The program of README.md, as another crate builds it. Usage: `tour HOST:PORT…`

use kvstore::client::{Client, Error, Event, Reads};
use std::time::Duration;

fn main() -> Result<(), Error> {
    let client = Client::builder()
        .nodes(std::env::args().skip(1))
        .pool(16)
        .checkout(Duration::from_millis(200))
        .deadline(Duration::from_secs(2))
        .build()?;
    client.set("visits", "0")?;
    let n: i64 = client.incr("visits")?;
    let (a, b): (Option<String>, i64) = client.pipeline().get("a").incr("b").run()?;
    let mut session = client.session(Reads::Followers { wait: Duration::from_millis(50) });
    session.set("name", "Ada")?;
    let name: Option<String> = session.get("name")?;
    let done: bool = client.compare_and_set("lease", Some("me:1"), "me:2")?;
    println!("visits {n}; a {a:?}, b {b}; name {name:?}; the lease was renewed: {done}");
    for event in client.subscribe(["news"])? {
        // It would go on for ever; here the first message ends it.
        match event? {
            Event::Message(message) => {
                println!("news: {}", message.payload_str());
                return Ok(());
            }
            Event::Gap => println!("the connection broke: messages may be missing"),
        }
    }
    Ok(())
}
