//! Several nodes: what each says of itself, whether they agree, and a load for them.

use super::DEADLINE;
use super::proxy::Proxy;
use super::resp::{Resp, Value, encode};
use super::rng::Rng;
use super::server::Server;
use super::{note, wait_until};
use kvstore::aof::files;
use kvstore::aof::record::Header;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

/// The time that followers may need to find their way back, on a loaded machine.
pub const CATCH_UP: Duration = Duration::from_secs(60);

/// A field of INFO; empty if there is none of this name.
pub fn info(port: u16, field: &str) -> String {
    let page = Resp::connect(port).call(&["INFO", "everything"]);
    let page = String::from_utf8_lossy(page.as_bytes()).into_owned();
    let line = page.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().to_owned()
}

/// A number of INFO's; 0 if there is none.
pub fn count(port: u16, field: &str) -> u64 {
    info(port, field).parse().unwrap_or(0)
}

/// A server that follows this port, with further settings.
pub fn follower_of(port: u16, settings: &[(&str, &str)]) -> Server {
    let leader = format!("127.0.0.1 {port}");
    let mut all = vec![("replicaof", leader.as_str())];
    all.extend_from_slice(settings);
    Server::start(&all)
}

/// Two followers of a leader, the second one over a slow link.
pub fn quick_and_slow(leader: &Server) -> (Proxy, [Server; 2]) {
    let slow = Proxy::to(leader.port(), 1);
    slow.delay(2);
    let followers = [follower_of(leader.port(), &[]), follower_of(slow.port(), &[])];
    for follower in &followers {
        wait_for(follower.port(), "master_link_status", |status| status == "up");
    }
    (slow, followers)
}

/// Tells a node whom to follow.
pub fn replicaof(node: u16, leader: u16) {
    let reply = Resp::connect(node).call(&["REPLICAOF", "127.0.0.1", &leader.to_string()]);
    assert!(matches!(&reply, Value::Simple(text) if text.starts_with("OK")), "{reply:?}");
}

/// Makes a node lead.
pub fn lead(node: u16) {
    assert_eq!(Resp::connect(node).call(&["REPLICAOF", "NO", "ONE"]), Value::simple("OK"));
}

/// The last record of a node's log.
pub fn last_record(port: u16) -> u64 {
    count(port, "master_repl_offset")
}

/// Waits until the followers have all that the leader has, while no client writes.
pub fn converge(leader: u16, followers: &[u16]) {
    for &follower in followers {
        let has_all = || {
            info(follower, "master_link_status") == "up"
                && last_record(follower) == last_record(leader)
                && info(follower, "master_replid") == info(leader, "master_replid")
        };
        let page = |port| Resp::connect(port).call(&["INFO", "replication"]);
        let text = |port| String::from_utf8_lossy(page(port).as_bytes()).into_owned();
        // Nothing in here should take so long; said, so that what now and then does is not overlooked.
        if !wait_until(CATCH_UP / 3, has_all) {
            note(&format!("slow to catch up: {}{}", text(leader), text(follower)));
            assert!(wait_until(CATCH_UP, has_all), "{}{}", text(leader), text(follower));
        }
    }
}

/// A node's records by their number, as they stand in its segments.
pub fn records(dir: &Path) -> BTreeMap<u64, Vec<u8>> {
    let mut records = BTreeMap::new();
    for first in files::list(dir).expect("a data directory").segments {
        let bytes = fs::read(dir.join(files::segment_name(first))).expect("a segment");
        let mut rest = &bytes[..];
        while let Some((header, line_len)) = Header::parse(rest) {
            let Some(record) = rest.get(..line_len + header.len as usize) else { break };
            records.insert(header.seq.0, record.to_vec());
            rest = &rest[record.len()..];
        }
    }
    records
}

/// Fails unless the logs are byte for byte the same for all that both hold; returns how many records that
/// is.
pub fn assert_same_log(leader: &Path, follower: &Path) -> usize {
    let (leader, follower) = (records(&leader.join("data")), records(&follower.join("data")));
    let mut both = 0usize;
    for (seq, record) in &follower {
        let Some(theirs) = leader.get(seq) else { continue };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(text(theirs), text(record), "record {seq}");
        assert_eq!(theirs, record, "record {seq}");
        both += 1;
    }
    // The leader's sweeper may go on meanwhile. Behind a full copy there may be no records at all.
    if let Some((first, last)) = follower.keys().next().zip(follower.keys().last()) {
        assert_eq!(last - first + 1, follower.len() as u64, "records are missing");
    }
    both
}

/// Value and deadline by key.
pub type Dump = BTreeMap<Vec<u8>, (Vec<u8>, i64)>;

/// All keys that do not expire within the next seconds: two dumps are not taken at one instant.
pub fn dump(port: u16) -> Dump {
    let (mut client, mut cursor, mut dump) = (Resp::connect(port), "0".to_owned(), Dump::new());
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let soon = since_1970.expect("past 1970").as_millis() as i64 + 30_000;
    loop {
        let page = client.call(&["SCAN", &cursor, "COUNT", "1000"]);
        let [next, keys] = page.as_array() else { panic!("SCAN: {page:?}") };
        let mut bytes = Vec::new();
        for key in keys.as_array() {
            encode(&[b"GET", key.as_bytes()], &mut bytes);
            encode(&[b"PEXPIRETIME", key.as_bytes()], &mut bytes);
        }
        client.send_raw(&bytes);
        for key in keys.as_array() {
            let (value, deadline) = (client.read_reply(), client.read_reply().as_int());
            if value != Value::Null && (deadline == -1 || deadline > soon) {
                dump.insert(key.as_bytes().to_vec(), (value.as_bytes().to_vec(), deadline));
            }
        }
        cursor = String::from_utf8_lossy(next.as_bytes()).into_owned();
        if cursor == "0" {
            return dump;
        }
    }
}

/// Fails unless two nodes that have converged hold the same, key for key; returns how many keys.
pub fn assert_same_state(leader: u16, follower: u16) -> usize {
    let ports = [leader, follower];
    let (leader, follower) = (dump(leader), dump(follower));
    let keys = leader.keys().chain(follower.keys());
    let differing: Vec<_> = keys.filter(|key| leader.get(*key) != follower.get(*key)).collect();
    if let Some(key) = differing.first() {
        let now = ports.map(|port| Resp::connect(port).call(&[b"GET", &key[..]]));
        let name = String::from_utf8_lossy(key);
        let (leader, follower) = (leader.get(*key), follower.get(*key));
        let count = differing.len();
        panic!(
            "{count} keys differ: {name}: leader {leader:?}, follower {follower:?}, now {now:?}"
        );
    }
    leader.len()
}

/// Fails unless all followers converge and then have the leader's log and state; returns how many records and
/// keys were compared.
pub fn assert_replicated(leader: &Server, followers: &[&Server]) -> (usize, usize) {
    let ports: Vec<u16> = followers.iter().map(|follower| follower.port()).collect();
    converge(leader.port(), &ports);
    let mut compared = (0, 0);
    for follower in followers {
        compared.0 += assert_same_log(leader.dir(), follower.dir());
        compared.1 += assert_same_state(leader.port(), follower.port());
    }
    compared
}

/// A batch of random commands of all kinds that change data, each with one reply.
pub fn random_batch(rng: &mut Rng, prefix: &str, bytes: &mut Vec<u8>) -> usize {
    let (count, mut replies) = (rng.pick(&[1, 2, 8, 16]), 0);
    for _ in 0..count {
        let key = format!("{prefix}:{}", rng.below(300));
        let other = format!("{prefix}:{}", rng.below(300));
        let len = rng.pick(&[3, 30, 300, 300, 3000]);
        let value: String = (0..len).map(|at| (b'a' + (at % 23) as u8) as char).collect();
        let mut add = |words: &[&str]| {
            encode(words, bytes);
            replies += 1;
        };
        match rng.below(100) {
            0..30 => add(&["SET", &key, &value]),
            30..40 => add(&["SET", &key, &value, "PX", &rng.between(1, 300).to_string()]),
            40..45 => add(&["SET", &key, &value, "EX", "1000"]),
            45..55 => add(&["APPEND", &key, "+"]),
            55..60 => add(&["SETRANGE", &key, "5", "\r\n#5 1"]),
            60..65 => add(&["INCR", &format!("{prefix}:n")]),
            65..70 => add(&["DEL", &key, &other]),
            70..75 => add(&["EXPIRE", &key, "500"]),
            75..80 => add(&["PERSIST", &key]),
            80..85 => add(&["MSET", &key, &value, &other, "both"]),
            85..90 => add(&["RENAME", &key, &other]),
            90..95 => add(&["SETBIT", &key, &rng.below(400).to_string(), "1"]),
            _ => {
                add(&["MULTI"]);
                add(&["SET", &key, "in one"]);
                add(&["DEL", &other]);
                add(&["INCR", &format!("{prefix}:n")]);
                add(&["EXEC"]);
            }
        }
    }
    replies
}

/// Sends so many batches, one after another.
pub fn load(port: u16, seed: u64, batches: usize) {
    let (mut client, mut rng, mut bytes) = (Resp::connect(port), Rng::new(seed), Vec::new());
    let prefix = format!("k{}", seed % 10);
    for _ in 0..batches {
        bytes.clear();
        let replies = random_batch(&mut rng, &prefix, &mut bytes);
        client.send_raw(&bytes);
        (0..replies).for_each(|_| drop(client.read_reply()));
    }
}

/// Waits until a node answers a condition about its INFO.
pub fn wait_for(port: u16, field: &str, is: impl Fn(&str) -> bool) {
    let met = wait_until(3 * DEADLINE, || is(&info(port, field)));
    assert!(met, "{field} is {:?}", info(port, field));
}

/// Tells threads to stop, also when the test fails: else their scope would wait for them for ever.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
