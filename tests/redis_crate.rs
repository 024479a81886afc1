//! The hazard: a client library that works with Redis does not work with us.
//!
//! Here it is the Rust ecosystem's own, unchanged and with its defaults, which sends CLIENT SETINFO
//! when it connects and has opinions about the types of replies. redis-py and node-redis are tried
//! by `make clients`.

mod common;

use common::server::Server;
use common::{DEADLINE, wait_until};
use redis::{Commands, Connection, RedisResult, SetExpiry, SetOptions};
use std::collections::{BTreeMap, BTreeSet};

/// A server, and a connection in RESP2 and one in RESP3. The last two words are of the URL.
const URLS: [&str; 2] = ["", "?protocol=resp3"];

fn connect(server: &Server, parameters: &str) -> Connection {
    let url = format!("redis://127.0.0.1:{}/{parameters}", server.port());
    let client = redis::Client::open(url).expect("a valid URL");
    let connection = client.get_connection_with_timeout(DEADLINE).expect("a connection");
    connection.set_read_timeout(Some(DEADLINE)).expect("a socket option");
    connection.set_write_timeout(Some(DEADLINE)).expect("a socket option");
    connection
}

fn for_both_protocols(test: fn(Connection) -> RedisResult<()>) {
    for parameters in URLS {
        let server = Server::start(&[]);
        test(connect(&server, parameters))
            .unwrap_or_else(|error| panic!("{parameters:?}: {error}"));
    }
}

#[test]
fn strings() {
    for_both_protocols(|mut con| {
        let nothing: Option<String> = con.get("k")?;
        assert_eq!(nothing, None);
        let () = con.set("k", "h\u{e9}llo")?;
        let text: String = con.get("k")?;
        assert_eq!(text, "h\u{e9}llo");
        let bytes: Vec<u8> = vec![0, 13, 10, 255];
        let () = con.set("binary", &bytes)?;
        assert_eq!(con.get::<_, Vec<u8>>("binary")?, bytes);
        let () = con.mset(&[("a", 1), ("b", 2)])?;
        let both: (i64, i64, Option<i64>) = con.mget(&["a", "b", "c"])?;
        assert_eq!(both, (1, 2, None));
        assert_eq!(con.incr::<_, _, i64>("a", 41)?, 42);
        assert_eq!(con.append::<_, _, usize>("k", "!")?, 7);
        assert!(con.exists::<_, bool>("k")?);
        assert_eq!(con.del::<_, usize>(&["k", "nothing"])?, 1);
        let once = SetOptions::default().conditional_set(redis::ExistenceCheck::NX);
        let first: Option<String> = con.set_options("once", 1, once.clone())?;
        let second: Option<String> = con.set_options("once", 2, once)?;
        assert_eq!((first.as_deref(), second), (Some("OK"), None));
        Ok(())
    });
}

#[test]
fn expiry() {
    for_both_protocols(|mut con| {
        let () = con.set_ex("k", "v", 1000)?;
        let ttl: i64 = con.ttl("k")?;
        assert!((990..=1000).contains(&ttl), "{ttl}");
        assert!(con.persist::<_, bool>("k")?);
        assert_eq!(con.ttl::<_, i64>("k")?, -1);
        assert!(con.expire::<_, bool>("k", 500)?);
        assert!(!con.expire::<_, bool>("nothing", 500)?);
        let soon = SetOptions::default().with_expiration(SetExpiry::PX(1));
        let () = con.set_options("brief", "v", soon)?;
        let is_gone = wait_until(DEADLINE, || con.get::<_, Option<String>>("brief") == Ok(None));
        assert!(is_gone, "a millisecond is over");
        Ok(())
    });
}

#[test]
fn pipelines() {
    for_both_protocols(|mut con| {
        let mut pipeline = redis::pipe();
        for n in 0..10_000 {
            pipeline.set(format!("key:{n}"), n).ignore();
            pipeline.get(format!("key:{n}"));
        }
        let values: Vec<i64> = pipeline.query(&mut con)?;
        assert!(values.into_iter().eq(0..10_000));
        // An error in the middle is the error of its command, and the rest is carried out.
        let mut pipeline = redis::pipe();
        pipeline.set("text", "abc").ignore().incr("text", 1).set("after", 1);
        assert!(pipeline.query::<Vec<redis::Value>>(&mut con).is_err());
        assert_eq!(con.get::<_, i64>("after")?, 1);
        Ok(())
    });
}

#[test]
fn scan_iteration_finds_each_key() {
    const KEYS: usize = 5_000;
    for_both_protocols(|mut con| {
        let mut pipeline = redis::pipe();
        for n in 0..KEYS {
            pipeline.set(format!("key:{n}"), n).ignore();
        }
        let () = pipeline.query(&mut con)?;
        let found: RedisResult<BTreeSet<String>> = con.scan::<String>()?.collect();
        assert_eq!(found?.len(), KEYS);
        let found: RedisResult<BTreeSet<String>> =
            con.scan_match::<_, String>("key:123*")?.collect();
        let expected =
            (0..KEYS).map(|n| format!("key:{n}")).filter(|key| key.starts_with("key:123"));
        assert_eq!(found?, expected.collect());
        Ok(())
    });
}

#[test]
fn errors_have_the_codes_that_the_library_knows() {
    for_both_protocols(|mut con| {
        let () = con.set("text", "abc")?;
        let error = con.incr::<_, _, i64>("text", 1).expect_err("it is no number");
        assert_eq!(error.code(), Some("ERR"), "{error}");
        let error = con.lpush::<_, _, i64>("list", 1).expect_err("there are no lists");
        assert!(error.to_string().contains("unknown command"), "{error}");
        let info: BTreeMap<String, String> =
            redis::cmd("CONFIG").arg("GET").arg("maxclients").query(&mut con)?;
        assert!(info.contains_key("maxclients"), "{info:?}");
        Ok(())
    });
}

#[test]
fn a_password_in_the_url() {
    let server = Server::start(&[("requirepass", "secret")]);
    for protocol in ["", "?protocol=resp3"] {
        let url = |password| format!("redis://:{password}@127.0.0.1:{}/{protocol}", server.port());
        let client = redis::Client::open(url("secret")).expect("a valid URL");
        let mut con = client.get_connection_with_timeout(DEADLINE).expect("a connection");
        let () = con.set("k", "v").expect("with the password");
        let client = redis::Client::open(url("guess")).expect("a valid URL");
        let refused = client.get_connection_with_timeout(DEADLINE).map(drop);
        assert!(refused.is_err(), "a wrong password opens the door");
    }
}

/// `redis::transaction` is WATCH, a function, MULTI and EXEC, repeated until no other client interferes.
#[test]
fn transactions() {
    for_both_protocols(|mut con| {
        let mut pipe = redis::pipe();
        pipe.atomic().set("a", 1).ignore().incr("a", 41).get("nothing");
        let results: (i64, Option<String>) = pipe.query(&mut con)?;
        assert_eq!(results, (42, None));
        let mut tries = 0;
        let (new,): (i64,) = redis::transaction(&mut con, &["a"], |con, pipe| {
            tries += 1;
            let old: i64 = con.get("a")?;
            if tries == 1 {
                // One's own change counts, too.
                let () = con.set("a", old)?;
            }
            pipe.incr("a", old).query(con)
        })?;
        assert_eq!((new, tries), (84, 2));
        Ok(())
    });
}
