//! Three nodes and their leader: at the first start, after its death, its pause, its isolation, its end.

use crate::common::resp::Value;
use crate::fixture::Cluster;

#[test]
fn three_nodes_elect_a_leader_and_another_one_when_it_dies() {
    for ack in ["leader", "majority"] {
        let mut cluster = Cluster::start(3, &[("ack", ack)]);
        let first = cluster.leader();
        assert_eq!(cluster.set(first, "name", "Ada"), Value::ok());
        cluster.converge();
        let follower = (first + 1) % 3;
        let refused = cluster.set(follower, "name", "Bob");
        let port = cluster.port(first);
        assert!(
            format!("{refused:?}").contains(&format!("The leader is 127.0.0.1:{port}")),
            "{refused:?}"
        );
        cluster.kill(first);
        let second = cluster.leader();
        assert_ne!(second, first);
        assert_eq!(cluster.get(second, "name"), Value::bulk("Ada"));
        assert_eq!(cluster.set(second, "name", "Bob"), Value::ok());
        cluster.spawn(first);
        cluster.converge();
        assert_eq!(cluster.get(second, "name"), Value::bulk("Bob"));
    }
}

#[test]
fn a_leader_that_stood_still_or_was_isolated_gives_way() {
    let cluster = Cluster::start(3, &[]);
    for round in 0..2 {
        let first = cluster.leader();
        let others: Vec<usize> = (0..3).filter(|at| *at != first).collect();
        if round == 0 {
            cluster.signal(first, "STOP");
        } else {
            cluster.isolate(first, true);
        }
        let second = cluster.leader_among(&others);
        assert_eq!(cluster.set(second, "round", &round.to_string()), Value::ok());
        if round == 0 {
            cluster.signal(first, "CONT");
        } else {
            cluster.isolate(first, false);
            cluster.heal();
        }
        cluster.converge();
        let leader = cluster.leader();
        assert_eq!(cluster.get(leader, "round"), Value::bulk(round.to_string()));
    }
}
