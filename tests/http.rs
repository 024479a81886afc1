//! The hazard: a side door. The port for the status page and the metrics is open to every program and,
//! by way of a browser, to every web page; it must not become a way to read what is not meant to be seen,
//! to run a command, or to hold the server up. And what it shows must be true.
//!
//! `scripts/observe.sh` asks real browsers and a real Prometheus; here it is raw bytes.

mod common;

use common::http::{PAGE, body, exchange, get, page_port, read_all, status};
use common::resp::{Resp, Value};
use common::server::{Server, connect, lasting_port, number_behind, set_deadline};
use common::{DEADLINE, wait_until};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const PATHS: [&str; 5] = ["/", "/metrics", "/status.json", "/healthz", "/readyz"];
#[test]
fn every_path_answers_get_and_head_and_nothing_else() {
    let server = Server::start(&[]);
    let port = page_port(&server);
    let host = "HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    for path in PATHS {
        let full = get(port, path);
        assert_eq!(status(&full), "200", "{path}: {full}");
        let (head, text) = full.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("Content-Length: {}\r\n", text.len())), "{path}: {head}");
        for header in ["Cache-Control: no-store", "nosniff", "default-src 'none'"] {
            assert!(head.contains(header), "{path} lacks {header}: {head}");
        }
        let head_only = exchange(port, format!("HEAD {path} {host}").as_bytes());
        assert_eq!((status(&head_only), body(&head_only)), ("200", ""), "{path}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "SET"] {
            let refused = exchange(port, format!("{method} {path} {host}").as_bytes());
            assert_eq!(status(&refused), "405", "{method} {path}: {refused}");
            assert!(refused.contains("\r\nAllow: GET, HEAD\r\n"), "{method} {path}: {refused}");
        }
        assert_eq!(status(&get(port, &format!("{path}?x=1"))), "200", "{path} with a query");
    }
    for path in
        ["/favicon.ico", "/metrics/", "//", "/../etc/passwd", "/%2e%2e/", "/SHUTDOWN", "/port"]
    {
        assert_eq!(status(&get(port, path)), "404", "{path}");
    }
}

#[test]
fn only_names_of_ours_are_answered() {
    let server = Server::start(&[("metrics-host", "kv.example.org other")]);
    let port = page_port(&server);
    let ask = |host: &str| {
        exchange(port, format!("GET /status.json HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
    };
    for host in
        ["localhost", "LOCALHOST:1", "127.0.0.1:8081", "[::1]", "[::1]:80", "KV.example.org:80"]
    {
        assert_eq!(status(&ask(host)), "200", "{host}");
    }
    for host in ["evil.example", "localhost.evil.example:8081", "127.0.0.1.nip.io", "127.0.0.2"] {
        let answer = ask(host);
        assert_eq!(status(&answer), "403", "{host}");
        assert!(!answer.contains("run_id"), "{host} sees nothing");
    }
    assert_eq!(status(&exchange(port, b"GET / HTTP/1.1\r\n\r\n")), "400", "no Host");
    assert_eq!(status(&exchange(port, b"GET /healthz HTTP/1.0\r\n\r\n")), "200", "an old balancer");
}

#[test]
fn tricks_with_lines_are_refused_and_nothing_is_run() {
    let server = Server::start(&[]);
    let port = page_port(&server);
    let mut client = Resp::connect(server.port());
    assert_eq!(client.call(&["SET", "key", "safe"]), Value::ok());
    for request in [
        &b"FLUSHALL\r\n\r\n"[..],
        b"*1\r\n$8\r\nFLUSHALL\r\n\r\n",
        b"GET /\r\nFLUSHALL HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n folded: yes\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\nFLUSHALL",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \0\r\n\r\n",
    ] {
        let answer = exchange(port, request);
        assert_eq!(status(&answer), "400", "{}: {answer}", request.escape_ascii());
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "one request, one answer");
    }
    // Bytes after the request are not a second one.
    let twice = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2);
    assert_eq!(exchange(port, &twice).matches("HTTP/1.1 ").count(), 1);
    // Nothing of a request comes back, least of all in a header.
    let echo = get(port, "/%0d%0aSet-Cookie:x=1");
    assert!(status(&echo) == "404" && !echo.contains("ookie"), "{echo}");
    assert_eq!(client.call(&["GET", "key"]), Value::bulk("safe"));
}

#[test]
fn a_long_request_is_cut() {
    let server = Server::start(&[]);
    let port = page_port(&server);
    let with_field = |len: usize| {
        let fill = "x".repeat(len);
        exchange(port, format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {fill}\r\n\r\n").as_bytes())
    };
    assert_eq!(status(&with_field(8000)), "200");
    assert_eq!(status(&with_field(8192)), "431");
    // One that never ends is cut at the bound and not kept until memory is full.
    let mut endless = connect(port);
    let _ = endless.write_all(&b"x".repeat(9 << 10));
    assert_eq!(status(&read_all(&mut endless)), "431");
}

#[test]
fn slow_clients_take_all_places_only_for_a_while() {
    const PLACES: usize = 8;
    let server = Server::start(&[]);
    let port = page_port(&server);
    let mut slow: Vec<TcpStream> = (0..PLACES).map(|_| connect(port)).collect();
    for socket in &mut slow {
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost:").expect("the beginning of a request");
    }
    let refused = wait_until(DEADLINE, || {
        let mut answer = [0; 12];
        connect(port).read_exact(&mut answer).is_ok() && &answer == b"HTTP/1.1 503"
    });
    assert!(refused, "one more than there are places is told");
    let pong = Resp::connect(server.port()).call(&["PING"]);
    assert_eq!(pong, Value::simple("PONG"), "commands are not held up");
    // A byte now and then does not buy time.
    set_deadline(&slow[0], Duration::from_millis(50));
    let mut first = [0; 12];
    let answered = wait_until(3 * DEADLINE, || {
        let answered = slow[0].read_exact(&mut first).is_ok();
        answered || slow[0].write_all(b"x").is_err()
    });
    assert!(answered && &first == b"HTTP/1.1 408", "{}", first.escape_ascii());
    for socket in &mut slow[1..] {
        assert_eq!(status(&read_all(socket)), "408");
    }
    drop(slow);
    assert!(
        wait_until(DEADLINE, || status(&get(port, "/healthz")) == "200"),
        "there is room again"
    );
}

/// An orchestrator that hears 503 from the check of a live server kills it.
#[test]
fn scrapes_that_take_all_places_do_not_make_a_live_server_look_dead() {
    let server = Server::start(&[]);
    let port = page_port(&server);
    let mut slow: Vec<TcpStream> = (0..8).map(|_| connect(port)).collect();
    for socket in &mut slow {
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost:").expect("the beginning of a request");
    }
    let full = wait_until(DEADLINE, || status(&get(port, "/metrics")) == "503");
    assert!(full, "there is a place for one more scrape");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(status(&get(port, path)), "200", "{path}");
    }
    for socket in &mut slow {
        assert_eq!(status(&read_all(socket)), "408");
    }
}

#[test]
fn it_is_not_ready_while_it_loads() {
    let mut first = Server::start(&[]);
    assert_eq!(Resp::connect(first.port()).call(&["SET", "key", "value"]), Value::ok());
    first.kill();
    // Loading begins with the file `node`; from a pipe it is read when we write to it.
    let node = first.dir().join("data/node");
    let text = fs::read_to_string(&node).expect("the node's file");
    fs::remove_file(&node).expect("removing it");
    assert!(Command::new("mkfifo").arg(&node).status().expect("mkfifo runs").success());
    let server = Server::spawn_in(&first.shared_dir(), &[]);
    let last_page = || {
        let log = server.stderr();
        number_behind(&log[log.rfind(PAGE)?..], PAGE)
    };
    let mut port = 0;
    let listens = wait_until(DEADLINE, || {
        port = last_page().unwrap_or_default();
        port > 0 && status(&get_if_there(port, "/readyz")) == "503"
    });
    assert!(listens, "nobody says that it is loading:\n{}", server.stderr());
    assert_eq!(body(&get(port, "/readyz")), "loading\n");
    assert_eq!(status(&get(port, "/healthz")), "200", "it is alive");
    assert_eq!(status(&get(port, "/metrics")), "503", "there are no figures yet");
    assert_eq!(body(&get(port, "/status.json")), "{\"state\":\"loading\"}");
    assert_eq!(status(&get(port, "/")), "200", "the page is there, and says it");
    fs::write(&node, text).expect("feeding the pipe");
    assert!(wait_until(DEADLINE, || body(&get(port, "/readyz")) == "ready\n"), "it never is");
    assert!(body(&get(port, "/metrics")).contains("\nkvstore_keys 1\n"));
}

fn get_if_there(port: u16, path: &str) -> String {
    TcpStream::connect(("127.0.0.1", port)).map_or(String::new(), |_| get(port, path))
}

#[test]
fn it_is_not_ready_while_it_ends() {
    let server = Server::start(&[("shutdown-timeout", "1000")]);
    let port = page_port(&server);
    let mut client = Resp::connect(server.port());
    assert_eq!(client.call(&["SET", "large", &"v".repeat(100_000)]), Value::ok());
    let mut stuck = connect(server.port());
    stuck.write_all(&b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".repeat(500)).expect("sending");
    assert_eq!(status(&get(port, "/readyz")), "200");
    // The server ends when that client has read its 50 MB, which it does not do.
    let waits = wait_until(DEADLINE, || {
        let list = client.call(&["CLIENT", "LIST"]);
        String::from_utf8_lossy(list.as_bytes()).contains(" oll=1 ")
    });
    assert!(waits, "nothing waits for the client that does not read");
    server.signal("TERM");
    let refuses = wait_until(DEADLINE, || body(&get(port, "/readyz")) == "shutting down\n");
    assert!(refuses, "it says that it is ready");
    assert_eq!(status(&get(port, "/healthz")), "200");
    drop(stuck);
    assert_eq!(server.wait().code(), Some(0));
}

/// All samples of a scrape, by name and labels.
fn scrape(port: u16) -> BTreeMap<String, f64> {
    let answer = get(port, "/metrics");
    let lines = body(&answer).lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
    };
    lines.map(sample).collect()
}

fn info(client: &mut Resp) -> BTreeMap<String, String> {
    let page = client.call(&["INFO", "everything"]);
    let page = String::from_utf8(page.as_bytes().to_vec()).expect("text");
    let pairs = page.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_metrics_are_those_of_info() {
    let server = Server::start(&[("appendfsync", "always")]);
    let mut client = Resp::connect(server.port());
    for n in 0..100 {
        let key = format!("k{}", n % 50);
        assert_eq!(client.call(&["SET", &key, "v", "PX", "100000"]), Value::ok());
        client.call(&["GET", &format!("k{n}")]);
    }
    client.call(&["SET", "once", "v", "PX", "1"]);
    for command in [&["INCR", "k1"][..], &["NOSUCH"], &["GET"], &["HGET", "k", "f"]] {
        assert!(client.call(command).is_error(), "{command:?}");
    }
    let is_quiet = wait_until(DEADLINE, || {
        let now = info(&mut client);
        now["expired_keys"] == "1" && now["kvstore_appended_seq"] == now["kvstore_durable_seq"]
    });
    assert!(is_quiet, "the key stays, or its deletion is not synced");
    let before = info(&mut client);
    let seen = scrape(page_port(&server));
    for (metric, field) in [
        ("kvstore_connections_received_total", "total_connections_received"),
        ("kvstore_connected_clients", "connected_clients"),
        ("kvstore_max_clients", "maxclients"),
        ("kvstore_keyspace_hits_total", "keyspace_hits"),
        ("kvstore_keyspace_misses_total", "keyspace_misses"),
        ("kvstore_expired_keys_total", "expired_keys"),
        ("kvstore_evicted_keys_total", "evicted_keys"),
        ("kvstore_memory_limit_bytes", "maxmemory"),
        ("kvstore_log_appended_seq", "kvstore_appended_seq"),
        ("kvstore_log_durable_seq", "kvstore_durable_seq"),
        ("kvstore_log_size_bytes", "aof_current_size"),
        ("kvstore_log_written_bytes_total", "kvstore_written_bytes"),
        ("kvstore_memory_data_bytes", "used_memory_dataset"),
    ] {
        assert_eq!(seen[metric].to_string(), before[field], "{metric} and {field}");
    }
    let errors: f64 = named(&seen, "kvstore_errors_total{").map(|(_, count)| count).sum();
    assert_eq!(errors.to_string(), before["total_error_replies"]);
    assert_eq!(before["total_error_replies"], "4");
    for (field, value) in before.iter().filter_map(|(f, v)| Some((f.strip_prefix("cmdstat_")?, v)))
    {
        let calls = value.split([',', '=']).nth(1).expect("calls=n").parse::<f64>().expect("n");
        // Of INFO itself the answer does not know.
        let itself = f64::from(u8::from(field == "info"));
        let metric = format!("kvstore_commands_total{{command=\"{field}\"}}");
        assert_eq!(seen[&metric], calls + itself, "{field}");
    }
    assert_eq!(seen["kvstore_commands_total{command=\"set\"}"], 101.0);
    assert_eq!(seen["kvstore_command_failures_total{command=\"incr\"}"], 1.0);
    assert_eq!(seen["kvstore_keys"], 50.0);
    assert!(!seen.contains_key("kvstore_commands_total{command=\"append\"}"), "it was not called");
}

fn named<'a>(
    seen: &'a BTreeMap<String, f64>,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a String, f64)> {
    seen.iter()
        .filter(move |(name, _)| name.starts_with(prefix))
        .map(|(name, value)| (name, *value))
}

#[test]
fn followers_are_seen_on_both_sides() {
    let leader = Server::start(&[]);
    let address = format!("127.0.0.1:{}", leader.port());
    let follower = Server::start(&[("replicaof", &address)]);
    let mut client = Resp::connect(leader.port());
    assert_eq!(client.call(&["SET", "key", "value"]), Value::ok());
    let name = format!("{{replica=\"127.0.0.1:{}\"}}", follower.port());
    let (mut one, mut two) = (BTreeMap::new(), BTreeMap::new());
    let follows = wait_until(DEADLINE, || {
        (one, two) = (scrape(page_port(&leader)), scrape(page_port(&follower)));
        one.get(&format!("kvstore_replica_lag_records{name}")) == Some(&0.0)
            && two["kvstore_keys"] == 1.0
    });
    assert!(follows, "{one:?}\n{two:?}");
    assert_eq!((one["kvstore_leader"], one["kvstore_replicas"]), (1.0, 1.0));
    assert_eq!((two["kvstore_leader"], two["kvstore_leader_link_up"]), (0.0, 1.0));
    assert!(!one.contains_key("kvstore_leader_link_up"), "it has no leader");
    let shown = get(page_port(&leader), "/status.json");
    assert!(shown.contains(&format!("\"address\":\"127.0.0.1:{}\"", follower.port())), "{shown}");
    let shown = get(page_port(&follower), "/status.json");
    assert!(shown.contains(&format!("\"leader\":{{\"address\":\"{address}\"")), "{shown}");
}

#[test]
fn the_members_of_a_cluster_are_shown() {
    let own = "127.0.0.1:1";
    let settings = [("cluster-nodes", own), ("cluster-announce", own), ("election-timeout", "100")];
    let server = Server::start(&settings);
    let mut shown = String::new();
    let leads = wait_until(DEADLINE, || {
        shown = get(page_port(&server), "/status.json");
        shown.contains(&format!("\"leader\":\"{own}\""))
    });
    assert!(leads, "{shown}");
    let member =
        format!("\"address\":\"{own}\",\"part\":\"leader\",\"this_node\":true,\"answers\":true");
    assert!(shown.contains(&format!("\"members\":[{{{member}}}]")), "{shown}");
    let shown = get(page_port(&Server::start(&[])), "/status.json");
    assert!(!shown.contains("\"members\"") && !shown.contains("\"cluster\""), "{shown}");
}

#[test]
fn keys_and_values_are_shown_only_to_who_could_read_them_anyway() {
    let slow = ("slowlog-log-slower-than", "0");
    for (settings, shown) in [(&[slow][..], true), (&[slow, ("requirepass", "secret")], false)] {
        let server = Server::start(settings);
        let mut client = Resp::connect(server.port());
        client.call(&["AUTH", "secret"]);
        assert_eq!(client.call(&["SET", "my-key", "my-value"]), Value::ok());
        let page = get(page_port(&server), "/status.json");
        assert_eq!(page.contains("SET my-key my-value"), shown, "{page}");
        assert!(page.contains("\"run\",") && !page.contains("secret"), "{page}");
        assert!(!get(page_port(&server), "/metrics").contains("my-"));
    }
}

/// Two free ports beside each other.
fn two_ports() -> u16 {
    let mut first = lasting_port();
    while lasting_port() != first + 1 {
        first = lasting_port();
    }
    first
}

fn start_on(port: u16, more: &[(&str, &str)]) -> Server {
    let port = port.to_string();
    let settings: Vec<_> =
        [("port", port.as_str())].into_iter().chain(more.iter().copied()).collect();
    Server::start_in(&Arc::new(tempfile::tempdir().expect("a directory")), &settings)
}

#[test]
fn servers_on_neighbouring_ports_start_in_either_order() {
    for reverse in [false, true] {
        let port = two_ports();
        let (first, second) = if reverse { (port + 1, port) } else { (port, port + 1) };
        let one = start_on(first, &[]);
        let two = start_on(second, &[]);
        for server in [&one, &two] {
            let pong = Resp::connect(server.port()).call(&["PING"]);
            assert_eq!(pong, Value::simple("PONG"), "reverse: {reverse}");
        }
        let lower = if reverse { &two } else { &one };
        let metrics_port = info(&mut Resp::connect(lower.port()))["metrics_port"].clone();
        assert_eq!(metrics_port, "0", "its page has made room, reverse: {reverse}");
        assert!(lower.stderr().contains("status page"), "and the log says so");
    }
}

#[test]
fn a_port_that_was_chosen_is_neither_given_up_nor_done_without() {
    let port = two_ports();
    let page = (port + 1).to_string();
    let one = start_on(port, &[("metrics-port", &page)]);
    assert_eq!(page_port(&one), port + 1);
    for setting in ["--port", "--metrics-port"] {
        let mut command = Server::command();
        let other = ["serve", "--appendonly", "no", "--port", "0", setting, &page];
        let output = command.args(other).output().expect("the binary runs");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{setting} {page} starts");
        assert!(stderr.contains(&page) && stderr.contains(setting), "{setting}: {stderr}");
    }
    assert_eq!(status(&get(port + 1, "/healthz")), "200", "the first one is not harmed");
    assert_eq!(
        status(&exchange(port + 1, b"GET /port HTTP/1.0\r\nKvstore-Asks-For-Port: p\r\n\r\n")),
        "404"
    );
    let none = Server::start(&[("metrics-port", "0")]);
    assert!(!none.stdout().contains("status page"), "0 turns it off");
}
