//! The hazard: a client that finds its server through Redis Sentinel does not find the leader, or is not told of the
//! next one. Here are the bytes; `make clients` tries the clients.

use crate::common::resp::{Resp, Value};
use crate::common::server::{Server, lasting_port};
use crate::common::text::Text;
use crate::common::{long_form, wait_until};
use crate::fixture::{Cluster, ELECTED_WITHIN};
use redis::sentinel::{SentinelClient, SentinelServerType};
use redis::{Commands, Connection, RedisResult};
use std::collections::BTreeMap;

const MASTER: [&str; 3] = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "kvstore"];

fn bulks(words: &[&str]) -> Value {
    Value::Array(words.iter().map(Value::bulk).collect())
}

/// The fields of a node, which RESP2 writes as a flat array and RESP3 as a map.
fn fields(node: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| String::from_utf8_lossy(value.as_bytes()).into_owned();
    match node {
        Value::Map(pairs) => pairs.iter().map(|(name, value)| (text(name), text(value))).collect(),
        flat => flat.as_array().chunks(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
    }
}

/// The ports of nodes whose flags are these.
fn ports(nodes: &Value, flags: &str) -> Vec<u16> {
    let nodes = nodes.as_array().iter().map(fields);
    let mut ports: Vec<u16> = nodes
        .filter(|node| node["flags"] == flags)
        .map(|node| node["port"].parse().expect("a port"))
        .collect();
    ports.sort_unstable();
    ports
}

fn ports_but(cluster: &Cluster, but: usize) -> Vec<u16> {
    let mut ports: Vec<u16> =
        (0..cluster.nodes.len()).filter(|at| *at != but).map(|at| cluster.port(at)).collect();
    ports.sort_unstable();
    ports
}

/// Waits until a node answers a request so.
fn wait_for_answer(node: &mut Resp, request: &[&str], what: &str, is_so: impl Fn(&Value) -> bool) {
    let mut last = Value::Null;
    let came = wait_until(ELECTED_WITHIN, || {
        last = node.call(request);
        is_so(&last)
    });
    assert!(came, "{request:?}: waited in vain for {what}; the last answer: {last:?}");
}

#[test]
fn each_node_names_the_leader_the_replicas_and_the_sentinels() {
    let cluster = Cluster::start(3, &[]);
    let leader = cluster.leader();
    let port = cluster.port(leader).to_string();
    for at in 0..3 {
        let mut node = cluster.connect(at);
        for protocol in ["2", "3"] {
            node.call(&["HELLO", protocol]);
            for name in ["kvstore", "mymaster"] {
                let request = ["SENTINEL", "get-master-addr-by-name", name];
                assert_eq!(node.call(&request), bulks(&["127.0.0.1", &port]));
            }
            let masters = node.call(&["SENTINEL", "MASTERS"]);
            let names: Vec<String> =
                masters.as_array().iter().map(|master| fields(master)["name"].clone()).collect();
            assert_eq!(names, ["kvstore", "mymaster"]);
            let master = node.call(&["SENTINEL", "MASTER", "mymaster"]);
            assert_eq!(master, masters.as_array()[1]);
            assert_eq!(matches!(master, Value::Map(_)), protocol == "3");
            let master = fields(&master);
            let of = |name: &str| master[name].as_str();
            assert_eq!((of("ip"), of("port"), of("flags")), ("127.0.0.1", &*port, "master"));
            assert_eq!(
                (of("num-slaves"), of("num-other-sentinels"), of("quorum")),
                ("2", "2", "2")
            );
            assert_eq!(of("runid").len(), 40);
            // Between two followers, the connection of one to the other may come later than the leader.
            for (request, but, part) in [
                ("REPLICAS", leader, "slave"),
                ("SLAVES", leader, "slave"),
                ("SENTINELS", at, "sentinel"),
            ] {
                let expected = ports_but(&cluster, but);
                let is_so = |nodes: &Value| ports(nodes, part) == expected;
                wait_for_answer(
                    &mut node,
                    &["SENTINEL", request, "kvstore"],
                    "both other nodes",
                    is_so,
                );
            }
            let enough = "OK 3 usable Sentinels. Quorum and failover authorization can be reached";
            assert_eq!(node.call(&["SENTINEL", "CKQUORUM", "kvstore"]), Value::simple(enough));
            let id = node.call(&["SENTINEL", "MYID"]);
            assert_eq!(id.as_bytes().len(), 40);
            assert_eq!(id == Value::bulk(of("runid")), at == leader);
            let asked = ["SENTINEL", "IS-MASTER-DOWN-BY-ADDR", "127.0.0.1", &port, "7", "*"];
            let not_down = Value::Array(vec![Value::Int(0), Value::bulk("*"), Value::Int(0)]);
            assert_eq!(node.call(&asked), not_down);
            let unknown = node.call(&["SENTINEL", "REPLICAS", "two words"]);
            assert_eq!(unknown, Value::error("ERR No such master with that name"));
        }
        node.call(&["HELLO", "2"]);
        node.call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "two words"]);
        assert_eq!(node.last_raw(), b"*-1\r\n");
    }
}

#[test]
fn without_a_majority_no_leader_is_named() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader();
    let left = (leader + 1) % 3;
    (0..3).filter(|at| *at != left).for_each(|at| cluster.kill(at));
    let mut node = cluster.connect(left);
    wait_for_answer(&mut node, &MASTER, "nil", |answer| *answer == Value::Null);
    assert_eq!(node.last_raw(), b"*-1\r\n");
    assert_eq!(node.call(&["SENTINEL", "MASTERS"]), Value::Array(vec![]));
    for request in ["MASTER", "REPLICAS"] {
        let refused = format!("{:?}", node.call(&["SENTINEL", request, "kvstore"]));
        assert!(refused.contains("ERR No such master with that name: no leader"), "{refused}");
    }
    wait_for_answer(&mut node, &["SENTINEL", "CKQUORUM", "kvstore"], "no quorum", |answer| {
        format!("{answer:?}").contains("NOQUORUM 1 usable Sentinels. ")
    });
    let sentinels = node.call(&["SENTINEL", "SENTINELS", "kvstore"]);
    assert_eq!(ports(&sentinels, "sentinel,s_down,disconnected"), ports_but(&cluster, left));
}

/// Adds the messages that a subscriber gets, up to one that this is true for.
fn listen(subscriber: &mut Resp, messages: &mut Vec<String>, is_last: impl Fn(&[String]) -> bool) {
    while !is_last(messages) {
        let message = subscriber.read_reply();
        messages.push(String::from_utf8_lossy(message.as_array()[2].as_bytes()).into_owned());
    }
}

#[test]
fn subscribers_of_each_node_are_told_of_each_change_once() {
    let mut cluster = Cluster::start(3, &[]);
    let first = cluster.leader();
    let others: Vec<usize> = (0..3).filter(|at| *at != first).collect();
    let mut subscribers = Vec::new();
    for at in &others {
        let mut node = cluster.connect(*at);
        let name = format!("name-of-{at}");
        assert_ne!(node.call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", &name]), Value::Null);
        node.call(&["SUBSCRIBE", "+switch-master"]);
        subscribers.push((*at, name, node));
    }
    cluster.kill(first);
    let second = cluster.leader();
    let goal = format!(" 127.0.0.1 {}", cluster.port(second));
    for (at, name, mut subscriber) in subscribers {
        let (mut messages, names) = (Vec::new(), ["kvstore", &name]);
        let told = |messages: &[String], name: &str| {
            messages.iter().any(|text| text.starts_with(name) && text.ends_with(&goal))
        };
        listen(&mut subscriber, &mut messages, |all| names.iter().all(|name| told(all, name)));
        // Nothing comes twice.
        let end = format!("end of {at}");
        cluster.connect(second).call(&["PUBLISH", "+switch-master", &end]);
        listen(&mut subscriber, &mut messages, |all| all.last() == Some(&end));
        for name in names {
            let told = messages.iter().filter_map(|text| text.strip_prefix(&format!("{name} ")));
            // Usually one change; on a loaded machine the two that are left may have had more.
            let mut leader = format!("127.0.0.1 {}", cluster.port(first));
            for change in told {
                let new = change.strip_prefix(&format!("{leader} "));
                leader = new.unwrap_or_else(|| panic!("node {at}: {messages:?}")).to_owned();
            }
            assert_eq!(leader, goal.trim_start(), "{messages:?}");
        }
    }
}

#[test]
fn a_node_without_a_cluster_does_not_know_the_command() {
    let server = Server::start(&[]);
    let mut client = Resp::connect(server.port());
    let refused = format!("{:?}", client.call(&["SENTINEL", "MASTERS"]));
    assert!(refused.contains("ERR unknown command 'SENTINEL'"), "{refused}");
    assert_eq!(client.call(&["COMMAND", "INFO", "sentinel"]), Value::Array(vec![Value::Null]));
}

#[test]
fn subscribers_are_told_when_a_member_goes_and_comes_back() {
    let mut cluster = Cluster::start(3, &[("election-timeout", "1000")]);
    let leader = cluster.leader();
    let (member, port) = ((leader + 1) % 3, cluster.port((leader + 1) % 3));
    let text = format!("slave 127.0.0.1:{port} 127.0.0.1 {port} @ kvstore 127.0.0.1");
    let mut subscriber = cluster.connect(leader);
    subscriber.call(&["PSUBSCRIBE", "[-+]sdown"]);
    // The connections of a new cluster are made anew, so there may be messages before the one that is awaited.
    let mut wait_for = |channel: &str| {
        loop {
            let message = subscriber.read_reply();
            let words = message.as_array();
            let is_about = String::from_utf8_lossy(words[3].as_bytes()).starts_with(&text);
            if is_about && words[2] == Value::bulk(channel) {
                return;
            }
        }
    };
    // It may have been taken for down from the beginning; after it has come back it is not.
    let mut node = cluster.connect(leader);
    let replicas = ["SENTINEL", "REPLICAS", "kvstore"];
    cluster.kill(member);
    let down = "slave,s_down,disconnected";
    let is_down = |nodes: &Value| ports(nodes, down) == [port];
    wait_for_answer(&mut node, &replicas, "a member that is down", is_down);
    cluster.spawn(member);
    wait_for("-sdown");
    let is_up = |nodes: &Value| ports(nodes, down).is_empty();
    wait_for_answer(&mut node, &replicas, "no member that is down", is_up);
    cluster.kill(member);
    wait_for("+sdown");
}

/// A client of the Rust crate, and its connection, which it makes anew after an error.
struct RustClient {
    client: SentinelClient,
    connection: Option<Connection>,
}

impl RustClient {
    fn of(sentinels: &[u16], part: SentinelServerType) -> RustClient {
        let urls = sentinels.iter().map(|port| format!("redis://127.0.0.1:{port}/")).collect();
        let client = SentinelClient::build(urls, "kvstore".to_owned(), None, part);
        RustClient { client: client.expect("valid URLs"), connection: None }
    }

    /// Does something until it succeeds.
    fn until_done(&mut self, what: &str, action: impl Fn(&mut Connection) -> RedisResult<bool>) {
        let mut last = Ok(false);
        let is_done = wait_until(ELECTED_WITHIN, || {
            last = match self.connection.take() {
                Some(connection) => Ok(connection),
                None => self.client.get_connection(),
            }
            .and_then(|mut connection| {
                let done = action(&mut connection)?;
                self.connection = Some(connection);
                Ok(done)
            });
            last == Ok(true)
        });
        assert!(is_done, "{what}: in vain: {last:?}");
    }
}

#[test]
fn the_rust_crate_follows_the_leader_by_a_port_where_role_says_sentinel() {
    let mut cluster = Cluster::prepare(3, &[]);
    let sentinels: Vec<u16> = (0..3).map(|_| lasting_port()).collect();
    for (node, port) in cluster.nodes.iter_mut().zip(&sentinels) {
        node.own.push(("sentinel-port".to_owned(), port.to_string()));
    }
    (0..3).for_each(|at| cluster.spawn(at));
    let mut leader = cluster.leader();
    let role = Resp::connect(sentinels[0]).call(&["ROLE"]);
    assert_eq!(role, Value::Array(vec![Value::bulk("sentinel"), bulks(&["kvstore"])]));
    let mut writer = RustClient::of(&sentinels, SentinelServerType::Master);
    let mut reader = RustClient::of(&sentinels, SentinelServerType::Replica);
    for change in 0..if long_form() { 20 } else { 4 } {
        let key = format!("change:{change}");
        writer.until_done(&key, |connection| connection.set(&key, change).map(|()| true));
        reader.until_done(&key, |it| Ok(it.get::<_, Option<u64>>(&key)? == Some(change)));
        let next = (leader + 1) % 3;
        if change % 2 == 0 {
            assert_eq!(cluster.connect(next).call(&["PROMOTE", "5000"]), Value::ok());
        } else {
            cluster.kill(leader);
            cluster.leader();
            cluster.spawn(leader);
        }
        leader = cluster.leader();
    }
    writer.until_done("the end", |connection| connection.set("end", 1).map(|()| true));
    assert_eq!(cluster.get(leader, "end"), Value::bulk("1"));
}

#[test]
fn a_program_that_writes_on_to_a_leader_of_before_is_sent_away_and_a_person_is_not() {
    let cluster = Cluster::start(3, &[]);
    let leader = cluster.leader();
    let mut person = Text::connect(cluster.port(leader));
    assert_eq!(person.line("SET k 1"), "OK");
    let mut program = cluster.connect(leader);
    assert_eq!(program.call(&["SET", "k", "2"]), Value::ok());
    let next = (leader + 1) % 3;
    assert_eq!(cluster.connect(next).call(&["PROMOTE", "5000"]), Value::ok());
    cluster.leader();
    // It may read on, and what is here already is answered.
    assert_eq!(program.call(&["GET", "k"]), Value::bulk("2"));
    let refusal = format!(
        "READONLY You can't write against a read only replica. The leader is 127.0.0.1:{}",
        cluster.port(next)
    );
    program.send_raw(b"SET k 3\r\nGET k\r\n");
    assert_eq!(program.read_reply(), Value::error(&refusal));
    assert_eq!(program.read_reply(), Value::bulk("2"));
    assert_eq!(program.read_to_end(), b"");
    for _ in 0..2 {
        assert_eq!(person.line("SET k 4"), refusal);
    }
    // One that has come to a follower knows what it does.
    let mut other = cluster.connect(leader);
    for _ in 0..2 {
        assert_eq!(other.call(&["SET", "k", "5"]), Value::error(&refusal));
    }
}
