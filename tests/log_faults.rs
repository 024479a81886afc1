//! Hazard: a call on the log's files fails, or does less than it was asked for, while the power is on.
//!
//! After failed and short writes every record must be there exactly once; after a failed sync nothing may
//! be called durable any more; after a failed compaction the old state must be there whole, and the log
//! must go on. `failing_calls.rs` does the same to a real server.

mod common;

use common::history::{History, NOW, State, open_log, recover};
use common::memory_disk::{Call, EIO, ENOSPC, Fault, Loss, MemoryDisk, memory_backed};
use kvstore::aof::compaction::compact;
use kvstore::aof::log::Log;
use kvstore::aof::log::LogError;
use kvstore::aof::record::Epoch;
use kvstore::aof::record::Position;
use kvstore::aof::record::ResumePoint;
use kvstore::store::effect::Seq;

const SEGMENT_BYTES: u64 = 400;

fn open(disk: &MemoryDisk, history: &mut History) -> Log {
    let tail = ResumePoint { last: Position::default(), segment: None };
    history.opened();
    open_log(Box::new(disk.clone()), tail, Epoch(1), SEGMENT_BYTES, NOW).expect("no fault yet")
}

/// The records that are there after this loss, without a cut-off one at the end.
fn left_after(loss: Loss, disk: &MemoryDisk, context: &str) -> (Seq, State) {
    let dir = memory_backed();
    disk.survive(loss, dir.path());
    let (recovered, state) =
        recover(dir.path()).unwrap_or_else(|error| panic!("{context}: {error}"));
    (recovered.end.last.seq, state)
}

/// What was called written survives `kill -9`, what was called durable a power cut: now.
fn keeps_its_word(log: &Log, disk: &MemoryDisk, history: &History, context: &str) {
    for (loss, promised) in [(Loss::Nothing, log.written()), (Loss::All, log.durable())] {
        let (last, state) = left_after(loss, disk, context);
        assert!(last >= promised, "{context}: {promised} promised, {last} there after {loss:?}");
        assert_eq!(state, history.states[last.seq()], "{context}: the state at {last}");
    }
}

trait Index {
    fn seq(&self) -> usize;
}

impl Index for Seq {
    fn seq(&self) -> usize {
        self.0 as usize
    }
}

/// Appends and writes, as the connections do; rotates and retries, as the sync thread does.
fn write_some(log: &Log, disk: &MemoryDisk, history: &mut History, context: &str) {
    for _ in 0..10 {
        let seq = history.append(log);
        match log.ensure_written(seq) {
            Ok(_) => assert!(log.written() >= seq, "{context}: not written, and no error"),
            Err(error) => assert!(matches!(error, LogError::Write(_)), "{context}: {error}"),
        }
        keeps_its_word(log, disk, history, context);
        log.rotate_if_full();
    }
    for _ in 0..40 {
        log.retry();
        keeps_its_word(log, disk, history, context);
    }
}

/// With these faults, a log comes back by itself and holds everything once.
fn recovers_by_itself(faults: &[(Call, usize, usize, Fault)]) {
    let context = format!("{faults:?}");
    let (disk, mut history) = (MemoryDisk::default(), History::new(7));
    let log = open(&disk, &mut history);
    faults.iter().for_each(|(call, nth, times, fault)| disk.inject(*call, *nth, *times, *fault));
    write_some(&log, &disk, &mut history, &context);
    assert_eq!(log.check(), Ok(()), "{context}");
    assert_eq!(log.written(), log.appended(), "{context}");

    write_some(&log, &disk, &mut history, &context);
    assert_eq!(log.sync().map(drop), Ok(()), "{context}");
    let (last, state) = left_after(Loss::All, &disk, &context);
    assert_eq!((last, &state), (log.appended(), history.now()), "{context}");
}

#[test]
fn failed_writes_are_repeated_and_nothing_is_there_twice() {
    for nth in 0..12 {
        for times in [1, 2, 7, 30] {
            recovers_by_itself(&[(Call::Write, nth, times, Fault::Error(ENOSPC))]);
        }
    }
}

#[test]
fn short_writes_are_completed() {
    for nth in 0..6 {
        for len in [0, 1, 3, 17, 40, 100] {
            recovers_by_itself(&[(Call::Write, nth, 5, Fault::Short(len))]);
        }
    }
}

#[test]
fn a_disk_that_fills_up_writes_short_and_then_fails() {
    for nth in 0..6 {
        for len in [1, 17, 40, 60] {
            let full = (Call::Write, nth + 1, 9, Fault::Error(ENOSPC));
            let cut = (Call::SetLen, 0, 2, Fault::Error(EIO));
            recovers_by_itself(&[(Call::Write, nth, 1, Fault::Short(len)), full]);
            recovers_by_itself(&[(Call::Write, nth, 1, Fault::Short(len)), full, cut]);
        }
    }
}

#[test]
fn a_segment_that_cannot_be_begun_is_begun_later() {
    for nth in 0..3 {
        for times in [1, 4] {
            recovers_by_itself(&[(Call::Create, nth, times, Fault::Error(ENOSPC))]);
        }
    }
}

/// A failed sync of a file, or of the directory that a new segment is named in, is final: the kernel
/// reports such an error once and may have dropped the data.
#[test]
fn a_failed_sync_is_never_forgotten() {
    for (call, nth) in [(Call::Sync, 0), (Call::Sync, 1), (Call::Sync, 4), (Call::SyncDir, 0)] {
        let context = format!("{call:?} {nth}");
        let (disk, mut history) = (MemoryDisk::default(), History::new(7));
        let log = open(&disk, &mut history);
        disk.inject(call, nth, 1, Fault::Error(EIO));
        let mut durable = log.durable();
        let failed = (0..40).any(|_| {
            history.append(&log);
            durable = log.durable();
            log.rotate_if_full();
            log.sync().is_err()
        });
        assert!(failed, "{context}");
        for _ in 0..3 {
            let seq = history.append(&log);
            assert!(matches!(log.sync(), Err(LogError::Sync(_))), "{context}");
            assert!(matches!(log.try_sync(), Some(Err(LogError::Sync(_)))), "{context}");
            assert!(matches!(log.ensure_written(seq), Err(LogError::Sync(_))), "{context}");
            assert!(matches!(log.admit(), Err(LogError::Sync(_))), "{context}");
            assert!(matches!(log.rotate(), Err(LogError::Sync(_))), "{context}");
            log.retry();
            keeps_its_word(&log, &disk, &history, &context);
        }
        assert!(log.durable() <= Seq(durable.0 + 1), "{context}: {durable}, {}", log.durable());
    }
}

/// The retry of a write and a sync go on at the same time; whichever error ends later, the sync's stays.
#[test]
fn a_write_that_works_again_does_not_excuse_a_failed_sync() {
    let (disk, mut history) = (MemoryDisk::default(), History::new(7));
    let log = open(&disk, &mut history);
    disk.inject(Call::Write, 0, 1, Fault::Error(ENOSPC));
    disk.inject(Call::Sync, 0, 1, Fault::Error(EIO));
    let seq = history.append(&log);
    assert!(matches!(log.ensure_written(seq), Err(LogError::Write(_))));
    assert!(matches!(log.sync(), Err(LogError::Sync(_))));
    log.retry();
    assert!(matches!(log.check(), Err(LogError::Sync(_))));
}

#[test]
fn a_failed_compaction_leaves_the_old_state_whole() {
    use Call::{Create, Names, Remove, Rename, SetLen, Sync, SyncDir, Write};
    for call in [Create, Write, Sync, Rename, SyncDir, Names, Remove, SetLen] {
        for nth in 0..6 {
            let context = format!("{call:?} {nth}");
            let (disk, mut history) = (MemoryDisk::default(), History::new(7));
            let log = open(&disk, &mut history);
            write_some(&log, &disk, &mut history, &context);
            disk.inject(call, nth, 1, Fault::Error(ENOSPC));
            let result = compact(&log, |base| history.walk(&log, base));
            keeps_its_word(&log, &disk, &history, &context);
            let names = disk.names();
            let unfinished = names.iter().find(|name| name.ends_with(".tmp"));
            assert!(unfinished.is_none() || result.is_ok(), "{context}: {names:?}, {result:?}");
            if matches!(log.check(), Err(LogError::Sync(_))) {
                continue;
            }

            disk.heal();
            // The log goes on, and the next attempt succeeds.
            write_some(&log, &disk, &mut history, &context);
            assert_eq!(log.check(), Ok(()), "{context}");
            let again = compact(&log, |base| history.walk(&log, base));
            assert!(again.is_ok(), "{context}: {result:?}, then {again:?}");
            keeps_its_word(&log, &disk, &history, &context);
            let bases = disk.names().iter().filter(|name| name.starts_with("base-")).count();
            assert_eq!(bases, 1, "{context}: {:?}", disk.names());
        }
    }
}
