//! Hazard: the power goes, at any moment, and takes what was not synced, or some of it.
//!
//! A story (append, write, sync, new segments, a compaction with writers at work) runs on a disk in
//! memory and is cut off before each of its calls in turn. Of what was not synced then everything,
//! nothing, a front part or random blocks survive. Recovery must start from that, at a state that was
//! once the whole truth, with everything that had been acknowledged as durable.

mod common;

use common::history::{History, NOW, open_log, recover};
use common::memory_disk::{Call, Loss, MemoryDisk, memory_backed};
use common::rng::{Rng, fresh_seed};
use common::{long_form, note, number_from_env};
use kvstore::aof::cleanup;
use kvstore::aof::compaction::compact;
use kvstore::aof::disk::Directory;
use kvstore::aof::log::Log;
use kvstore::aof::log::LogError;
use kvstore::aof::record::Epoch;
use kvstore::aof::record::Position;
use kvstore::aof::record::ResumePoint;
use kvstore::store::effect::Effect;
use kvstore::store::effect::Seq;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Small enough that the story needs several segments.
const SEGMENT_BYTES: u64 = 300;

fn seed() -> u64 {
    number_from_env("KVSTORE_SEED").unwrap_or_else(fresh_seed)
}

fn open(disk: &MemoryDisk) -> Result<Log, String> {
    let tail = ResumePoint { last: Position::default(), segment: None };
    let disk = Box::new(disk.clone());
    open_log(disk, tail, Epoch(1), SEGMENT_BYTES, NOW).map_err(|error| error.to_string())
}

/// The point that the story reached.
struct Told {
    history: History,
    /// The last record for which a sync had returned.
    durable: Seq,
}

/// Runs the story until its end or until the power goes. With `always` each record is synced, as for a
/// client that waits for it; else some.
fn tell(disk: &MemoryDisk, seed: u64, always: bool) -> Told {
    let mut told = Told { history: History::new(seed), durable: Seq(0) };
    // The reason of a failure is always the power here.
    let _ = tell_on(&mut told, disk, always);
    told
}

fn tell_on(told: &mut Told, disk: &MemoryDisk, always: bool) -> Result<(), String> {
    let text = |error: LogError| error.to_string();
    // The record that opens the log may be in it even if opening it does not return.
    told.history.opened();
    let log = open(disk)?;
    told.durable = log.durable();
    for round in 0..3 {
        for step in 0..8 {
            let seq = if step == 2 * round + 1 {
                told.history.append_members(&log)
            } else {
                told.history.append(&log)
            };
            if always || step == 5 {
                log.sync().map_err(text)?;
                told.durable = log.durable();
            } else if step % 3 == 0 {
                log.ensure_written(seq).map_err(text)?;
            }
            log.rotate_if_full();
        }
        if round == 1 {
            compact(&log, |base| told.history.walk(&log, base)).map_err(|e| e.to_string())?;
            told.durable = log.durable();
        }
    }
    log.rotate().map_err(text)?;
    told.history.append(&log);
    log.sync().map_err(text)?;
    told.durable = log.durable();
    Ok(())
}

/// Recovers what survived, judges it, and goes on writing there.
fn check(told: &Told, dir: &Path, context: &str) {
    let (recovered, state) = recover(dir).unwrap_or_else(|error| {
        panic!("{context}: the server does not start: {error}\n{}", listing(dir))
    });
    let last = recovered.end.last;
    assert!(
        last.seq >= told.durable,
        "{context}: {} is durable, {} is there",
        told.durable,
        last.seq
    );
    let expected = &told.history.states[last.seq.0 as usize];
    assert_eq!(&state, expected, "{context}: not the state after record {}", last.seq);
    let members = told.history.members_at(last.seq);
    assert_eq!(recovered.outline.members(), members, "{context}: not the members");

    cleanup::clean_up(dir, &recovered).unwrap_or_else(|error| panic!("{context}: {error}"));
    let disk = Box::new(Directory::open(dir).expect("it is there"));
    let log = open_log(disk, recovered.end, Epoch(last.epoch.0 + 1), SEGMENT_BYTES, NOW);
    log.unwrap_or_else(|error| panic!("{context}: {error}"));
    let (again, state) = recover(dir).unwrap_or_else(|error| panic!("{context}, again: {error}"));
    assert_eq!((again.end.last.seq.0, &state), (last.seq.0 + 1, expected), "{context}, again");
    assert_eq!(again.outline.members(), members, "{context}, again");
    assert!(again.torn.is_none(), "{context}, again: {:?}", again.torn);
}

fn listing(dir: &Path) -> String {
    let mut files: Vec<_> = std::fs::read_dir(dir).expect("a directory").flatten().collect();
    files.sort_by_key(|file| file.file_name());
    let read =
        |path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    files.iter().map(|f| format!("--- {:?}\n{}\n", f.file_name(), read(f.path()))).collect()
}

/// Cuts the story before each call and tries each of `losses`, which are made from the disk as it is.
fn cut_everywhere(always: bool, losses: impl Fn(&MemoryDisk, &mut Rng) -> Vec<Loss>) {
    let seed = seed();
    let whole = MemoryDisk::default();
    let end = tell(&whole, seed, always);
    assert_eq!(end.durable.0 as usize, end.history.states.len() - 1, "the whole story was told");
    let calls = whole.calls();
    let (mut rng, mut tried) = (Rng::new(seed), 0);
    for cut in 0..=calls.len() {
        let disk = MemoryDisk::with_power_until(cut);
        let told = tell(&disk, seed, always);
        for loss in losses(&disk, &mut rng) {
            let dir = memory_backed();
            disk.survive(loss, dir.path());
            let before = cut.checked_sub(1).map(|last| calls[last]);
            let context = format!(
                "KVSTORE_SEED={seed} always={always}, cut behind call {cut} ({before:?}), {loss:?}"
            );
            check(&told, dir.path(), &context);
            tried += 1;
        }
    }
    note(&format!("{} calls, {tried} power cuts survived (KVSTORE_SEED={seed})", calls.len()));
}

fn rounds() -> usize {
    if long_form() { 50 } else { 4 }
}

#[test]
fn without_what_was_not_synced() {
    cut_everywhere(true, |_, _| vec![Loss::All, Loss::Nothing]);
    cut_everywhere(false, |_, _| vec![Loss::All, Loss::Nothing]);
}

#[test]
fn with_a_front_part_of_each_file() {
    let losses = |_: &MemoryDisk, rng: &mut Rng| {
        (0..rounds()).map(|_| Loss::Tear(rng.next_u64())).collect::<Vec<_>>()
    };
    cut_everywhere(true, losses);
    cut_everywhere(false, losses);
}

#[test]
fn torn_at_each_byte() {
    cut_everywhere(false, |disk, _| {
        let (written, synced) = disk.last_file_len();
        let is_write = disk.calls().last() == Some(&Call::Write);
        let lens = if is_write { synced..written } else { 0..0 };
        lens.map(Loss::TearLast).collect()
    });
}

#[test]
fn with_some_blocks_and_without_others() {
    let losses = |_: &MemoryDisk, rng: &mut Rng| {
        let mut loss = || Loss::Reorder { block: rng.pick(&[32, 64, 512]), seed: rng.next_u64() };
        (0..rounds()).map(|_| loss()).collect::<Vec<_>>()
    };
    cut_everywhere(true, losses);
    cut_everywhere(false, losses);
}

/// The story has one teller; here several threads append, write, sync and begin segments at once.
#[test]
fn with_many_writers_at_once() {
    let seed = seed();
    let mut rng = Rng::new(seed);
    for round in 0..25 * rounds() {
        let disk = MemoryDisk::with_power_until(4 + rng.below(200));
        let (acked, losses) = (AtomicU64::new(0), [rng.next_u64(), rng.next_u64()]);
        if let Ok(log) = open(&disk) {
            std::thread::scope(|scope| {
                for writer in 0..3 {
                    let (log, acked) = (&log, &acked);
                    scope.spawn(move || while work(log, writer, acked).is_ok() {});
                }
                // As the sync thread does, until the power is off.
                while log.check().is_ok() && log.sync().is_ok() {
                    log.rotate_if_full();
                }
            });
        }
        let [tear, reorder] = losses;
        let losses = [Loss::All, Loss::Tear(tear), Loss::Reorder { block: 512, seed: reorder }];
        for loss in losses {
            let dir = memory_backed();
            disk.survive(loss, dir.path());
            let context = format!("KVSTORE_SEED={seed}, round {round}, {loss:?}");
            let (recovered, _) = recover(dir.path())
                .unwrap_or_else(|error| panic!("{context}: {error}\n{}", listing(dir.path())));
            let (last, acked) = (recovered.end.last.seq.0, acked.load(SeqCst));
            assert!(last >= acked, "{context}: {acked} is durable, {last} is there");
        }
    }
}

fn work(log: &Log, writer: usize, acked: &AtomicU64) -> Result<(), LogError> {
    let (mut payload, key) = (Vec::new(), [b'a' + writer as u8]);
    Effect::Set { key: &key, value: b"value", deadline: None }.encode(&mut payload);
    log.admit()?;
    let seq = log.append(&payload, NOW);
    log.ensure_written(seq)?;
    if let Some(result) = log.try_sync() {
        result?;
        acked.fetch_max(seq.0, SeqCst);
    }
    Ok(())
}
