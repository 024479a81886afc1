//! One client too many, and clients before AUTH.

use super::Scene;
use super::common::resp::{Resp, Value, quote};
use super::common::server::RedisServer;
use super::common::text::Text;
use super::common::{DEADLINE, wait_until};

#[test]
fn each_client_over_the_limit_is_told_and_closed() {
    const CLIENTS_MAX: usize = 20;
    const ATTEMPTS: u64 = 200;
    let mut scene = Scene::new(&[("maxclients", "20")]);
    let mut inside: Vec<Resp> = (1..CLIENTS_MAX).map(|_| Resp::connect(scene.port())).collect();
    for client in &mut inside {
        assert_eq!(client.call(&["PING"]), Value::simple("PONG"));
    }
    for attempt in 0..ATTEMPTS {
        let mut outside = Resp::connect(scene.port());
        let answer = outside.read_to_end();
        assert_eq!(quote(&answer), r#""-ERR max number of clients reached\r\n""#, "{attempt}");
    }
    for client in &mut inside {
        assert_eq!(client.call(&["PING"]), Value::simple("PONG"));
    }
    scene.assert_bystander_is_served("200 clients too many");
    assert_eq!(scene.info("rejected_connections"), ATTEMPTS);
    // Room for one: it may come, and one more may not.
    inside.pop();
    scene.wait_for_info("connected_clients", CLIENTS_MAX as u64 - 1);
    assert_eq!(Resp::connect(scene.port()).call(&["PING"]), Value::simple("PONG"));
    drop(inside);
    scene.wait_for_info("connected_clients", 1);
    scene.assert_unharmed("the crowd has left");
}

#[test]
fn the_limit_may_be_changed_while_clients_are_connected() {
    let mut scene = Scene::new(&[("maxclients", "3")]);
    let mut others = [Resp::connect(scene.port()), Resp::connect(scene.port())];
    for client in &mut others {
        assert_eq!(client.call(&["PING"]), Value::simple("PONG"));
    }
    assert_eq!(scene.bystander.call(&["CONFIG", "SET", "maxclients", "2"]), Value::ok());
    // Nobody who is in is thrown out.
    assert_eq!(others[0].call(&["PING"]), Value::simple("PONG"));
    assert!(Resp::connect(scene.port()).read_to_end().starts_with(b"-ERR max number"));
    assert_eq!(scene.bystander.call(&["CONFIG", "SET", "maxclients", "5"]), Value::ok());
    scene.assert_unharmed("a change of maxclients");
}

#[test]
fn a_full_member_of_a_cluster_still_has_room_for_other_nodes() {
    let alone = "127.0.0.1:1";
    let settings = [("maxclients", "2"), ("cluster-nodes", alone), ("cluster-announce", alone)];
    let mut scene = Scene::new(&settings);
    let mut inside = Resp::connect(scene.port());
    assert_eq!(inside.call(&["PING"]), Value::simple("PONG"));
    let full = Value::error("ERR max number of clients reached");
    for command in ["PING", "GET k", "MULTI", "SUBSCRIBE news", "SHUTDOWN"] {
        let mut outside = Resp::connect(scene.port());
        assert_eq!(outside.call(&command.split(' ').collect::<Vec<_>>()), full, "{command}");
        assert!(outside.read_to_end().is_empty());
    }
    assert_eq!(scene.info("rejected_connections"), 5);
    // One that says nothing does not keep the place.
    assert!(Resp::connect(scene.port()).read_to_end().is_empty());
    for node in ["PEER - 0 a:1 1 - 0", "REPLICATE 0 0 0 0 0"] {
        let answer = Resp::connect(scene.port()).call(&node.split(' ').collect::<Vec<_>>());
        assert!(answer.is_error() && answer != full, "{node}: {answer:?}");
    }
    let leads = || inside.call(&["ROLE"]).as_array()[0] == Value::bulk("master");
    assert!(wait_until(DEADLINE, leads), "a cluster of one elects itself");
    scene.assert_bystander_is_served("clients and nodes over the limit");
}

const PASSWORD: &str = "correct horse";

/// The bystander of a server with a password, who knows it.
fn with_password() -> Scene {
    let mut scene = Scene::new(&[("requirepass", PASSWORD)]);
    assert_eq!(scene.bystander.call(&["AUTH", PASSWORD]), Value::ok());
    scene
}

#[test]
fn before_auth_nothing_is_run_and_nothing_is_told() {
    let mut scene = with_password();
    let mut stranger = Resp::connect(scene.port());
    let refused = [
        "GET k",
        "SET k v",
        "FLUSHALL",
        "KEYS *",
        "INFO",
        "CONFIG GET requirepass",
        "CLIENT LIST",
        "SHUTDOWN",
        "DEBUG SLEEP 1",
        "COMMAND",
        "PING",
        "HELP",
        "SELECT 0",
        "NOSUCHCOMMAND",
        "CLIENT",
        "CLIENT NOSUCH",
        "GET",
        "MULTI",
        "ECHO x",
    ];
    for line in refused {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(
            stranger.call(&words),
            Value::error("NOAUTH Authentication required."),
            "{line}"
        );
        let answer = Text::connect(scene.port()).line(line);
        assert!(answer.starts_with("NOAUTH Authentication required"), "{line}: {answer}");
    }
    let hello = stranger.call(&["HELLO", "3"]);
    assert!(quote(hello.as_bytes()).contains("NOAUTH"), "{hello:?}");
    assert_eq!(stranger.call(&["RESET"]), Value::simple("RESET"));
    scene.assert_is_nil("k");
    for leave in ["QUIT", "EXIT"] {
        let mut stranger = Resp::connect(scene.port());
        stranger.send(&[leave]);
        assert_eq!(stranger.read_to_end(), b"+OK\r\n", "{leave}");
    }
}

#[test]
fn auth_opens_the_door_and_reset_shuts_it() {
    let scene = with_password();
    let mut client = Resp::connect(scene.port());
    assert_eq!(client.call(&["AUTH", "default", PASSWORD]), Value::ok());
    assert_eq!(client.call(&["SET", "k", "v"]), Value::ok());
    assert_eq!(client.call(&["RESET"]), Value::simple("RESET"));
    assert!(client.call(&["GET", "k"]).is_error());
    client.send(&["HELLO", "3", "AUTH", "default", PASSWORD]);
    assert!(matches!(client.read_reply(), Value::Map(_)));
    assert_eq!(client.call(&["GET", "k"]), Value::bulk("v"));
    let mut typist = Text::connect(scene.port());
    assert_eq!(typist.line(&format!("AUTH \"{PASSWORD}\"")), "OK");
    assert_eq!(typist.line("GET k"), "v");
}

#[test]
fn wrong_passwords_are_refused_and_counted() {
    let mut scene = with_password();
    let wrong: [&[&str]; 4] = [
        &["AUTH", "wrong"],
        &["AUTH", ""],
        &["AUTH", "nobody", PASSWORD],
        &["HELLO", "3", "AUTH", "default", "correct horsf"],
    ];
    for words in wrong {
        let mut stranger = Resp::connect(scene.port());
        let answer = stranger.call(words);
        assert!(answer.is_error() && answer.as_bytes().starts_with(b"WRONGPASS "), "{answer:?}");
        assert!(stranger.call(&["GET", "k"]).is_error(), "{words:?} opened the door");
    }
    assert_eq!(scene.info("acl_access_denied_auth"), wrong.len() as u64);
    let log = scene.server.stderr();
    assert_eq!(log.matches("wrong password").count(), wrong.len(), "{log}");
    assert!(!log.contains("horse") && !log.contains("horsf"), "a password is in the log:\n{log}");
}

#[test]
fn a_guesser_holds_up_nobody() {
    let mut scene = with_password();
    let guessers: Vec<Resp> = (0..10)
        .map(|_| {
            let mut guesser = Resp::connect(scene.port());
            guesser.send_raw(&b"*2\r\n$4\r\nAUTH\r\n$5\r\nwrong\r\n".repeat(100));
            guesser
        })
        .collect();
    let counted =
        wait_until(super::common::DEADLINE, || scene.info("acl_access_denied_auth") >= 10);
    assert!(counted, "the guesses are not counted");
    scene.assert_bystander_is_served("guesses");
    drop(guessers);
}

/// Requests before AUTH must be small, so that strangers cannot fill the memory.
const TOO_MUCH_BEFORE_AUTH: &[&[u8]] =
    &[b"*11\r\n", b"*1000000000\r\n", b"*2\r\n$4\r\nAUTH\r\n$16385\r\n", b"*1\r\n$536870912\r\n"];

#[test]
fn before_auth_requests_must_be_small() {
    let mut scene = with_password();
    let redis = RedisServer::start_with(&[("requirepass", "secret")]);
    for bytes in TOO_MUCH_BEFORE_AUTH {
        let answer = |port| {
            let mut stranger = Resp::connect(port);
            stranger.send_raw(bytes);
            quote(&stranger.read_to_end())
        };
        let actual = answer(scene.port());
        assert!(actual.contains("ERR Protocol error: unauthenticated"), "{actual}");
        if let Some(redis) = &redis {
            assert_eq!(actual, answer(redis.port()), "in answer to {}", quote(bytes));
        }
    }
    assert_eq!(scene.info("protocol_errors"), TOO_MUCH_BEFORE_AUTH.len() as u64);
    // A client that has given the password may send more.
    let mut request = vec![b"DEL".to_vec()];
    request.extend((0..100).map(|n| [b'k'; 20_000][..20_000 - n].to_vec()));
    assert_eq!(scene.bystander.call(&request), Value::Int(0));
}
