//! The changes of a transaction: by effects, and in no other way.

use super::effect::{self, Effect, Seq};
use super::locks::{Guards, NOT_LOCKED};
use super::shard::{Shard, Target};
use super::{SHARDS, Tx};
use crate::memory::recency::Recency;

impl Tx<'_> {
    /// Applies an effect and adds it to the record.
    pub fn apply(&mut self, effect: Effect<'_>) {
        self.effects += 1;
        self.changes += match effect {
            Effect::Del { keys } => keys.len() as u64,
            Effect::FlushAll => self.key_count() as u64,
            _ => 1,
        };
        if let Some(payload) = &mut self.payload {
            effect.encode(payload);
        }
        if let Effect::Set { key, .. } | Effect::SetRange { key, .. } = effect {
            self.emit_creation(key);
        }
        match effect {
            Effect::Set { key, value, deadline } => {
                self.on(key, |shard, to| shard.set(to, value, deadline));
            }
            Effect::SetRange { key, offset, bytes } => {
                self.on(key, |shard, to| shard.set_range(to, offset, bytes));
            }
            Effect::Del { keys } => {
                keys.iter().for_each(|key| self.on(key, |shard, to| shard.remove(to)));
            }
            Effect::PexpireAt { key, deadline } => {
                self.on(key, |shard, to| shard.set_deadline(to, Some(deadline)));
            }
            Effect::Persist { key } => self.on(key, |shard, to| shard.set_deadline(to, None)),
            Effect::FlushAll => self.flush(),
        }
    }

    fn flush(&mut self) {
        assert_eq!(self.guards.all().len(), SHARDS, "{NOT_LOCKED}");
        for (_, guard) in self.guards.all_mut() {
            self.flushed.push(guard.shard_mut().take_entries());
        }
    }

    /// Changes a key's locked shard.
    fn on<'k>(&mut self, key: &'k [u8], change: impl FnOnce(&mut Shard, Target<'k>)) {
        let hash = self.hash(key);
        let to = Target { place: hash.place, key, access: self.access() };
        change(self.held_mut(hash.shard), to);
    }

    /// Sets a key's recency. It is not in the log, as accesses are not.
    pub fn set_recency(&mut self, key: &[u8], recency: Recency) {
        let hash = self.hash(key);
        let table = self.held(hash.shard).table();
        if let Some(at) = table.find(hash.place, key) {
            table.set_recency(at, recency);
        }
    }

    /// Removes up to `limit` expired keys of a locked shard. Returns their number.
    pub fn expire(&mut self, shard: usize, limit: usize) -> usize {
        let now = self.now();
        let expired = self.held_mut(shard).take_expired(now, limit);
        if !expired.is_empty() {
            let keys: Vec<&[u8]> = expired.iter().map(Vec::as_slice).collect();
            keys.iter().for_each(|key| self.emit_expired(key));
            self.apply(Effect::Del { keys: &keys });
        }
        expired.len()
    }

    /// Removes those of a write's keys that it found expired and did not overwrite. Returns their number.
    pub fn reap<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) -> usize {
        if !self.saw_expired.take() {
            return 0;
        }
        let is_expired = |key: &&[u8]| self.find(key).is_some_and(|entry| !self.is_live(entry));
        let expired: Vec<&[u8]> = keys.filter(is_expired).collect();
        if !expired.is_empty() {
            self.apply(Effect::Del { keys: &expired });
        }
        expired.len()
    }

    /// Makes changes that do not count for WATCH, because they add up to none.
    pub fn unwatched<T>(&mut self, change: impl FnOnce(&mut Self) -> T) -> T {
        let mute = |guards: &Guards<'_>, muted| {
            guards.all().iter().for_each(|(_, guard)| guard.shard().watched.mute(muted));
        };
        mute(&self.guards, true);
        let result = change(self);
        mute(&self.guards, false);
        result
    }

    /// Does not count the effects so far as changes: they were read back from the log.
    pub fn forget_changes(&mut self) {
        self.changes = 0;
    }

    /// Records effects from now on, in a buffer that [`Tx::commit`] gives back.
    pub fn record_into(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        buffer.extend_from_slice(effect::MULTI);
        self.payload = Some(buffer);
    }

    /// Bytes recorded so far.
    pub fn payload_len(&self) -> usize {
        self.payload.as_ref().map_or(0, Vec::len)
    }

    /// The number of effects applied so far.
    pub fn effects(&self) -> usize {
        self.effects
    }

    /// Hands the record to `append` while the locks are held, so that the order of the log is the order in
    /// which effects were applied. Without effects there is no record. Gives the buffer back.
    pub fn commit(&mut self, append: impl FnOnce(&[u8]) -> Seq) -> (Option<Seq>, Vec<u8>) {
        let mut payload = self.payload.take().unwrap_or_default();
        let seq = match self.effects {
            0 => None,
            // A single effect needs no frame to be all or nothing.
            1 => Some(self.commit_record(|| append(&payload[effect::MULTI.len()..]))),
            _ => {
                payload.extend_from_slice(effect::EXEC);
                Some(self.commit_record(|| append(&payload)))
            }
        };
        (seq, payload)
    }

    /// As [`Tx::commit`], for a record that exists already. Marks the locked shards with its seq.
    pub fn commit_record(&mut self, append: impl FnOnce() -> Seq) -> Seq {
        let seq = append();
        for (_, guard) in self.guards.all_mut() {
            guard.shard_mut().last_seq = seq;
        }
        seq
    }
}
