//! The faults of one run, and their chances.
//!
//! Each run leaves out half of the faults and draws how bad the others are. So some runs are all handovers, or all
//! short-lived leaders: what needs many of one kind in a row is found there, and not where everything happens a little
//! [Groce et al. 2012, swarm testing].

use fastrand::Rng;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Cut,
    CutHeartbeats,
    Isolate,
    Split,
    Flap,
    Kill,
    Power,
    PowerOfTwo,
    Pause,
    FullDisk,
    FailedFsync,
    Stop,
    ChangeFsync,
    ChangeAck,
    HandOver,
}

const ALL: [Fault; 15] = [
    Fault::Cut,
    Fault::CutHeartbeats,
    Fault::Isolate,
    Fault::Split,
    Fault::Flap,
    Fault::Kill,
    Fault::Power,
    Fault::PowerOfTwo,
    Fault::Pause,
    Fault::FullDisk,
    Fault::FailedFsync,
    Fault::Stop,
    Fault::ChangeFsync,
    Fault::ChangeAck,
    Fault::HandOver,
];

/// The faults of a run. Chances are in a thousand.
#[derive(Clone, Debug)]
pub struct Mix {
    pub faults: Vec<Fault>,
    /// The longest time between two faults, in quarters of a timeout.
    pub quarters: u64,
    pub lost: u32,
    pub doubled: u32,
    /// Messages that take up to two timeouts.
    pub late: u32,
    /// Inputs that wait up to 40 timeouts for the election's thread.
    pub slow_thread: u32,
    pub slow_fsyncs: u32,
    /// Batches that take up to twelve timeouts to the gate.
    pub slow_gate: u32,
    /// Leaders to which something happens as soon as they have won.
    pub hit: u32,
    /// Links that begin with a full copy.
    pub copies: u32,
    /// Ticks in which a link's records go out.
    pub pump: u32,
    /// Records in one message of a link.
    pub records_max: usize,
    /// Timeouts that change at a start.
    pub new_timeouts: u32,
}

impl Mix {
    /// Nothing goes wrong by chance, and a message of a link has one record.
    pub fn calm() -> Mix {
        Mix {
            faults: Vec::new(),
            quarters: 2,
            lost: 0,
            doubled: 0,
            late: 0,
            slow_thread: 0,
            slow_fsyncs: 0,
            slow_gate: 0,
            hit: 0,
            copies: 0,
            pump: 1000,
            records_max: 1,
            new_timeouts: 0,
        }
    }

    pub fn new(rng: &mut Rng) -> Mix {
        let mut faults: Vec<Fault> = ALL.into_iter().filter(|_| rng.bool()).collect();
        if faults.is_empty() {
            faults.push(Fault::Kill);
        }
        let mut one_of = |chances: [u32; 3]| chances[rng.usize(0..3)];
        let (lost, doubled, late) = (one_of([0, 15, 60]), one_of([0, 15, 60]), one_of([5, 20, 80]));
        Mix {
            faults,
            lost,
            doubled,
            late,
            slow_thread: one_of([0, 20, 300]),
            slow_fsyncs: one_of([30, 30, 400]),
            slow_gate: one_of([30, 100, 200]),
            hit: one_of([0, 300, 900]),
            copies: one_of([0, 30, 150]),
            pump: one_of([1000, 600, 150]),
            new_timeouts: one_of([0, 250, 500]),
            records_max: rng.usize(1..=4),
            quarters: rng.u64(2..=12),
        }
    }
}
