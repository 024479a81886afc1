//! The hazard: while data is being loaded, a server that is alive looks dead. A look at it waits for the
//! locks that the load holds, scrapes pile up, and an orchestrator kills what was only busy.
//!
//! Whatever needs no data answers at once and says that the server is loading; whatever needs data is told
//! so with `-LOADING`. An answer counts as one during a load if INFO says `loading:1` before and after it, with one
//! and the same start, and no load has ended meanwhile.

mod common;

use common::http::{body, get, page_port, status};
use common::nodes::{assert_replicated, follower_of};
use common::resp::{Resp, Value, encode};
use common::server::Server;
use common::{DEADLINE, wait_until};
use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// Enough for a load of some tenths of a second.
const KEYS: usize = 200_000;

fn fill(port: u16) {
    let mut client = Resp::connect(port);
    for start in (0..KEYS).step_by(2000) {
        let mut bytes = Vec::new();
        for n in start..start + 2000 {
            encode(&["SET", &format!("key:{n}"), &format!("value of {n:050}")], &mut bytes);
        }
        client.send_raw(&bytes);
        (0..2000).for_each(|_| drop(client.read_reply()));
    }
}

fn persistence(client: &mut Resp) -> BTreeMap<String, String> {
    let page = client.call(&["INFO", "persistence"]);
    let page = String::from_utf8_lossy(page.as_bytes()).into_owned();
    let pairs = page.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The start of the load that is going on, if one is.
fn load_of(client: &mut Resp) -> Option<String> {
    let info = persistence(client);
    (info["loading"] == "1").then(|| info["loading_start_time"].clone())
}

/// A server that loads data.
struct Loads {
    port: u16,
    /// Loads that have ended. The next one begins after it is counted.
    over: AtomicUsize,
}

impl Loads {
    fn of(port: u16) -> Loads {
        Loads { port, over: AtomicUsize::new(0) }
    }

    /// The answer of `ask` during a load; tries until a load has lasted for so long.
    fn during<T>(&self, what: &str, mut ask: impl FnMut() -> T) -> T {
        let (mut looker, mut answer) = (Resp::connect(self.port), None);
        let asked = wait_until(6 * DEADLINE, || {
            let over = self.over.load(SeqCst);
            let Some(before) = load_of(&mut looker) else { return false };
            let answered = ask();
            // Read last, for a load that INFO shows began after the one before was counted.
            if load_of(&mut looker) == Some(before) && self.over.load(SeqCst) == over {
                answer = Some(answered);
            }
            answer.is_some()
        });
        assert!(asked, "{what} is not answered while data is loaded");
        answer.expect("it was asked")
    }
}

/// Runs DEBUG RELOAD again and again, beside `work`.
fn while_reloading(server: &Server, work: impl FnOnce(&Loads)) {
    let (loads, stop) = (Loads::of(server.port()), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Resp::connect(loads.port);
            common::server::set_deadline(client.stream(), 6 * DEADLINE);
            while !stop.load(SeqCst) {
                assert_eq!(client.call(&["DEBUG", "RELOAD"]), Value::ok());
                loads.over.fetch_add(1, SeqCst);
                thread::sleep(Duration::from_millis(20));
            }
        });
        let _stop = common::nodes::StopOnDrop(&stop);
        work(&loads);
    });
}

fn is_loading_error(reply: &Value) -> bool {
    matches!(reply, Value::Error(text) if text.starts_with("LOADING "))
}

#[test]
fn a_reload_is_seen_and_holds_up_nobody_who_needs_no_data() {
    let server = Server::start(&[]);
    fill(server.port());
    let (port, page) = (server.port(), page_port(&server));
    while_reloading(&server, |loads| {
        let mut client = Resp::connect(port);
        let free: [&[&str]; 8] = [
            &["ECHO", "x"],
            &["INFO", "everything"],
            &["CLIENT", "LIST"],
            &["ROLE"],
            &["CONFIG", "GET", "maxmemory"],
            &["SLOWLOG", "LEN"],
            &["PUBLISH", "news", "x"],
            &["WATCH", "key:1", "key:2"],
        ];
        for words in free {
            let reply = loads.during(words[0], || client.call(words));
            assert!(!reply.is_error(), "{words:?}: {reply:?}");
        }
        let needy: [&[&str]; 11] = [
            // Needs none, but is how clients ask whether there is any, as in Redis.
            &["PING"],
            &["SAVE"],
            &["GET", "key:1"],
            &["SET", "key:1", "v"],
            &["DBSIZE"],
            &["KEYS", "none"],
            &["SCAN", "0"],
            &["RANDOMKEY"],
            &["FLUSHALL"],
            &["OBJECT", "ENCODING", "key:1"],
            &["WAIT", "0", "0"],
        ];
        for words in needy {
            let reply = loads.during(words[0], || client.call(words));
            assert!(is_loading_error(&reply), "{words:?}: {reply:?}");
        }
        let help = loads.during("OBJECT HELP", || client.call(&["OBJECT", "HELP"]));
        assert!(!help.is_error(), "as in Redis: {help:?}");
        for path in ["/metrics", "/status.json", "/healthz", "/"] {
            let answer = loads.during(path, || get(page, path));
            assert_eq!(status(&answer), "200", "{path}: {answer}");
        }
        let answer = loads.during("/metrics", || get(page, "/metrics"));
        assert!(answer.contains("\nkvstore_loading 1\n"), "{answer}");
        assert!(answer.contains(&format!("\nkvstore_keys {KEYS}\n")), "the last totals: {answer}");
        let answer = loads.during("/status.json", || get(page, "/status.json"));
        assert!(body(&answer).contains("\"state\":\"loading\",\"loading\":{"), "{answer}");
        let answer = loads.during("/readyz", || get(page, "/readyz"));
        assert_eq!((status(&answer), body(&answer)), ("503", "loading\n"));
    });
    let mut client = Resp::connect(port);
    assert_eq!(client.call(&["DBSIZE"]), Value::Int(KEYS as i64));
    let info = persistence(&mut client);
    assert_eq!(info["loading"], "0");
    assert!(!info.contains_key("loading_start_time"), "as in Redis, only while it loads");
}

#[test]
fn a_transaction_that_watches_neither_waits_for_a_load_nor_runs_on_half_of_the_data() {
    let server = Server::start(&[]);
    fill(server.port());
    let port = server.port();
    while_reloading(&server, |loads| {
        let fresh = || {
            let mut client = Resp::connect(port);
            let watched = wait_until(6 * DEADLINE, || {
                client.call(&["UNWATCH"]);
                client.call(&["WATCH", "key:1", "key:2"]);
                load_of(&mut client).is_none()
            });
            assert!(watched, "it never stops loading");
            client
        };
        // The end of a connection ends its watches. Each try takes one that watches since before the load.
        let mut watchers: Vec<Resp> = (0..16).map(|_| fresh()).collect();
        for word in ["UNWATCH", "QUIT"] {
            loads.during(word, || {
                let mut client = watchers.pop().expect("one of the tries is within a load");
                assert_eq!(client.call(&[word]), Value::ok());
                client.finish_sending();
                assert!(client.read_to_end().is_empty(), "it is closed");
            });
        }
        let mut client = fresh();
        assert_eq!(client.call(&["MULTI"]), Value::ok());
        let reply = loads.during("EXEC", || {
            let reply = client.call(&["EXEC"]);
            client.call(&["WATCH", "key:1"]);
            client.call(&["MULTI"]);
            reply
        });
        assert_eq!(reply, Value::Null, "what is watched is being replaced");
        client.call(&["DISCARD"]);
        // Queued before the load, executed during it.
        let reply = loads.during("EXEC of a GET", || {
            let mut client = Resp::connect(port);
            client.call(&["MULTI"]);
            client.call(&["GET", "key:1"]);
            client.call(&["EXEC"])
        });
        assert!(
            matches!(&reply, Value::Error(text) if text.starts_with("EXECABORT ")),
            "{reply:?}"
        );
    });
}

#[test]
fn a_follower_that_loads_a_full_copy_says_so() {
    let leader = Server::start(&[("repl-backlog-size", "0")]);
    fill(leader.port());
    assert_eq!(Resp::connect(leader.port()).call(&["SAVE"]), Value::ok());
    let follower = follower_of(leader.port(), &[]);
    let port = follower.port();
    let mut client = Resp::connect(port);
    let info = Loads::of(port).during("INFO", || persistence(&mut client));
    let number = |name: &str| -> f64 {
        let value = info.get(name).unwrap_or_else(|| panic!("no {name} in {info:?}"));
        value.parse().unwrap_or_else(|_| panic!("{name} is {value}"))
    };
    let (total, loaded) = (number("loading_total_bytes"), number("loading_loaded_bytes"));
    assert!(number("loading_start_time") > 1.7e9 && number("loading_eta_seconds") >= 0.0);
    assert!(loaded <= total && number("loading_loaded_perc") <= 100.0, "{info:?}");
    assert_replicated(&leader, &[&follower]);
}

#[test]
fn the_page_tells_how_far_the_log_is_read_at_the_start() {
    let mut first = Server::start(&[]);
    fill(first.port());
    first.kill();
    let server = Server::spawn_in(&first.shared_dir(), &[]);
    let page = || {
        let log = server.stderr();
        let last = log.rfind(common::http::PAGE)?;
        common::server::number_behind(&log[last..], common::http::PAGE)
    };
    // The log begins with that of the server before, whose page is gone.
    let mut port = 0;
    let is_there = wait_until(DEADLINE, || {
        port = page().unwrap_or_default();
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    assert!(is_there, "{}", server.stderr());
    let (mut status_json, mut metrics) = (String::new(), String::new());
    let seen = wait_until(DEADLINE, || {
        if metrics.is_empty() {
            let answer = get(port, "/metrics");
            if answer.contains("\nkvstore_loading 1\n") {
                metrics = answer;
            }
        }
        if status_json.is_empty() {
            let answer = get(port, "/status.json");
            if answer.contains("\"total_bytes\":") {
                status_json = answer;
            }
        }
        !metrics.is_empty() && !status_json.is_empty() || server.stdout().contains("ready on")
    });
    assert!(seen && !metrics.is_empty() && !status_json.is_empty(), "{}", server.stderr());
    assert_eq!(status(&metrics), "200");
    assert!(
        status_json.contains("{\"state\":\"loading\",\"loading\":{\"started\":"),
        "{status_json}"
    );
}
