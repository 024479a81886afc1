//! Hazard: a node votes twice, a vote counts that should not, or a node without memory has a say.

use crate::common::resp::{Value, encode};
use crate::common::server::connect;
use crate::common::wait_until;
use crate::fixture::{Cluster, ELECTED_WITHIN};
use kvstore::aof::record::Epoch;
use kvstore::cluster::greeting::{Greeting, Welcome};
use kvstore::cluster::message::{Ask, End, Message, Round};
use kvstore::cluster::term::{ClusterId, NodeId};
use kvstore::config::Address;
use kvstore::store::effect::Seq;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

/// A candidate that is played by the test. It claims the longest log there can be.
struct Candidate {
    id: NodeId,
    socket: BufReader<TcpStream>,
}

impl Candidate {
    fn new(byte: u8, port: u16, cluster: ClusterId) -> Candidate {
        let mut socket = BufReader::new(connect(port));
        let id = NodeId([byte; 20]);
        let address = Address { host: "127.0.0.1".to_string(), port: 1 };
        let greeting = Greeting { cluster: Some(cluster), id, address, list: None };
        let mut bytes = Vec::new();
        encode(&greeting.words(), &mut bytes);
        socket.get_mut().write_all(&bytes).expect("a connection");
        Welcome::parse(&line(&mut socket)).expect("an answer to PEER");
        Candidate { id, socket }
    }

    /// Asks for a vote. Returns whether it was given.
    fn asks(&mut self, epoch: Epoch) -> bool {
        let last = End { epoch, seq: Seq(1 << 40) };
        let ask = Message::Ask(Ask { round: Round::Vote, epoch, last, list: None });
        self.socket.get_mut().write_all(&ask.line()).expect("a connection");
        match Message::parse(&line(&mut self.socket)) {
            Some(Message::Give { epoch: given, yes, .. }) if given == epoch => yes,
            other => panic!("{other:?} in answer to ASK"),
        }
    }
}

/// A line without its end.
fn line(socket: &mut BufReader<TcpStream>) -> Vec<u8> {
    let mut line = Vec::new();
    socket.read_until(b'\n', &mut line).expect("an answer");
    line.strip_suffix(b"\r\n").expect("a whole line").to_vec()
}

/// Killed at the moment at which its vote is on the wire, a node has it in its file, and gives no second one.
#[test]
fn a_vote_is_given_once_across_a_restart() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.converge();
    let [at, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    cluster.kill(leader);
    cluster.kill(other);
    let term = cluster.term(at);
    let name = term.cluster.expect("it belongs to a cluster");
    let epoch = Epoch(term.epoch.0 + 10);
    let mut first = Candidate::new(1, cluster.port(at), name);
    // It has promised not to vote for a while.
    assert!(wait_until(ELECTED_WITHIN, || first.asks(epoch)), "it never votes");
    cluster.kill(at);
    let term = cluster.term(at);
    assert_eq!(
        (term.epoch, term.vote),
        (epoch, Some(first.id)),
        "it is in the file before the line"
    );
    cluster.spawn(at);
    let mut first = Candidate::new(1, cluster.port(at), name);
    let mut second = Candidate::new(2, cluster.port(at), name);
    let is_repeated = || {
        assert!(!second.asks(epoch), "two votes in one epoch");
        first.asks(epoch)
    };
    assert!(wait_until(ELECTED_WITHIN, is_repeated), "the vote is not known any more");
    assert!(second.asks(Epoch(epoch.0 + 1)), "each epoch has a vote of its own");
}

/// A node loses its directory and returns under its address. It is another node, which follows and does not vote.
#[test]
fn a_node_that_lost_its_directory_returns_as_a_learner() {
    let mut cluster = Cluster::start(3, &[("ack", "majority")]);
    let leader = cluster.converge();
    let [lost, left] = cluster.others(leader)[..] else { panic!("three nodes") };
    cluster.write(leader, "x", "1");
    cluster.wait_level(left, leader);
    let id = cluster.term(lost).id;
    cluster.kill(lost);
    cluster.empty(lost);
    // The leader is not there either: nothing may be founded with the one member that is left.
    cluster.kill(leader);
    cluster.spawn(lost);
    assert_ne!(cluster.term(lost).id, id);
    cluster.expect_no_leader(&[lost, left], "one member is no majority, and no new cluster");
    cluster.spawn(leader);
    let leader = cluster.converge();
    assert_eq!(cluster.get(leader, "x"), Value::bulk("1"));
    assert_eq!(cluster.info(leader, "kvstore_cluster_members"), "3");
    cluster.wait_whole(lost);
    // It has all the data by now, and its vote still does not count.
    let member = (0..3).find(|at| *at != leader && *at != lost).expect("three nodes");
    cluster.kill(leader);
    cluster.expect_no_leader(&[lost, member], "a learner does not vote");
    cluster.spawn(leader);
    cluster.leader();
}

/// The old leader's directory is gone. It returns, and the others lose nothing, although they wait longer than it before
/// they ask for votes.
#[test]
fn a_leader_that_returns_empty_wipes_no_other_node() {
    for ack in ["leader", "majority"] {
        let mut cluster = Cluster::prepare(3, &[("ack", ack)]);
        for node in &mut cluster.nodes[1..] {
            node.own = vec![("replica-priority".to_owned(), "0".to_owned())];
        }
        (0..3).for_each(|at| cluster.spawn(at));
        let old = cluster.converge();
        (0..50).for_each(|n| cluster.write(old, &format!("key:{n}"), "value"));
        cluster.converge();
        cluster.kill(old);
        cluster.empty(old);
        cluster.spawn(old);
        let leader = cluster.converge();
        assert_ne!(leader, old);
        for at in 0..3 {
            let count = cluster.connect(at).call(&["EXISTS", "key:0", "key:49"]);
            assert_eq!(count, Value::Int(2), "{ack}: node {at}");
        }
    }
}

/// Two of three addresses lead to one node. Its vote would count twice, so it counts for nothing, until the third node is
/// there.
#[test]
fn two_addresses_of_one_node_make_no_majority() {
    let mut cluster = Cluster::prepare(3, &[]);
    for at in 0..2 {
        // Whatever is sent to the third node comes to the second one.
        for from in cluster.others(2) {
            let port = cluster.port(1);
            cluster.path(from, 2).messages.set_target(port);
            cluster.path(from, 2).link.set_target(port);
        }
        cluster.spawn(at);
    }
    cluster.expect_no_leader(&[0, 1], "one node would vote for two");
    let says = || cluster.log(0).contains("none of them counts");
    assert!(wait_until(ELECTED_WITHIN, says), "{}", cluster.log(0));
    for from in 0..2 {
        let port = cluster.port(2);
        cluster.path(from, 2).messages.set_target(port);
        cluster.path(from, 2).link.set_target(port);
        cluster.path(from, 2).messages.cut();
    }
    cluster.spawn(2);
    cluster.leader();
}

/// A node of another cluster listens at a member's address. It is refused, and the two never become one.
#[test]
fn an_address_that_another_cluster_uses_now_merges_nothing() {
    let mut one = Cluster::start(3, &[]);
    let other = Cluster::start(3, &[]);
    let (leader, stranger) = (one.converge(), other.converge());
    one.write(leader, "x", "one");
    other.write(stranger, "x", "other");
    let gone = one.others(leader)[0];
    one.kill(gone);
    let port = other.port(stranger);
    for from in one.others(gone) {
        one.path(from, gone).messages.set_target(port);
        one.path(from, gone).link.set_target(port);
    }
    let says = || one.log(leader).contains("this node belongs to cluster");
    assert!(wait_until(ELECTED_WITHIN, says), "{}", one.log(leader));
    // The members that are left still elect: and the stranger's vote does not help them.
    let leader = one.leader();
    let last = one.others(leader).into_iter().find(|at| *at != gone).expect("three nodes");
    one.kill(leader);
    one.expect_no_leader(&[last], "a stranger's vote");
    assert_eq!(other.get(other.leader(), "x"), Value::bulk("other"));
    one.spawn(leader);
    let leader = one.leader();
    assert_eq!(one.get(leader, "x"), Value::bulk("one"));
}
