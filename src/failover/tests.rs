//! Two nodes and their connections, over real sockets; and one node against what a broken or hostile other one sends.

mod fixture;

use crate::aof::record::Epoch;
use crate::cluster::greeting::{Greeting, LINE_LEN_MAX, Welcome};
use crate::cluster::message::{Ask, End, Input, Message, Round};
use crate::cluster::term::{ClusterId, Memory};
use crate::replication::dial;
use fixture::*;
use std::io::Write;
use std::net::Shutdown as Half;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

#[test]
fn questions_take_one_connection_and_answers_come_back_on_it() {
    let (a, b) = pair();
    let ask = Message::Ask(Ask {
        round: Round::Pre,
        epoch: Epoch(1),
        last: End::default(),
        list: Some(7),
    });
    let give = Message::Give {
        round: Round::Pre,
        epoch: Epoch(1),
        yes: true,
        own: Epoch(0),
        memory: Memory::Whole,
    };
    a.peers.send(b.id, ask);
    assert_eq!(b.next(), Input::Line(a.id, ask));
    b.peers.send(a.id, give);
    assert_eq!(a.next(), Input::Line(b.id, give));
    b.peers.broadcast(beat(1));
    assert_eq!(a.next(), Input::Line(b.id, beat(1)));
    a.peers.send(b.id, heard(1));
    assert_eq!(b.next(), Input::Line(a.id, heard(1)));
    // Nothing goes to a node that is not there, or to oneself.
    a.peers.send(id(9), beat(2));
    a.peers.send(a.id, beat(2));
    assert_eq!(a.peers.address_of(b.id), Some(b.address.clone()));
    assert_eq!(a.peers.address_of(id(9)), None);
    let view = &a.peers.list()[..];
    assert!(
        view.len() == 1 && view[0].id == Some(b.id) && view[0].is_accepted && view[0].dropped == 0
    );
    assert_eq!(a.peers.heard_of(), []);
}

#[test]
fn a_connection_that_was_cut_comes_back() {
    let (a, b) = pair();
    for round in 1..=3 {
        a.peers.all_dialled()[0].cut();
        // It waits for the next connection.
        a.peers.broadcast(beat(round));
        assert_eq!(b.next(), Input::Line(a.id, beat(round)));
    }
}

#[test]
fn a_line_without_an_answer_means_that_the_connection_is_dead() {
    let (own, (listener, other)) = (listen(), listen());
    let node = Node::start(1, None, own, &[other]);
    let welcome = Welcome { cluster: None, id: id(2) }.line();
    for round in 1..=2 {
        let mut silent = play(&listener, &welcome);
        wait_until("the connection", || node.is_connected());
        node.peers.broadcast(beat(round));
        assert_eq!(Message::parse(line(&mut silent).as_bytes()), Some(beat(round)));
        assert!(has_ended(&mut silent));
    }
}

#[test]
fn a_node_that_reads_nothing_holds_up_no_other_thread() {
    let (own, (listener, other)) = (listen(), listen());
    let node = Node::start(1, None, own, std::slice::from_ref(&other));
    // It takes the connection and stands still, so the lines wait and the oldest are dropped.
    let (_stands_still, _) = listener.accept().expect("a connection");
    (0..10_000).for_each(|round| node.peers.broadcast(beat(round)));
    assert!(node.peers.list()[0].dropped >= 9_000);
    // The same the other way: the kernel's buffers fill up, then it is cut off.
    let socket = node.greet(None, 3, &other);
    wait_until("it is cut off", || {
        node.peers.send(id(3), heard(1));
        let mut is_known = false;
        for _ in 0..10_000 {
            node.peers.send(id(3), heard(1));
            is_known = node.peers.address_of(id(3)).is_some();
        }
        !is_known
    });
    drop(socket);
}

#[test]
fn a_node_that_answers_wrongly_is_no_peer() {
    let (cluster, other) = (Some(ClusterId(1)), Some(ClusterId(2)));
    let good = Welcome { cluster, id: id(2) }.line();
    let mut flipped = good.clone();
    flipped[9] ^= 1;
    let version =
        crate::aof::sealed::sealed(format!("PEER {} {} 2", ClusterId(1), id(2)).as_bytes(), 0);
    let wrong: [&[u8]; 7] = [
        &flipped,
        &version,
        &Welcome { cluster: other, id: id(2) }.line(),
        b"-NOAUTH no\r\n",
        &[b'x'; LINE_LEN_MAX + 1],
        &[&good[..good.len() - 2], b"\n"].concat(),
        // The last, since a node that has found itself does not dial again soon.
        &Welcome { cluster, id: id(1) }.line(),
    ];
    let (own, (listener, address)) = (listen(), listen());
    let node = Node::start(1, cluster, own, &[address]);
    for answer in wrong {
        let mut socket = play(&listener, answer);
        assert!(has_ended(&mut socket), "{}", String::from_utf8_lossy(answer));
        assert!(!node.is_connected() && node.peers.list()[0].id.is_none());
    }
}

#[test]
fn a_node_that_greets_wrongly_is_refused_in_words() {
    let own = listen();
    let node = Node::start(1, Some(ClusterId(1)), own, &[]);
    let (_listener, address) = listen();
    let greeting = |cluster: u64, number| {
        let cluster = Some(ClusterId(cluster));
        Greeting { cluster, id: id(number), address: address.clone(), list: None }.words()
    };
    let refusal = |words: Vec<Vec<u8>>| {
        let mut socket = node.dial();
        dial::send(socket.get_ref(), &words).expect("to send");
        let line = line(&mut socket);
        assert!(has_ended(&mut socket));
        line
    };
    assert!(refusal(greeting(2, 2)).contains("this node belongs to cluster 0000000000000001"));
    let mut flipped = greeting(1, 2);
    flipped[2][0] ^= 1;
    assert!(refusal(flipped).contains("see HELP PEER"));
    let itself = Welcome { cluster: Some(ClusterId(1)), id: id(1) }.line();
    assert_eq!(
        refusal(greeting(1, 1)).as_bytes(),
        itself.trim_ascii_end(),
        "it finds out by the id"
    );
    assert_eq!(node.peers.heard_of(), []);
    node.greet(Some(ClusterId(1)), 2, &address);
    node.greet(None, 2, &address);
}

#[test]
fn lines_that_are_no_questions_end_the_connection() {
    let (own, (_listener, other)) = (listen(), listen());
    let node = Node::start(1, None, own, &[]);
    let good = beat(1).line();
    let mut flipped = good.clone();
    flipped[6] ^= 1;
    let mut bad = vec![
        flipped,
        heard(1).line(),
        b"\r\n".to_vec(),
        vec![b'x'; LINE_LEN_MAX + 1],
        [vec![b'x'; LINE_LEN_MAX], b"\r\n".to_vec()].concat(),
        [&good[..good.len() - 2], b"\n"].concat(),
    ];
    bad.extend((1..good.len() - 2).map(|len| [&good[..len], b"\r\n"].concat()));
    for line in bad {
        let mut socket = node.greet(None, 2, &other);
        let _ = socket.get_ref().write_all(&line);
        assert!(has_ended(&mut socket), "{}", String::from_utf8_lossy(&line));
    }
    let half = node.greet(None, 2, &other);
    half.get_ref().write_all(&good[..5]).expect("to send");
    let _ = half.get_ref().shutdown(Half::Write);
    let socket = node.greet(None, 2, &other);
    socket.get_ref().write_all(&beat(2).line()).expect("to send");
    assert_eq!(node.next(), Input::Line(id(2), beat(2)), "nothing came before it");
}

#[test]
fn answers_go_to_the_newest_connection_of_a_node() {
    let (own, (_listener, other)) = (listen(), listen());
    let node = Node::start(1, None, own, &[]);
    let mut old = node.greet(None, 2, &other);
    let mut new = node.greet(None, 2, &other);
    assert!(has_ended(&mut old));
    node.peers.send(id(2), heard(1));
    assert_eq!(Message::parse(line(&mut new).as_bytes()), Some(heard(1)));
}

#[test]
fn two_addresses_with_one_id_count_for_nothing() {
    let (own, one, two) = (listen(), listen(), listen());
    let node = Node::start(1, None, own, &[one.1.clone(), two.1.clone()]);
    let welcome = Welcome { cluster: None, id: id(2) }.line();
    let mut first = play(&one.0, &welcome);
    let second = play(&two.0, &welcome);
    wait_until("both", || node.is_connected());
    node.peers.broadcast(beat(1));
    node.peers.send(id(2), beat(2));
    // What a connection has sent has been read when it has ended.
    let asking = node.greet(None, 2, &one.1);
    asking.get_ref().write_all(&beat(3).line()).expect("to send");
    asking.get_ref().shutdown(Half::Write).expect("to end");
    wait_until("it has left", || node.peers.list().iter().all(|peer| !peer.is_accepted));
    first.get_ref().write_all(&heard(4).line()).expect("to send");
    first.get_ref().shutdown(Half::Write).expect("to end");
    assert!(has_ended(&mut first), "no question came");
    let mut first = play(&one.0, &welcome);
    wait_until("both again", || node.is_connected());
    // The second one leaves for good.
    drop(two);
    let _ = second.get_ref().shutdown(Half::Both);
    wait_until("only one", || !node.is_connected());
    node.peers.broadcast(beat(5));
    assert_eq!(
        Message::parse(line(&mut first).as_bytes()),
        Some(beat(5)),
        "nothing came before it"
    );
    first.get_ref().write_all(&heard(5).line()).expect("to send");
    assert_eq!(node.next(), Input::Line(id(2), heard(5)), "nothing came before it");
}

#[test]
fn a_node_without_a_cluster_takes_heartbeats_of_the_listed_nodes_cluster_only() {
    let (own, one, two) = (listen(), listen(), listen());
    let node = Node::start(1, None, own, &[one.1.clone(), two.1.clone()]);
    let (a, b) = (Some(ClusterId(1)), Some(ClusterId(2)));
    let _first = play(&one.0, &Welcome { cluster: a, id: id(2) }.line());
    wait_until("the first answer", || node.peers.adoptable() == a);
    let stranger = node.greet(b, 4, &two.1);
    stranger.get_ref().write_all(&beat(1).line()).expect("to send");
    // It has been read when its connection ends.
    stranger.get_ref().shutdown(Half::Write).expect("to end");
    wait_until("the stranger has left", || node.peers.address_of(id(4)).is_none());
    let member = node.greet(a, 2, &one.1);
    member.get_ref().write_all(&beat(2).line()).expect("to send");
    assert_eq!(node.next(), Input::Line(id(2), beat(2)), "nothing came before it");
    let _second = play(&two.0, &Welcome { cluster: b, id: id(3) }.line());
    wait_until("a contradiction", || node.peers.adoptable().is_none());
}

#[test]
fn a_new_cluster_is_named_on_new_connections_and_another_one_parts() {
    let (a, b) = pair();
    a.peers.set_cluster(Some(ClusterId(1)));
    wait_until("b hears of it", || b.peers.adoptable() == Some(ClusterId(1)));
    b.peers.set_cluster(Some(ClusterId(1)));
    wait_until("both", || a.is_connected() && b.is_connected());
    a.peers.broadcast(beat(1));
    assert_eq!(b.next(), Input::Line(a.id, beat(1)));
    b.peers.set_cluster(Some(ClusterId(2)));
    wait_until("they part", || !a.is_connected() && !b.is_connected());
    assert_eq!(a.peers.answered_within(Duration::from_secs(3600)), [b.id]);
    assert_eq!(a.peers.answered_within(Duration::ZERO), []);
    assert!(a.peers.heard_of().is_empty() && b.peers.heard_of().is_empty());
}

#[test]
fn an_unlisted_node_is_heard_of_until_it_is_dialled() {
    let (own, (listener, other)) = (listen(), listen());
    let node = Node::start(1, None, own, &[]);
    let _socket = node.greet(None, 2, &other);
    wait_until("it is heard of", || node.peers.heard_of() == [other.clone()]);
    assert_eq!(node.peers.address_of(id(2)), Some(other.clone()));
    node.peers.set_addresses(std::slice::from_ref(&other));
    let mut dialled = play(&listener, &Welcome { cluster: Some(ClusterId(5)), id: id(2) }.line());
    wait_until("it is dialled", || node.peers.list().len() == 1 && node.is_connected());
    assert!(node.peers.heard_of().is_empty());
    assert_eq!(node.peers.adoptable(), None, "it is not listed");
    node.peers.set_addresses(std::slice::from_ref(&node.address));
    assert!(has_ended(&mut dialled) && node.peers.list().is_empty());
}

#[test]
fn a_shutdown_does_not_wait_for_a_node_that_is_silent() {
    let (own, (listener, other)) = (listen(), listen());
    let node = Node::start(1, None, own, &[other]);
    let silent = play(&listener, &Welcome { cluster: None, id: id(2) }.line());
    wait_until("the connection", || node.is_connected());
    let is_over = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&is_over);
    let dropping = thread::spawn(move || {
        drop(node);
        ends.store(true, SeqCst);
    });
    wait_until("the end", || is_over.load(SeqCst));
    dropping.join().expect("no panic");
    drop(silent);
}
