//! The hazard: on a bad day `kvstore cluster` says other things than the nodes are, or that all is well.

use crate::common::server::Server;
use crate::common::wait_until;
use crate::fixture::{Cluster, ELECTED_WITHIN};

/// Runs the tool on a node; its exit code and what it printed.
fn tool(port: u16) -> (i32, String) {
    let node = format!("127.0.0.1:{port}");
    let output = Server::command().args(["cluster", &node]).output().expect("the binary runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().expect("an exit code"), String::from_utf8_lossy(&text).into_owned())
}

/// Runs it until it says what is expected.
fn says(port: u16, code: i32, what: &[String]) {
    let mut last = (0, String::new());
    let came = wait_until(ELECTED_WITHIN, || {
        last = tool(port);
        last.0 == code && what.iter().all(|line| last.1.contains(line))
    });
    assert!(came, "expected exit code {code} and {what:?}; last: {last:?}");
}

#[test]
fn the_tool_shows_who_leads_who_is_down_and_who_is_missing() {
    let mut cluster = Cluster::start(3, &[("ack", "majority")]);
    let leader = cluster.leader();
    cluster.converge();
    let line = |at: usize, rest: &str| format!("127.0.0.1:{}  {rest}", cluster.port(at));
    let (second, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let all = "3 of 3 count, 2 are needed: a majority is there; missing: none\n";
    let mut lines = vec![line(leader, "leader    epoch "), all.to_owned()];
    lines.extend([second, third].map(|at| line(at, "follower  epoch ")));
    for at in 0..3 {
        says(cluster.port(at), 0, &lines);
    }
    let (_, page) = tool(cluster.port(second));
    let epoch = page.split("  epoch ").nth(1).and_then(|rest| rest.split(' ').next());
    assert!(epoch.is_some_and(|epoch| epoch != "0"), "{page}");
    assert_eq!(page.matches("  lag 0  memory whole\n").count(), 3, "{page}");
    let down = line(leader, "down      ");
    let third_down = line(third, "down      ");
    cluster.kill(leader);
    cluster.leader();
    let two = "2 of 3 count, 2 are needed: a majority is there".to_owned();
    says(cluster.port(second), 0, &[down.clone(), two]);
    cluster.kill(third);
    let one = "1 of 3 count, 2 are needed: no majority is there; missing: 127.0.0.1:".to_owned();
    says(cluster.port(second), 1, &[down, third_down, one]);
}

#[test]
fn the_tool_refuses_a_node_without_a_cluster_and_one_that_is_not_there() {
    let server = Server::start(&[]);
    says(server.port(), 1, &["it has no cluster-nodes".to_owned()]);
    let port = server.port();
    drop(server);
    says(port, 1, &[format!("127.0.0.1:{port}: no answer")]);
}
