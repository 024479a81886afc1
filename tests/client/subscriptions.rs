//! A subscription outlives its connection, and a gap is reported.

use super::client;
use crate::common::proxy::Proxy;
use crate::common::server::Server;
use crate::common::{DEADLINE, wait_until};
use kvstore::client::{Client, Error, Event};

/// Waits until the server has noticed that an earlier connection of the subscriber is gone.
fn publish(client: &Client, text: &str) {
    let subscribers = || {
        let reply = client.command(["PUBSUB", "NUMSUB", "news"]).query::<(String, i64)>();
        reply.expect("a channel and its subscribers").1
    };
    assert!(wait_until(DEADLINE, || subscribers() <= 1));
    assert_eq!(client.publish("news", text), Ok(1), "one subscriber gets {text}");
}

fn text(event: Option<Result<Event, Error>>) -> String {
    match event {
        Some(Ok(Event::Message(message))) => {
            assert_eq!(message.channel, b"news");
            message.payload_str().into_owned()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lost_connection_gives_a_gap() {
    let server = Server::start(&[]);
    let link = Proxy::to(server.port(), 1);
    let publisher = client(&[server.port()]);
    let mut events = client(&[link.port()]).subscribe(["other", "news"]).expect("confirmed");
    for round in ["1", "2"] {
        for message in ["a", "b"] {
            publish(&publisher, &format!("{message}{round}"));
        }
        assert_eq!(text(events.next()), format!("a{round}"));
        assert_eq!(text(events.next()), format!("b{round}"));
        link.cut();
        assert_eq!(events.next(), Some(Ok(Event::Gap)));
    }
    publish(&publisher, "last");
    assert_eq!(text(events.next()), "last");
}

#[test]
fn messages_of_any_bytes() {
    let server = Server::start(&[]);
    let client = client(&[server.port()]);
    let mut events = client.subscribe(["news"]).expect("confirmed");
    let payload: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    assert_eq!(client.publish("news", &payload), Ok(1));
    match events.next() {
        Some(Ok(Event::Message(message))) => assert_eq!(message.payload, payload),
        other => panic!("{other:?}"),
    }
    assert!(matches!(client.subscribe(Vec::<String>::new()), Err(Error::Invalid(_))));
}

/// While no node answers, an error is returned, and the next call tries again.
#[test]
fn errors_do_not_end_it() {
    let server = Server::start(&[]);
    let link = Proxy::to(server.port(), 1);
    let settings = super::builder(&[link.port()]).deadline(std::time::Duration::from_millis(500));
    let mut events = settings.build().expect("valid").subscribe(["news"]).expect("confirmed");
    link.refuse(true);
    let refused = events.next();
    assert!(matches!(refused, Some(Err(Error::Unavailable(_)))), "{refused:?}");
    link.heal();
    let mut event = events.next();
    for _ in 0..50 {
        if event == Some(Ok(Event::Gap)) {
            break;
        }
        event = events.next();
    }
    assert_eq!(event, Some(Ok(Event::Gap)));
    publish(&client(&[server.port()]), "after");
    assert_eq!(text(events.next()), "after");
}
