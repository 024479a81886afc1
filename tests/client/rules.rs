//! The rules for repeating: each error, each byte at which an answer is cut off.

use super::scripted::{Act, Scripted, bytes_of};
use super::{builder, client};
use crate::common::resp::{Resp, Value as Reply};
use crate::common::server::{Server, lasting_port};
use crate::common::{DEADLINE, wait_until};
use kvstore::client::{Client, Error, HARMLESS, READS, Reads, Value};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::Duration;

const READ: [&str; 2] = ["GET", "k"];
const WRITE: [&str; 3] = ["SET", "k", "v"];

/// How often the script's server received the command, and the result, for a read, a write, and a write that may be
/// repeated.
fn tries(first: &Act) -> [(usize, Result<Value, Error>); 3] {
    let run = |call: &dyn Fn(&Client) -> Result<Value, Error>| {
        let server = Scripted::answering(vec![first.clone()]);
        let result = call(&client(&[server.port]));
        (server.received().len(), result)
    };
    [
        run(&|client| client.command(READ).query()),
        run(&|client| client.command(WRITE).query()),
        run(&|client| client.command(WRITE).may_repeat().query()),
    ]
}

fn ok() -> Result<Value, Error> {
    Ok(Value::Text("OK".to_owned()))
}

/// The rule for what may have been executed.
fn assert_in_doubt(first: &Act) {
    let [read, write, allowed] = tries(first);
    assert_eq!(read, (2, ok()), "a read after {first:?}");
    assert!(matches!(write, (1, Err(Error::InDoubt(_)))), "a write after {first:?}: {write:?}");
    assert_eq!(allowed, (2, ok()), "a write that may be repeated after {first:?}");
}

#[test]
fn an_answer_cut_at_each_byte() {
    for answer in [&b"+OK\r\n"[..], b"$5\r\nva\r\nl\r\n", b"-MISCONF no\r\n", b"*2\r\n:1\r\n:2\r\n"]
    {
        for cut in 0..answer.len() {
            assert_in_doubt(&Act::Cut(answer[..cut].to_vec()));
        }
    }
}

#[test]
fn an_answer_that_is_no_resp() {
    assert_in_doubt(&Act::Reply(b"HTTP/1.1 200 OK\r\n".to_vec()));
}

#[test]
fn each_error() {
    let refusal = |code: &str| format!("{code} for a reason");
    let act = |code: &str| Act::Reply(bytes_of(&Reply::error(&refusal(code))));
    for code in ["READONLY", "LOADING", "MASTERDOWN"] {
        assert_eq!(tries(&act(code)), [(2, ok()), (2, ok()), (2, ok())], "{code}");
    }
    for code in ["INDOUBT", "MISCONF"] {
        assert_in_doubt(&act(code));
    }
    let refused = |code| (1, Err(Error::Refused(refusal(code))));
    assert_eq!(tries(&act("STALE")), [(2, ok()), refused("STALE"), refused("STALE")]);
    for code in ["ERR", "WRONGTYPE", "OOM", "NOREPLICAS"] {
        let refused = || refused(code);
        assert_eq!(tries(&act(code)), [refused(), refused(), refused()], "{code}");
    }
}

/// What keeps coming ends with the deadline, and says what it was.
#[test]
fn repeating_ends_with_the_deadline() {
    for answer in ["LOADING data", "READONLY You can't"] {
        let act = Act::Reply(bytes_of(&Reply::error(answer)));
        let server = Scripted::start(move |_, _| act.clone());
        let brief = builder(&[server.port]).deadline(Duration::from_millis(500));
        let result = brief.build().expect("valid").get::<Option<String>>("k");
        assert_eq!(result, Err(Error::Refused(answer.to_owned())));
        assert!(server.received().len() > 1, "it was tried again");
    }
}

/// An attempt that the deadline cuts short tells less than the answer before it, unless it may have been executed.
#[test]
fn the_last_answer_is_the_result() {
    let silent_from_the_third = || {
        let loading = Act::Reply(bytes_of(&Reply::error("LOADING data")));
        let script = move |at, _: &str| if at < 2 { loading.clone() } else { Act::Silence };
        let server = Scripted::start(script);
        let brief = builder(&[server.port]).deadline(Duration::from_millis(500));
        (brief.build().expect("valid"), server)
    };
    let (client, server) = silent_from_the_third();
    let read = client.get::<Option<String>>("k");
    assert_eq!(read, Err(Error::Refused("LOADING data".to_owned())));
    assert_eq!(server.received().len(), 3);
    let (client, server) = silent_from_the_third();
    let write = client.command(["INCR", "k"]).may_repeat().query::<i64>();
    assert!(matches!(write, Err(Error::InDoubt(_))), "{write:?}");
    assert_eq!(server.received().len(), 3);
}

#[test]
fn a_server_that_says_nothing() {
    let server = Scripted::start(|_, _| Act::Silence);
    let brief = builder(&[server.port]).deadline(Duration::from_millis(500));
    let client = brief.build().expect("valid");
    let read = client.get::<Option<String>>("k");
    assert!(matches!(read, Err(Error::Unavailable(_))), "{read:?}");
    assert!(matches!(client.incr("k"), Err(Error::InDoubt(_))));
    // In doubt once is in doubt at the end, also if it could not be sent again.
    let allowed = client.command(["INCR", "k"]).may_repeat().query::<i64>();
    assert!(matches!(allowed, Err(Error::InDoubt(_))), "{allowed:?}");
    assert_eq!(client.figures().idle, 0, "a connection with an outstanding reply is closed");
}

/// The write was executed or not before the server began to load: its last answer does not tell.
#[test]
fn in_doubt_once_is_in_doubt_at_the_end() {
    let loading = Act::Reply(bytes_of(&Reply::error("LOADING data")));
    let server = Scripted::start(move |at, _| match at {
        0 => Act::Cut(vec![]),
        _ => loading.clone(),
    });
    let brief = builder(&[server.port]).deadline(Duration::from_millis(500));
    let client = brief.build().expect("valid");
    let result = client.command(["INCR", "k"]).may_repeat().query::<i64>();
    assert!(matches!(result, Err(Error::InDoubt(_))), "{result:?}");
    assert!(server.received().len() > 1, "it was tried again");
}

/// The write is answered and its token is not. The token would be taken for the answer to the next command.
#[test]
fn a_connection_with_an_outstanding_reply_is_closed() {
    let server = Scripted::start(|_, line| match line {
        "LASTSEQ" => Act::Silence,
        _ => Act::Reply(b"+OK\r\n".to_vec()),
    });
    let brief = builder(&[server.port]).deadline(Duration::from_millis(500));
    let client = brief.build().expect("valid");
    let mut session = client.session(Reads::Leader);
    assert_eq!(session.set("k", "v"), Ok(()));
    assert_eq!((session.token(), client.figures().idle), (None, 0));
}

/// One connection's failure ends those that are idle: another write over one of them would be in doubt as well.
#[test]
fn a_failure_ends_the_idle_connections() {
    let mut server = Server::start(&[]);
    let brief = builder(&[server.port()]).deadline(Duration::from_secs(2));
    let client = brief.build().expect("valid");
    thread::scope(|scope| {
        let sleeping = scope.spawn(|| client.command(["DEBUG", "SLEEP", "0.2"]).query::<()>());
        assert!(wait_until(DEADLINE, || client.figures().in_use == 1));
        assert_eq!(client.set("k", "v"), Ok(()));
        assert_eq!(sleeping.join().expect("no panic"), Ok(()));
    });
    assert_eq!(client.figures().idle, 2);
    server.kill();
    let in_doubt = client.incr("n");
    assert!(matches!(in_doubt, Err(Error::InDoubt(_))), "{in_doubt:?}");
    assert_eq!(client.figures().idle, 0);
}

#[test]
fn what_was_not_sent_is_sent_when_a_node_is_there() {
    let port = lasting_port();
    let brief = builder(&[port]).deadline(Duration::from_millis(100));
    let refused = brief.build().expect("valid").set("k", "v");
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    let written = thread::scope(|scope| {
        let client = client(&[port]);
        let writing = scope.spawn(move || client.set("k", "v"));
        let dir = std::sync::Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let _server = Server::start_in(&dir, &[("port", &port.to_string())]);
        writing.join().expect("no panic")
    });
    assert_eq!(written, Ok(()));
}

/// READONLY names the leader, which the client did not know.
#[test]
fn a_refused_write_goes_to_the_named_leader() {
    let leader = Scripted::answering(vec![]);
    let refusal = format!("READONLY no. The leader is 127.0.0.1:{}", leader.port);
    let former = Scripted::answering(vec![Act::Reply(bytes_of(&Reply::error(&refusal)))]);
    let client = client(&[former.port]);
    assert_eq!(client.set("k", "v"), Ok(()));
    assert_eq!(client.leader(), Some(format!("127.0.0.1:{}", leader.port)));
    assert_eq!((former.received().len(), leader.received()), (1, vec!["SET k v".to_owned()]));
}

/// Each answer is `$1 <key>` for a GET, and a number for an INCR.
fn answer(line: &str) -> Vec<u8> {
    match line.split_once(' ') {
        Some(("GET", key)) => bytes_of(&Reply::bulk(key)),
        _ => bytes_of(&Reply::Int(1)),
    }
}

#[test]
fn a_pipeline_keeps_what_was_answered() {
    let lines = ["GET a", "INCR b", "GET c", "INCR d"];
    let all: Vec<u8> = lines.iter().flat_map(|line| answer(line)).collect();
    for cut in 0..all.len() {
        let head = all[..cut].to_vec();
        // The first connection gets all four commands in one packet, and is cut after so many bytes.
        let server = Scripted::start(move |at, line| match at {
            0..=2 => Act::Reply(vec![]),
            3 => Act::Cut(head.clone()),
            _ => Act::Reply(answer(line)),
        });
        let client = client(&[server.port]);
        let pipeline = client.pipeline().get("a").incr("b").get("c").incr("d");
        let results = pipeline.run_each().expect("valid commands");
        let answered = |upto: usize| {
            lines[..=upto].iter().map(|line| answer(line).len()).sum::<usize>() <= cut
        };
        for (at, line) in lines.iter().enumerate() {
            let times = server.received().iter().filter(|received| received == line).count();
            let is_read = line.starts_with("GET");
            match &results[at] {
                Ok(_) if is_read => assert_eq!(times, if answered(at) { 1 } else { 2 }, "{line}"),
                Ok(_) => assert!(answered(at) && times == 1, "{line} cut at {cut}"),
                Err(Error::InDoubt(_)) => {
                    assert!(!is_read && !answered(at) && times == 1, "{line}")
                }
                Err(other) => panic!("{line} cut at {cut}: {other}"),
            }
        }
    }
}

#[test]
fn a_pipeline_of_many_commands() {
    let server = Server::start(&[]);
    let client = client(&[server.port()]);
    let mut pipeline = client.pipeline();
    for n in 0..5000 {
        pipeline = pipeline.set(format!("key:{n}"), n.to_string()).get(format!("key:{n}"));
    }
    let replies: Vec<String> = pipeline.run().expect("all answered");
    let expected = (0..5000).flat_map(|n| ["OK".to_owned(), n.to_string()]);
    assert!(replies.into_iter().eq(expected));
    let wrong = client.pipeline().set("text", "abc").incr("text").set("after", "1");
    let results = wrong.run_each().expect("valid commands");
    assert!(matches!(results[..], [Ok(_), Err(Error::Refused(_)), Ok(_)]), "{results:?}");
    assert_eq!(client.get("after"), Ok(Some("1".to_owned())));
}

#[test]
fn passwords() {
    let server = Server::start(&[("requirepass", "secret")]);
    let with =
        |password: &str| builder(&[server.port()]).password(password).build().expect("valid");
    assert_eq!(with("secret").set("k", "v"), Ok(()));
    let refused = with("guess").set("k", "v");
    assert!(matches!(&refused, Err(Error::Refused(text)) if text.starts_with("WRONGPASS")));
    let refused = client(&[server.port()]).set("k", "v");
    assert!(matches!(&refused, Err(Error::Refused(text)) if text.starts_with("NOAUTH")));
}

/// The list of commands that are repeated is the server's own.
#[test]
fn only_reads_are_taken_for_reads() {
    let server = Server::start(&[]);
    let table = Resp::connect(server.port()).call(&["COMMAND"]);
    let (mut reads, mut writes) = (BTreeSet::new(), BTreeSet::new());
    for command in table.as_array() {
        let fields = command.as_array();
        let name = String::from_utf8_lossy(fields[0].as_bytes()).to_ascii_uppercase();
        let has =
            |flag: &str| fields[2].as_array().iter().any(|it| it.as_bytes() == flag.as_bytes());
        if has("readonly") {
            reads.insert(name);
        } else if has("write") {
            writes.insert(name);
        }
    }
    assert_eq!(reads, READS.iter().map(|name| (*name).to_owned()).collect());
    assert!(HARMLESS.iter().all(|name| !writes.contains(*name)));
}

/// A connection that the server closed while it was idle is replaced, and the port is one where another may listen.
#[test]
fn a_restart_of_the_server() {
    let dir = std::sync::Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let port = lasting_port();
    let mut server = Server::start_in(&dir, &[("port", &port.to_string())]);
    let client = client(&[port]);
    assert_eq!(client.set("k", "v"), Ok(()));
    server.kill();
    drop(server);
    let is_free = || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    assert!(wait_until(DEADLINE, is_free));
    let _server = Server::start_in(&dir, &[("port", &port.to_string())]);
    assert_eq!(client.get("k"), Ok(Some("v".to_owned())), "a read is repeated");
}
