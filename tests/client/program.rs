//! The program of README.md: what it does, and that it is the one which the module's documentation compiles.

use crate::common::server::Server;
use kvstore::client::{Client, Error, Event, Reads};
use std::thread;
use std::time::Duration;

#[test]
fn the_example_does_what_it_says() -> Result<(), Error> {
    let server = Server::start(&[]);
    let address = format!("127.0.0.1:{}", server.port());
    let client = Client::builder()
        .nodes([address])
        .pool(16)
        .checkout(Duration::from_secs(5))
        .deadline(Duration::from_secs(10))
        .build()?;
    client.set("visits", "0")?;
    let visits: i64 = client.incr("visits")?;
    assert_eq!(visits, 1);
    let (a, b): (Option<String>, i64) = client.pipeline().get("a").incr("b").run()?;
    assert_eq!((a, b), (None, 1));
    let mut session = client.session(Reads::Followers { wait: Duration::from_millis(50) });
    session.set("name", "Ada")?;
    let name: Option<String> = session.get("name")?;
    assert_eq!(name.as_deref(), Some("Ada"));
    assert_eq!(client.command(["GETRANGE", "name", "0", "1"]).query::<String>()?, "Ad");
    assert!(!client.compare_and_set("lease", Some("me:1"), "me:2")?, "there is no lease");
    assert!(client.compare_and_set("lease", None::<&str>, "me:1")?);
    assert!(client.compare_and_set("lease", Some("me:1"), "me:2")?);
    assert!(!client.compare_and_set("lease", Some("me:1"), "me:3")?);
    assert_eq!(client.get::<Option<String>>("lease")?.as_deref(), Some("me:2"));
    client.set_for("brief", "v", Duration::from_secs(100))?;
    assert!((1..=100).contains(&client.command(["TTL", "brief"]).query::<i64>()?));
    assert!(client.del("brief")? && !client.del("brief")?);
    let mut events = client.subscribe(["news"])?;
    let publisher = thread::spawn(move || client.publish("news", "hello"));
    match events.next().expect("it does not end")? {
        Event::Message(message) => assert_eq!(message.payload_str(), "hello"),
        Event::Gap => panic!("nothing was cut"),
    }
    assert_eq!(publisher.join().expect("no panic"), Ok(1));
    Ok(())
}

/// The documentation's example is compiled as a program of another crate. README.md shows the same lines.
#[test]
fn the_example_of_the_readme_is_compiled() {
    let readme = include_str!("../../README.md");
    let shown = readme.split_once("```rust\n").and_then(|(_, rest)| rest.split_once("```"));
    let (shown, _) = shown.expect("README.md has a program");
    let module = include_str!("../../src/client/mod.rs");
    let lines = module.lines().filter_map(|line| line.strip_prefix("//!").map(str::trim_start));
    let compiled: Vec<&str> = lines
        .skip_while(|line| !line.starts_with("```no_run"))
        .skip(1)
        .take_while(|line| *line != "```")
        .filter(|line| !line.starts_with("# "))
        .collect();
    assert!(shown.lines().map(str::trim_start).eq(compiled));
}

#[test]
fn settings_that_make_no_sense() {
    let node = || Client::builder().nodes(["127.0.0.1:1"]);
    let nothing: [&str; 0] = [];
    let bad = [
        Client::builder(),
        Client::builder().nodes(nothing),
        Client::builder().nodes(["no-port"]),
        node().pool(0),
        node().deadline(Duration::ZERO),
    ];
    for settings in bad {
        let built = settings.clone().build().map(drop);
        assert!(matches!(built, Err(Error::Invalid(_))), "{settings:?}");
    }
    let client = node().build().expect("valid, and not connected yet");
    assert!(matches!(client.command(["MULTI"]).query::<()>(), Err(Error::Invalid(_))));
}
