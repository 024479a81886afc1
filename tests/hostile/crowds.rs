//! Many clients: coming and going, all at work at once, or all idle. None may fail, and each has its
//! price: no thread or descriptor once it has left, and less than 20 KB while it is idle.

use super::Scene;
use super::common::resp::{Resp, Value};
use super::common::server::connect;
use super::common::{DEADLINE, long_form, skipped, wait_until};
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The descriptors of this process are shared by its tests, so one crowd comes after another.
static ONE_CROWD: Mutex<()> = Mutex::new(());

/// Room for a crowd of this size, here and in the server; says so and returns nothing where there is
/// none.
fn room_for(clients: usize) -> Option<MutexGuard<'static, ()>> {
    /// For the files, sockets and pipes of the other tests in this process.
    const OTHERS: u64 = 500;
    let limit = descriptors_max();
    if limit < clients as u64 + OTHERS {
        let wanted = clients as u64 + OTHERS;
        skipped(&format!("{clients} connections: ulimit -n is {limit}, it takes {wanted}"));
        return None;
    }
    Some(ONE_CROWD.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The soft limit on open files, which a shell prints.
fn descriptors_max() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("the limits of this process");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("that limit");
    line.split_whitespace().nth(3).and_then(|n| n.parse().ok()).unwrap_or(u64::MAX)
}

#[test]
fn clients_that_come_and_go_leave_nothing_behind() {
    const WARM_UP: usize = 200;
    /// Far below 20,000 times anything.
    const GROWTH_KIB_MAX: u64 = 4 * 1024;
    let visits = if long_form() { 20_000 } else { 2_000 };
    let Some(_room) = room_for(100) else { return };
    let mut scene = Scene::new(&[("worker-idle-timeout", "1")]);
    scene.assert_bystander_is_served("nothing");
    let (threads, descriptors) = (scene.server.threads(), scene.server.descriptors());
    (0..WARM_UP).for_each(|n| visit(scene.port(), n));
    let before = scene.server.resident_kib();
    (0..visits).for_each(|n| visit(scene.port(), n));

    scene.wait_for_info("connected_clients", 1);
    let back = || scene.server.threads() <= threads && scene.server.descriptors() <= descriptors;
    let now = || (scene.server.threads(), scene.server.descriptors());
    assert!(
        wait_until(DEADLINE, back),
        "{:?} threads and files were {threads}, {descriptors}",
        now()
    );
    let grown = scene.server.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{visits} visits left {grown} KiB behind");
    scene.assert_unharmed("visits");
}

/// Comes, and leaves in one of the ways there are.
fn visit(port: u16, n: usize) {
    match n % 5 {
        0 => drop(TcpStream::connect(("127.0.0.1", port)).expect("a connection")),
        1 => assert_eq!(Resp::connect(port).call(&["PING"]), Value::simple("PONG")),
        2 => {
            let mut client = Resp::connect(port);
            client.send(&["QUIT"]);
            assert_eq!(client.read_to_end(), b"+OK\r\n");
        }
        3 => Resp::connect(port).send_raw(b"*2\r\n$3\r\nGET\r\n$100\r\nhalf"),
        // Replies that are never read make its close a reset.
        _ => Resp::connect(port).send_raw(&b"PING\r\n".repeat(100)),
    }
}

#[test]
fn a_crowd_at_work_is_served_to_the_last() {
    const DRIVERS: usize = 10;
    const ROUNDS: usize = 10;
    let clients = if long_form() { 5_000 } else { 500 };
    let Some(_room) = room_for(clients) else { return };
    let mut scene = Scene::new(&[]);
    let port = scene.port();
    // Nobody begins to work before all are connected.
    let all_here = Barrier::new(DRIVERS);
    thread::scope(|scope| {
        for driver in 0..DRIVERS {
            let all_here = &all_here;
            scope.spawn(move || {
                let mut crowd: Vec<Resp> =
                    (0..clients / DRIVERS).map(|_| Resp::connect(port)).collect();
                all_here.wait();
                (0..ROUNDS).for_each(|round| work(&mut crowd, driver, round));
                all_here.wait();
            });
        }
    });
    let expected = (clients / DRIVERS * DRIVERS * ROUNDS).to_string();
    assert_eq!(scene.bystander.call(&["GET", "work"]), Value::bulk(expected));
    assert_eq!(scene.info("rejected_connections"), 0);
    scene.assert_unharmed("a crowd at work");
}

/// All of this crowd have sent before the first of them reads.
fn work(crowd: &mut [Resp], driver: usize, round: usize) {
    let words = |n: usize| (format!("key:{driver}:{n}"), format!("{round}"));
    for (n, client) in crowd.iter_mut().enumerate() {
        let (key, value) = words(n);
        client.send(&["SET", &key, &value]);
        client.send(&["GET", &key]);
        client.send(&["INCR", "work"]);
    }
    for (n, client) in crowd.iter_mut().enumerate() {
        assert_eq!(client.read_reply(), Value::ok());
        assert_eq!(client.read_reply(), Value::bulk(words(n).1));
        assert!(client.read_reply().as_int() > 0);
    }
}

#[test]
fn an_idle_client_costs_less_than_20_kb() {
    const BYTES_EACH_MAX: u64 = 20_000;
    let clients = if long_form() { 10_000 } else { 1_000 };
    let Some(_room) = room_for(clients) else { return };
    let maxclients = (clients + 10).to_string();
    let mut scene = Scene::new(&[("maxclients", &maxclients)]);
    if scene.info("maxclients") < clients as u64 {
        skipped(&format!("{clients} idle connections: the server may not open as many files"));
        return;
    }
    scene.assert_unharmed("nothing");
    let before = scene.server.resident_kib();
    let mut idle: Vec<TcpStream> = (0..clients).map(|_| connect(scene.port())).collect();
    // Each has been served, so that its thread and its buffers are there.
    for client in &mut idle {
        client.write_all(b"PING\r\n").expect("sending");
    }
    for client in &mut idle {
        let mut pong = [0; 5];
        std::io::Read::read_exact(client, &mut pong).expect("a reply");
        assert_eq!(&pong, b"PONG\n");
    }
    scene.wait_for_info("connected_clients", clients as u64 + 1);
    let grown = scene.server.resident_kib().saturating_sub(before) * 1024;
    let each = grown / clients as u64;
    println!("{each} bytes for each of {clients} idle connections");
    assert!(each < BYTES_EACH_MAX, "{each} bytes for each of {clients} idle connections");
    scene.assert_bystander_is_served("idle clients");
    drop(idle);
    scene.wait_for_info("connected_clients", 1);
}
