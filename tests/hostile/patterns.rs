//! Patterns made to be slow to match.
//!
//! The story: `KEYS *[aaa…]` with 40,000 letters, against one key of 40,000 bytes, took three seconds, and
//! for as long no client could read from that key's shard, nor ask for INFO or DBSIZE.

use super::Scene;
use super::common::resp::{Resp, Value};
use super::common::rng::{Rng, fresh_seed};
use super::common::server::RedisServer;

const PATTERN_BYTES_MAX: usize = 4096;
/// Long enough that comparing each byte with each of a pattern would take far longer than a deadline.
const KEY_BYTES: usize = 3 << 20;

#[test]
fn a_pattern_is_bounded_on_every_path_that_takes_one() {
    let mut scene = Scene::new(&[]);
    let long = "a".repeat(PATTERN_BYTES_MAX + 1);
    let longest = &long[1..];
    let error = Value::error("ERR a channel or pattern may have 4096 bytes at most");
    let paths: [&[&str]; 9] = [
        &["KEYS"],
        &["SCAN", "0", "MATCH"],
        &["SCAN", "0", "COUNT", "5", "MATCH"],
        &["PSUBSCRIBE"],
        &["SUBSCRIBE"],
        &["PUBSUB", "CHANNELS"],
        &["CONFIG", "GET"],
        &["COMMAND", "LIST", "FILTERBY", "PATTERN"],
        &["PUBLISH"],
    ];
    for path in paths {
        let call = |pattern| {
            let message: &[&str] = if path == ["PUBLISH"] { &["a message"] } else { &[] };
            Resp::connect(scene.port()).call(&[path, &[pattern], message].concat())
        };
        assert_eq!(call(&long), error, "{path:?}");
        assert!(!call(longest).is_error(), "{path:?}");
    }
    scene.bystander.call(&["MULTI"]);
    scene.bystander.call(&["KEYS", &long]);
    assert_eq!(scene.bystander.call(&["EXEC"]).as_array(), [error]);
    scene.assert_unharmed("long patterns");
}

#[test]
fn no_pattern_holds_up_those_who_read_what_it_is_matched_with() {
    let mut scene = Scene::new(&[]);
    let key = "a".repeat(KEY_BYTES);
    assert_eq!(scene.bystander.call(&["SET", &key, "v"]), Value::ok());
    let n = PATTERN_BYTES_MAX - 8;
    let patterns = [
        format!("*{}b*", "a".repeat(n)),
        format!("*{}b", "a".repeat(n)),
        format!("*[{}]b*", "a".repeat(n)),
        format!("*{}b*", "[^b]".repeat(n / 4)),
        format!("*{}b*", "\\a".repeat(n / 2)),
        format!("*{}b*", "?".repeat(n)),
        format!("{}b*", "*a".repeat(n / 2)),
    ];
    for pattern in &patterns {
        let mut slow = Resp::connect(scene.port());
        slow.send(&["KEYS", pattern]);
        // Its shard, and what looks at all shards.
        assert_eq!(scene.bystander.call(&["GETRANGE", &key, "0", "9"]), Value::bulk("v"));
        assert_eq!(scene.bystander.call(&["STRLEN", &key]), Value::Int(1));
        scene.assert_bystander_is_served("a slow pattern");
        scene.info("used_memory");
        assert_eq!(slow.read_reply().as_array(), [], "KEYS of a pattern with b");
        let page = slow.call(&["SCAN", "0", "COUNT", "1000", "MATCH", pattern]);
        assert_eq!(page.as_array()[1].as_array(), [], "SCAN of a pattern with b");
    }
    let all = Resp::connect(scene.port()).call(&["KEYS", &format!("*{}*", "?a".repeat(n / 2))]);
    assert_eq!(all.as_array(), [Value::bulk(&key)]);
}

/// A word of letters that mean something in patterns.
fn word(rng: &mut Rng, letters: &[u8], len_max: usize) -> Vec<u8> {
    (0..rng.below(len_max + 1)).map(|_| letters[rng.below(letters.len())]).collect()
}

#[test]
fn patterns_mean_what_they_mean_to_redis() {
    let Some(redis) = RedisServer::start() else { return };
    let scene = Scene::new(&[]);
    let seed = fresh_seed();
    let mut rng = Rng::new(seed);
    let mut both = [Resp::connect(scene.port()), Resp::connect(redis.port())];
    let mut keys: Vec<Vec<u8>> = (0..300).map(|_| word(&mut rng, b"ab]-\\", 8)).collect();
    keys.push(Vec::new());
    for key in &keys {
        both.iter_mut().for_each(|client| drop(client.call(&[b"SET", &key[..], b"v"])));
    }
    let sorted = |value: &Value| {
        let mut found: Vec<Vec<u8>> =
            value.as_array().iter().map(|key| key.as_bytes().to_vec()).collect();
        found.sort();
        found
    };
    for _ in 0..2000 {
        let pattern = word(&mut rng, b"ab*?[]^-\\", 10);
        let keys = both.each_mut().map(|client| sorted(&client.call(&[b"KEYS", &pattern[..]])));
        assert_eq!(keys[0], keys[1], "KEYS {} (seed {seed})", pattern.escape_ascii());
        let scan: [&[u8]; 6] = [b"SCAN", b"0", b"COUNT", b"9999", b"MATCH", &pattern];
        let keys = both.each_mut().map(|client| sorted(&client.call(&scan).as_array()[1]));
        assert_eq!(keys[0], keys[1], "SCAN MATCH {} (seed {seed})", pattern.escape_ascii());
    }
    for pattern in ["*", "**", "", "a*", "?*"] {
        for channel in ["", "a", "ab"] {
            let receivers = both.each_mut().map(|client| {
                let port = client.stream().peer_addr().expect("connected").port();
                let mut subscriber = Resp::connect(port);
                subscriber.call(&["PSUBSCRIBE", pattern]);
                let receivers = client.call(&["PUBLISH", channel, "m"]);
                // Messages may come before the confirmation.
                subscriber.send(&["PUNSUBSCRIBE"]);
                let ended = |reply: Value| reply.as_array()[0] == Value::bulk("punsubscribe");
                while !ended(subscriber.read_reply()) {}
                receivers
            });
            assert_eq!(receivers[0], receivers[1], "{pattern:?} and channel {channel:?}");
        }
    }
}
