//! A Sentinel's commands to a node, typed by hand.

use crate::cluster::Node;
use crate::common::resp::{Resp, Value, encode};
use crate::common::server::Server;
use crate::common::{DEADLINE, wait_until};

const REWRITTEN: &str = "OK";
const NO_FILE: &str = "ERR The server is running without a config file";

/// Sends, in one packet, the transaction with which a Sentinel gives a node its role. Returns EXEC's answer.
fn reconfigure(connection: &mut Resp, role: [&str; 3]) -> Vec<Value> {
    let kill = |class| vec!["CLIENT", "KILL", "TYPE", class];
    let queue = [role.to_vec(), vec!["CONFIG", "REWRITE"], kill("normal"), kill("pubsub")];
    let mut packet = Vec::new();
    encode(&["MULTI"], &mut packet);
    queue.iter().for_each(|command| encode(command, &mut packet));
    encode(&["EXEC"], &mut packet);
    connection.send_raw(&packet);
    assert_eq!(connection.read_reply(), Value::ok());
    for command in &queue {
        connection.expect_reply_to(command);
        assert_eq!(connection.read_reply(), Value::simple("QUEUED"));
    }
    connection.read_reply().as_array().to_vec()
}

fn assert_done(answers: &[Value], rewritten: &str) {
    assert!(answers[0].as_bytes().starts_with(b"OK"), "the role: {answers:?}");
    assert_eq!(answers[1].as_bytes(), rewritten.as_bytes());
}

fn info(connection: &mut Resp, field: &str) -> String {
    let page = connection.call(&["INFO"]);
    let page = String::from_utf8_lossy(page.as_bytes()).into_owned();
    let value = page.split("\r\n").find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {field} in {page}")).to_string()
}

fn wait_linked(follower: &mut Resp) {
    assert!(wait_until(DEADLINE, || info(follower, "master_link_status") == "up"));
}

#[test]
fn a_transaction_gives_a_role_at_once_and_for_good() {
    let leader = Server::start(&[]);
    let to_leader = format!("replicaof 127.0.0.1 {}", leader.port());
    let mut node = Node::start(&["hz 20".to_string(), to_leader.clone()]);
    let follower = Server::start(&[("replicaof", &format!("127.0.0.1:{}", node.port))]);
    let mut sentinel = Resp::connect(node.port);
    wait_linked(&mut sentinel);
    wait_linked(&mut Resp::connect(follower.port()));
    let run_id = info(&mut sentinel, "run_id");
    assert!(run_id.len() == 40 && run_id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let follower_link = sentinel.call(&["CLIENT", "LIST", "TYPE", "replica"]);

    for _ in 0..2 {
        let mut normal = Resp::connect(node.port);
        assert_eq!(normal.call(&["PING"]), Value::simple("PONG"));
        let mut subscriber = Resp::connect(node.port);
        subscriber.call(&["SUBSCRIBE", "__sentinel__:hello"]);
        let answers = reconfigure(&mut sentinel, ["SLAVEOF", "NO", "ONE"]);
        assert_done(&answers, REWRITTEN);
        assert_eq!(answers[2..], [Value::Int(1), Value::Int(1)], "the two, and not the caller");
        assert_eq!(info(&mut sentinel, "role"), "master");
        assert_eq!((normal.read_to_end(), subscriber.read_to_end()), (vec![], vec![]));
        let file = node.config_file();
        assert!(file.contains("hz 20\n") && !file.contains("replicaof"), "{file}");
    }
    let id = |list: &Value| {
        String::from_utf8_lossy(list.as_bytes()).split(' ').next().map(str::to_string)
    };
    let still = sentinel.call(&["CLIENT", "LIST", "TYPE", "replica"]);
    assert_eq!(id(&still), id(&follower_link), "the follower's link is spared");
    assert_eq!(info(&mut sentinel, "run_id"), run_id);

    let port = leader.port().to_string();
    for _ in 0..2 {
        assert_done(&reconfigure(&mut sentinel, ["SLAVEOF", "127.0.0.1", &port]), REWRITTEN);
        assert_eq!(info(&mut sentinel, "role"), "slave");
        assert_eq!(info(&mut sentinel, "master_host"), "127.0.0.1");
        assert_eq!(info(&mut sentinel, "master_port"), port);
        assert!(node.config_file().lines().any(|line| line == to_leader), "{}", node.config_file());
    }
    node.kill();
    node.start_again();
    assert_eq!(info(&mut Resp::connect(node.port), "role"), "slave");
}

#[test]
fn without_a_configuration_file_only_its_rewriting_fails() {
    let node = Server::start(&[]);
    let mut sentinel = Resp::connect(node.port());
    let answers = reconfigure(&mut sentinel, ["SLAVEOF", "127.0.0.1", "1"]);
    assert_done(&answers, NO_FILE);
    assert_eq!(info(&mut sentinel, "role"), "slave");
    assert_done(&reconfigure(&mut sentinel, ["SLAVEOF", "NO", "ONE"]), NO_FILE);
    assert_eq!(info(&mut sentinel, "role"), "master");
}

/// Sentinels find each other over this channel, on the followers also while their leader is down.
#[test]
fn a_follower_without_its_leader_answers_and_passes_messages_on() {
    let settings = [("replicaof", "127.0.0.1:1"), ("replica-serve-stale-data", "no")];
    let node = Server::start(&settings);
    let mut listening = Resp::connect(node.port());
    listening.call(&["SUBSCRIBE", "__sentinel__:hello"]);
    let mut sentinel = Resp::connect(node.port());
    assert_eq!(sentinel.call(&["PING"]), Value::simple("PONG"));
    assert_eq!(sentinel.call(&["PUBLISH", "__sentinel__:hello", "me"]), Value::Int(1));
    let words = ["message", "__sentinel__:hello", "me"];
    assert_eq!(listening.read_reply(), Value::Array(words.map(Value::bulk).to_vec()));
    assert!(sentinel.call(&["GET", "k"]).as_bytes().starts_with(b"MASTERDOWN"));
    assert_eq!(info(&mut sentinel, "master_link_status"), "down");
    assert_ne!(info(&mut sentinel, "master_link_down_since_seconds"), "");
}

#[test]
fn followers_are_clients_of_a_class_of_their_own_under_the_address_that_they_announce() {
    let leader = Server::start(&[]);
    let address = format!("127.0.0.1:{}", leader.port());
    let announced = [("replica-announce-ip", "192.0.2.7"), ("replica-announce-port", "7007")];
    let follower = Server::start(&[&[("replicaof", &*address)], &announced[..]].concat());
    let mut to_follower = Resp::connect(follower.port());
    wait_linked(&mut to_follower);
    let mut connection = Resp::connect(leader.port());
    let links = |connection: &mut Resp| info(connection, "kvstore_links_continued");
    assert!(info(&mut connection, "slave0").starts_with("ip=192.0.2.7,port=7007,state=online,"));

    let list = connection.call(&["CLIENT", "LIST", "TYPE", "slave"]);
    assert!(String::from_utf8_lossy(list.as_bytes()).contains(" flags=S "), "{list:?}");
    assert_eq!(connection.call(&["CLIENT", "KILL", "TYPE", "normal"]), Value::Int(0));
    assert_eq!(links(&mut connection), "1", "replication goes on");
    wait_linked(&mut to_follower);
    // It comes back by itself each time, whichever side has cut the link.
    assert_eq!(connection.call(&["CLIENT", "KILL", "TYPE", "replica"]), Value::Int(1));
    assert!(wait_until(DEADLINE, || links(&mut connection) == "2"));
    wait_linked(&mut to_follower);
    assert_eq!(to_follower.call(&["CLIENT", "KILL", "TYPE", "master"]), Value::Int(1));
    assert!(wait_until(DEADLINE, || links(&mut connection) == "3"));
    assert_eq!(connection.call(&["CLIENT", "KILL", "TYPE", "master"]), Value::Int(0));
}
