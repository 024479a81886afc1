//! A naive model of what a log leads to: a map, the state after each record, and the few lines that
//! apply an effect. It shares with the server only the decoding of effects, not how they are applied.

use super::rng::Rng;
use kvstore::aof::base::BaseWriter;
use kvstore::aof::disk::Directory;
use kvstore::aof::disk::Disk;
use kvstore::aof::errors::CompactError;
use kvstore::aof::log::Log;
use kvstore::aof::outline::Outline;
use kvstore::aof::record::Epoch;
use kvstore::aof::record::ResumePoint;
use kvstore::aof::recovery;
use kvstore::aof::recovery::Recovered;
use kvstore::aof::recovery::RecoveryError;
use kvstore::clock::UnixMillis;
use kvstore::cluster::members::{Ack, Members, Reads, Voter};
use kvstore::cluster::term::{ClusterId, NodeId};
use kvstore::store::effect;
use kvstore::store::effect::EXEC;
use kvstore::store::effect::Effect;
use kvstore::store::effect::MULTI;
use kvstore::store::effect::Seq;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Value and deadline by key.
pub type State = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

pub const NOW: UnixMillis = UnixMillis(1_767_225_600_123);

pub fn apply(state: &mut State, effect: Effect<'_>) {
    match effect {
        Effect::Set { key, value, deadline } => {
            state.insert(key.to_vec(), (value.to_vec(), deadline.map(|at| at.0)));
        }
        Effect::SetRange { key, offset, bytes } => {
            let value = &mut state.entry(key.to_vec()).or_default().0;
            let len = value.len().max(offset + bytes.len());
            value.resize(len, 0);
            value[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        Effect::Del { keys } => keys.iter().for_each(|key| drop(state.remove(*key))),
        Effect::PexpireAt { key, deadline } => {
            state.entry(key.to_vec()).and_modify(|entry| entry.1 = Some(deadline.0));
        }
        Effect::Persist { key } => {
            state.entry(key.to_vec()).and_modify(|entry| entry.1 = None);
        }
        Effect::FlushAll => state.clear(),
    }
}

/// Opens a log that goes on at `end`, as the leader of a new epoch.
pub fn open_log(
    disk: Box<dyn Disk>,
    end: ResumePoint,
    epoch: Epoch,
    segment_bytes: u64,
    now: UnixMillis,
) -> io::Result<Log> {
    let log = Log::resume(disk, end, Outline::default(), segment_bytes, 0)?;
    log.begin_epoch(epoch, now).map_err(io::Error::other)?;
    Ok(log)
}

/// The result of recovery of a directory.
pub fn recover(dir: &Path) -> Result<(Recovered, State), RecoveryError> {
    let mut state = State::new();
    let recovered = recovery::read(dir, |payload| {
        effect::decode(payload, |effect| apply(&mut state, effect)).map(drop)
    })?;
    Ok((recovered, state))
}

/// The members of some cluster; another number makes others.
pub fn members(number: u64) -> Members {
    let voter = |byte, address: &str| {
        let id = NodeId(std::array::from_fn(|at| if at == 19 { byte } else { number as u8 }));
        Voter { id, address: address.to_string() }
    };
    let voters = vec![voter(1, "a.example:8080"), voter(2, "10.0.0.2:8080"), voter(3, "[::1]:80")];
    let (ack, reads) = (Ack::Majority, Reads::Index);
    Members { cluster: ClusterId(number), ack, reads, voters, seq: Seq(0) }
}

/// Adds a record of members to a directory that no server is using, durably. Returns it with its number.
pub fn log_members(dir: &Path, members: Members) -> Members {
    let (recovered, _) = recover(dir).expect("a healthy log");
    let disk = Box::new(Directory::open(dir).expect("it is there"));
    let log = Log::resume(disk, recovered.end, recovered.outline, 1 << 20, 0).expect("a log");
    log.continue_after(recovered.at);
    let members = log.append_members(members, log.epoch(), NOW).expect("the present epoch");
    log.sync().expect("a disk");
    members
}

/// The newest record of members in a directory.
pub fn members_in(dir: &Path) -> Option<Members> {
    recover(dir).expect("a healthy log").0.outline.members().cloned()
}

/// A log's past: the state after each record, the one before the first at 0.
pub struct History {
    pub states: Vec<State>,
    /// The records of members.
    pub members: Vec<Members>,
    rng: Rng,
}

impl History {
    pub fn new(seed: u64) -> History {
        History { states: vec![State::new()], members: Vec::new(), rng: Rng::new(seed) }
    }

    pub fn now(&self) -> &State {
        self.states.last().expect("there is a first state")
    }

    /// Notes that a log was opened: that is a record without effects.
    pub fn opened(&mut self) {
        self.states.push(self.now().clone());
    }

    /// Appends a record of one or more random effects.
    pub fn append(&mut self, log: &Log) -> Seq {
        let mut state = self.now().clone();
        let (mut payload, mut effects) = (MULTI.to_vec(), 0);
        // Now and then two or three, which must survive or vanish together.
        for _ in 0..self.rng.pick(&[1, 1, 1, 2, 3]) {
            random_effect(&mut self.rng, &mut state, &mut payload);
            effects += 1;
        }
        payload.extend_from_slice(EXEC);
        let single = MULTI.len()..payload.len() - EXEC.len();
        let seq = log.append(if effects > 1 { &payload } else { &payload[single] }, NOW);
        self.states.push(state);
        assert_eq!(seq.0 as usize, self.states.len() - 1, "the log counts as the model does");
        seq
    }

    /// Appends a record of members, others each time.
    pub fn append_members(&mut self, log: &Log) -> Seq {
        let members = members(self.members.len() as u64 + 1);
        let members = log.append_members(members, log.epoch(), NOW).expect("the present epoch");
        self.states.push(self.now().clone());
        assert_eq!(members.seq.0 as usize, self.states.len() - 1, "the log counts as the model");
        self.members.push(members);
        log.appended()
    }

    /// The members record in force after this record.
    pub fn members_at(&self, seq: Seq) -> Option<&Members> {
        self.members.iter().rfind(|members| members.seq <= seq)
    }

    /// Walks over the state as a compaction does: in two parts, between which writers go on.
    pub fn walk(&mut self, log: &Log, base: &mut BaseWriter<'_>) -> Result<(), CompactError> {
        let middle = b"c".to_vec();
        let early = self.now().range(..middle.clone());
        add(base, &early.map(|(k, v)| (k.clone(), v.clone())).collect())?;
        for _ in 0..4 {
            self.append(log);
        }
        // A part of what the base is about to know is not even written yet, let alone durable.
        let seq = self.append_members(log);
        log.ensure_written(Seq(seq.0 - 2)).map_err(CompactError::Log)?;
        self.append(log);
        let late = self.now().range(middle..);
        add(base, &late.map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}

/// Applies a random effect, one that a server could have, and writes it down.
fn random_effect(rng: &mut Rng, state: &mut State, payload: &mut Vec<u8>) {
    let keys: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"e", b"f"];
    let (key, other) = (rng.pick(&keys), rng.pick(&keys));
    let value = format!("v{}\r\n#", rng.below(1000));
    let deadline = UnixMillis(NOW.0 + rng.below(100) as u64);
    let len = state.get(key).map(|(value, _)| value.len());
    let both = [key, other];
    let effect = match rng.below(20) {
        0..8 => Effect::Set { key, value: value.as_bytes(), deadline: None },
        8..10 => Effect::Set { key, value: b"t", deadline: Some(deadline) },
        // The effect of APPEND. Its offset is the length at that moment, as in the server.
        10..15 => Effect::SetRange { key, offset: len.unwrap_or(0), bytes: b"+" },
        // Nobody logs a deadline for a key that is not there: replayed on a base that already has the
        // key, it would not be without effect any more.
        17 if len.is_some() => Effect::PexpireAt { key, deadline },
        18 if len.is_some() => Effect::Persist { key },
        19 => Effect::FlushAll,
        _ => Effect::Del { keys: &both },
    };
    effect.encode(payload);
    apply(state, effect);
}

fn add(base: &mut BaseWriter<'_>, part: &State) -> Result<(), CompactError> {
    let mut payload = Vec::new();
    for (key, (value, deadline)) in part {
        let deadline = deadline.map(UnixMillis);
        Effect::Set { key, value, deadline }.encode(&mut payload);
    }
    Ok(base.add(&payload, part.len() as u64, NOW)?)
}
