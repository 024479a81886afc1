//! After a wait, commands see the time of then: a deadline counts from the end of the wait, and keys that
//! expired meanwhile are gone.

use crate::common::resp::{Resp, Value, encode};
use crate::common::server::Server;
use crate::common::{DEADLINE, nodes, wait_until};
use crate::table::{SEE, SEE_NOT, SET, SET_NOT};
use crate::waits::{ALL, Ends, HeldLocks, Wait};
use crate::{call, now_ms};
use kvstore::admin::commands;
use kvstore::commands::Flags;
use kvstore::commands::{Shape, Spec};
use kvstore::engine::{Commands, Run};
use std::thread;

/// Keys of the test live so long, and every wait lasts longer.
const LIFE_MS: i64 = 1500;
/// Far away from that.
const FAR_MS: i64 = 3_600_000;

/// The words of a command of the table, with its keys named after its number.
fn words(template: &str, of: &str, number: usize, dump: &[u8]) -> Vec<Vec<u8>> {
    let name = |word: &str| match word {
        "{d}" => format!("{of}{number}").into_bytes(),
        "{s}" => format!("stays:{of}{number}").into_bytes(),
        "{k}" => format!("key:{number}").into_bytes(),
        "{dump}" => dump.to_vec(),
        _ => word.as_bytes().to_vec(),
    };
    template.split(' ').map(name).collect()
}

/// A command between others that is to see or to set a deadline.
enum Case {
    See(usize),
    Set(usize),
    /// Its answer must satisfy this, given what time it was at least.
    Is(&'static str, fn(&Value, i64) -> bool),
}

fn is(n: i64) -> fn(&Value, i64) -> bool {
    match n {
        0 => |reply, _| *reply == Value::Int(0),
        _ => |reply, _| *reply == Value::Int(1),
    }
}

struct Scene {
    server: Server,
    client: Resp,
    other: Resp,
    dump: Vec<u8>,
    dies_at: i64,
    far: i64,
}

impl Scene {
    /// `client_port` 0 is the server's own.
    fn set_up(server: Server, client_port: u16) -> Scene {
        let mut other = Resp::connect(server.port());
        call(&mut other, "SET template 5");
        let dump = call(&mut other, "DUMP template").as_bytes().to_vec();
        // Else the sweeper could do what is to be done by who comes across an expired key.
        call(&mut other, "DEBUG SET-ACTIVE-EXPIRE 0");
        let began = now_ms();
        let (dies_at, far) = (began + LIFE_MS, began + FAR_MS);
        let mut lines = vec![format!("SET far 5 PXAT {far}"), "SET lies idle".into()];
        for number in 0..SEE.len() {
            lines.push(format!("SET dies:{number} 5 PXAT {dies_at}"));
            lines.push(format!("SET stays:dies:{number} 5"));
            lines.push(format!("SET stays:never:{number} 5"));
        }
        (0..SET.len()).for_each(|number| lines.push(format!("SET key:{number} 5")));
        // After the wait, ten seconds from then are later, though ten from before were not.
        let soon = began + 10_000 + LIFE_MS / 2;
        lines.extend(["gt", "lt"].map(|key| format!("SET {key} 5 PXAT {soon}")));
        (0..200).for_each(|n| lines.push(format!("SET fill:{n} {}", "x".repeat(1000))));
        let mut bytes = Vec::new();
        lines.iter().for_each(|line| encode(&line.split(' ').collect::<Vec<_>>(), &mut bytes));
        other.send_raw(&bytes);
        lines.iter().for_each(|line| assert_eq!(other.read_reply(), Value::ok(), "{line}"));
        let client_port = if client_port == 0 { server.port() } else { client_port };
        let mut client = Resp::connect(client_port);
        // Makes the server's buffer so large that all commands of the test are one batch.
        client.send_raw(&b"*1\r\n$4\r\nPING\r\n".repeat(5000));
        (0..5000).for_each(|_| drop(client.read_reply()));
        Scene { server, client, other, dump, dies_at, far }
    }

    fn cases() -> Vec<Case> {
        let mut cases =
            vec![Case::Is("EXPIRE gt 10 GT", is(1)), Case::Is("EXPIRE lt 10 LT", is(0))];
        cases.push(Case::Is("OBJECT IDLETIME lies", |reply, _| reply.as_int() >= 1));
        let living = |reply: &Value, _| !reply.as_bytes().starts_with(b"dies:");
        cases.extend((0..20).map(|_| Case::Is("RANDOMKEY", living)));
        cases.extend((0..SEE.len()).map(Case::See));
        cases.extend((0..SET.len()).map(Case::Set));
        cases
    }

    fn words_of(&self, case: &Case) -> Vec<Vec<u8>> {
        match *case {
            Case::See(number) => words(SEE[number], "dies:", number, &self.dump),
            Case::Set(number) => words(SET[number].0, "", number, &self.dump),
            Case::Is(line, _) => words(line, "", 0, &[]),
        }
    }

    /// Puts the cases after a wait, ends it when all that dies is dead, and checks the answers.
    fn run(&mut self, wait: &Wait, cases: &[Case]) {
        let in_multi = wait.last == ["EXEC"];
        let mut bytes = Vec::new();
        let mut send = |line: &str| encode(&line.split(' ').collect::<Vec<_>>(), &mut bytes);
        wait.first.iter().for_each(|line| send(line));
        send(if in_multi { "GET template" } else { "TIME" });
        send("TTL far");
        send("PTTL far");
        cases.iter().for_each(|case| encode(&self.words_of(case), &mut bytes));
        if in_multi {
            // Only EXEC itself is to wait.
            self.client.send_raw(&std::mem::take(&mut bytes));
            (0..cases.len() + 4).for_each(|_| assert!(!self.client.read_reply().is_error()));
        }
        wait.last.iter().for_each(|line| encode(&[line], &mut bytes));
        for line in wait.before {
            assert_eq!(call(&mut self.other, line), Value::ok(), "{line}");
        }
        let held = (wait.ends == Ends::WithLocks).then(|| HeldLocks::begin(&self.server));
        self.client.send_raw(&bytes);
        let dead = || now_ms() > self.dies_at + 20;
        assert!(wait_until(DEADLINE, dead), "the clock stands still");
        let mut late = now_ms();
        if wait.ends == Ends::WithUnpause {
            call(&mut self.other, "CLIENT UNPAUSE");
        }
        let replies: Vec<Value> = if in_multi {
            self.client.read_reply().as_array().to_vec()
        } else {
            wait.first.iter().for_each(|_| drop(self.client.read_reply()));
            (0..cases.len() + 3).map(|_| self.client.read_reply()).collect()
        };
        if let Some(held) = held {
            held.end();
        }
        if let (Value::Array(time), Ends::ByItself) = (&replies[0], wait.ends) {
            let part = |at: usize| String::from_utf8_lossy(time[at].as_bytes()).into_owned();
            late = part(0).parse::<i64>().expect("seconds") * 1000
                + part(1).parse::<i64>().expect("microseconds") / 1000;
        }
        assert!(late > self.dies_at, "{}: too short a wait", wait.name);
        let left = self.far - late;
        assert!(replies[1].as_int() <= (left + 500) / 1000, "{}: TTL {:?}", wait.name, replies[1]);
        assert!(replies[2].as_int() <= left, "{}: PTTL {:?}, not {left}", wait.name, replies[2]);
        for (case, reply) in cases.iter().zip(&replies[3..]) {
            self.check(wait.name, case, reply, late);
        }
    }

    fn check(&mut self, name: &str, case: &Case, reply: &Value, late: i64) {
        match *case {
            Case::See(number) => {
                let own = words(SEE[number], "never:", number, &self.dump);
                let expected = self.other.call(&own);
                assert_eq!(*reply, expected, "after {name}: {}", SEE[number]);
                let left = |of: &str| format!("GET {of}{number}");
                let (dies, never) = (left("dies:"), left("never:"));
                let values = [&dies, &never].map(|line| call(&mut self.other, line));
                assert_eq!(values[0], values[1], "after {name} and {}", SEE[number]);
            }
            Case::Set(number) => {
                let (template, ttl) = SET[number];
                assert!(!reply.is_error(), "{template}: {reply:?}");
                let at = call(&mut self.other, &format!("PEXPIRETIME key:{number}")).as_int();
                assert!(
                    at >= late + ttl,
                    "after {name}: {template} is {} ms early",
                    late + ttl - at
                );
            }
            Case::Is(line, is_right) => {
                assert!(is_right(reply, late), "after {name}: {line} answers {reply:?}");
            }
        }
    }
}

#[test]
fn a_deadline_counts_from_after_the_wait_and_what_expired_in_it_is_gone() {
    thread::scope(|scope| {
        for wait in ALL {
            let run = move || {
                let mut settings = vec![("auto-compact-percentage", "0")];
                settings.extend_from_slice(wait.settings);
                let server = Server::start(&settings);
                Scene::set_up(server, 0).run(wait, &Scene::cases());
            };
            thread::Builder::new()
                .name(wait.name.into())
                .spawn_scoped(scope, run)
                .expect("a thread");
        }
    });
}

/// PROMOTE that waits in vain, because the leader is stopped: reads after it.
#[test]
fn what_expired_while_promote_waited_is_gone() {
    let leader = Server::start(&[]);
    let follower = nodes::follower_of(leader.port(), &[]);
    nodes::converge(leader.port(), &[follower.port()]);
    let mut scene = Scene::set_up(leader, follower.port());
    nodes::converge(scene.server.port(), &[follower.port()]);
    scene.server.signal("STOP");
    let mut bytes = Vec::new();
    encode(&["PROMOTE", "2000"], &mut bytes);
    let commands = commands();
    let reads: Vec<usize> = (0..SEE.len())
        .filter(|number| row(&commands, SEE[*number]).flags.has(Flags::READONLY))
        .collect();
    reads.iter().for_each(|n| encode(&words(SEE[*n], "dies:", *n, &scene.dump), &mut bytes));
    scene.client.send_raw(&bytes);
    let promoted = scene.client.read_reply();
    let replies: Vec<Value> = reads.iter().map(|_| scene.client.read_reply()).collect();
    scene.server.signal("CONT");
    assert!(promoted.is_error(), "{promoted:?}");
    for (number, reply) in reads.into_iter().zip(replies) {
        scene.check("PROMOTE", &Case::See(number), &reply, 0);
    }
}

/// A walk over all keys locks one shard after another, and may wait at any of them.
#[test]
fn a_walk_that_waited_for_a_shard_shows_nothing_that_expired_meanwhile() {
    let server = Server::start(&[]);
    let mut scene = Scene::set_up(server, 0);
    let locks = HeldLocks::begin(&scene.server);
    let walks = ["KEYS dies:*", "SCAN 0 MATCH dies:* COUNT 100000", "RANDOMKEY"];
    let mut clients = walks.map(|line| {
        let mut client = Resp::connect(scene.server.port());
        client.send(&line.split(' ').collect::<Vec<_>>());
        client
    });
    locks.end();
    assert!(now_ms() > scene.dies_at, "too short a wait");
    let [keys, scan, random] = &mut clients;
    assert_eq!(keys.read_reply(), Value::Array(vec![]));
    assert_eq!(scan.read_reply().as_array()[1], Value::Array(vec![]));
    assert!(!random.read_reply().as_bytes().starts_with(b"dies:"));
    assert_eq!(call(&mut scene.other, "GET dies:1"), Value::Null);
}

/// All of an EXEC happens at one time.
#[test]
fn the_commands_of_an_exec_share_one_time() {
    let server = Server::start(&[]);
    let mut client = Resp::connect(server.port());
    call(&mut client, "MULTI");
    for n in 0..5000 {
        call(&mut client, &format!("SET k{n} v PX 100000"));
    }
    call(&mut client, "EXEC");
    let at = |client: &mut Resp, n| call(client, &format!("PEXPIRETIME k{n}")).as_int();
    assert_eq!(at(&mut client, 0), at(&mut client, 4999));
}

fn row(commands: &Commands, template: &str) -> &'static Spec {
    let (name, rest) = template.split_once(' ').unwrap_or((template, ""));
    let sub = rest.split(' ').next().unwrap_or_default();
    let is = |row: &&'static Spec| {
        row.name.eq_ignore_ascii_case(name)
            || row.name.eq_ignore_ascii_case(&format!("{name}|{sub}"))
    };
    let rows = commands.rows().iter().copied().filter(is);
    // A container's own row, such as `object`, runs nothing.
    rows.max_by_key(|row| row.name.len()).unwrap_or_else(|| panic!("no row for {template}"))
}

#[test]
fn no_command_of_the_table_is_left_out() {
    let commands = commands();
    let named = |list: &[(&str, &str)], name: &str| list.iter().any(|(row, _)| *row == name);
    let is_data = |row: &&&Spec| {
        let found = commands.find(row.name.as_bytes()).expect("the row");
        matches!(found.run, Run::Data(_)) && row.shape == Shape::Plain
    };
    for command in commands.rows().iter().filter(is_data) {
        let seen = SEE.iter().any(|line| row(&commands, line).name == command.name);
        assert!(
            seen || named(SEE_NOT, command.name),
            "{} works on keys: add it to SEE in table.rs, or say in SEE_NOT why not",
            command.name
        );
        let has_time = ["seconds", "ttl", "px "]
            .iter()
            .any(|word| command.grammar.to_lowercase().contains(word));
        let set = SET.iter().any(|(line, _)| row(&commands, line).name == command.name);
        assert!(
            !has_time || set || named(SET_NOT, command.name),
            "{} takes a time: add it to SET in table.rs, or say in SET_NOT why not",
            command.name
        );
    }
}
