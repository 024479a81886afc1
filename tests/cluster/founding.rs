//! Hazard: a cluster begins with directories that are not empty: data is given up, or two databases become one.

use crate::common::resp::{Resp, Value};
use crate::common::server::Server;
use crate::common::wait_until;
use crate::fixture::{Cluster, ELECTED_WITHIN};

/// Has a server without a cluster write into a node's directory.
fn bring_data(cluster: &Cluster, at: usize) {
    let server = Server::start_in(&cluster.nodes[at].dir, &[]);
    let mut client = Resp::connect(server.port());
    for n in 0..20 {
        assert_eq!(client.call(&["SET", &format!("key:{n}"), &at.to_string()]), Value::ok());
    }
    assert!(server.stop().success());
}

#[test]
fn the_data_of_one_directory_is_the_clusters() {
    let mut cluster = Cluster::prepare(3, &[]);
    bring_data(&cluster, 1);
    // The nodes without data ask for votes first.
    cluster.nodes[1].own = vec![("replica-priority".to_owned(), "0".to_owned())];
    (0..3).for_each(|at| cluster.spawn(at));
    let leader = cluster.converge();
    assert_eq!(leader, 1, "only the node with data can be the first leader");
    for at in 0..3 {
        assert_eq!(cluster.get(at, "key:19"), Value::bulk("1"), "node {at}");
    }
}

#[test]
fn two_directories_with_data_found_no_cluster_and_say_so() {
    let mut cluster = Cluster::prepare(3, &[]);
    bring_data(&cluster, 0);
    bring_data(&cluster, 1);
    (0..3).for_each(|at| cluster.spawn(at));
    cluster.expect_no_leader(&[0, 1, 2], "one of two databases would be lost");
    let other = format!("this node has data, and 127.0.0.1:{} has, too", cluster.port(1));
    let says = || cluster.log(0).contains(&other);
    assert!(wait_until(ELECTED_WITHIN, says), "{}", cluster.log(0));
    for at in [0, 1] {
        assert_eq!(cluster.get(at, "key:19"), Value::bulk(at.to_string()), "nothing is given up");
    }
    // The way out that it names.
    cluster.kill(1);
    cluster.empty(1);
    cluster.spawn(1);
    let leader = cluster.converge();
    assert_eq!(cluster.get(leader, "key:19"), Value::bulk("0"));
}
