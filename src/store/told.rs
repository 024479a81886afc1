//! What a transaction has to tell about keys: noted while it runs, published by the engine when the locks
//! are released. Without `notify-keyspace-events` there is nothing of this, and asking costs a branch.

use super::Tx;
use super::effect::Effect;
use crate::clock::UnixMillis;
use crate::event::{Classes, Event};
use std::cell::RefCell;
use std::collections::HashSet;

/// The events of a transaction, in the order in which they happened.
#[derive(Debug)]
pub(super) struct Told {
    classes: Classes,
    /// Whether the command may change data. One that may not leaves expired keys to the sweeper.
    write: bool,
    events: Vec<Event>,
    /// Keys of which it has been told that they expired; they may still be in the table.
    expired: HashSet<Box<[u8]>>,
}

impl Tx<'_> {
    /// From here on events of these classes are noted, as of a command that may write.
    pub fn tell_events(&mut self, classes: Classes) {
        if classes.are_told() {
            let (events, expired) = (Vec::new(), HashSet::new());
            let told = Told { classes, write: true, events, expired };
            self.told = Some(Box::new(RefCell::new(told)));
        }
    }

    /// A command begins; `write` says whether it may write.
    pub fn telling_of(&self, write: bool) {
        if let Some(told) = &self.told {
            told.borrow_mut().write = write;
        }
    }

    /// Notes an event.
    pub fn tell(&self, class: Classes, name: &'static str, key: &[u8]) {
        if let Some(told) = &self.told {
            let told = &mut *told.borrow_mut();
            if told.classes.has(class) {
                told.events.push(Event { name, key: key.into() });
            }
        }
    }

    /// Applies an effect that another node has logged, and notes the event that it says by itself: which
    /// command it was of is not in the log. A deletion after the deadline is an expiry.
    pub fn apply_telling(&mut self, effect: Effect<'_>) {
        if self.told.is_none() {
            return self.apply(effect);
        }
        match effect {
            Effect::Set { key, deadline, .. } => {
                // INCR and its like set a value again with the deadline that it has.
                let expires = deadline.is_some() && self.deadline_of(key) != Some(deadline);
                self.apply(effect);
                self.tell(Classes::STRING, "set", key);
                if expires {
                    self.tell(Classes::GENERIC, "expire", key);
                }
            }
            Effect::SetRange { key, .. } => {
                self.apply(effect);
                self.tell(Classes::STRING, "setrange", key);
            }
            Effect::Del { keys } => {
                for key in keys.iter().filter(|key| self.is_there(key)) {
                    self.tell(Classes::GENERIC, "del", key);
                }
                self.apply(effect);
            }
            Effect::PexpireAt { key, .. } => self.apply_to_deadline(effect, "expire", key),
            Effect::Persist { key } => self.apply_to_deadline(effect, "persist", key),
            Effect::FlushAll => self.apply(effect),
        }
    }

    fn apply_to_deadline(&mut self, effect: Effect<'_>, event: &'static str, key: &[u8]) {
        if self.deadline_of(key).is_some() {
            self.tell(Classes::GENERIC, event, key);
        }
        self.apply(effect);
    }

    /// The deadline of a key, passed or not, if the key is in the table.
    fn deadline_of(&self, key: &[u8]) -> Option<Option<UnixMillis>> {
        let (shard, place) = self.shard_of(key);
        shard.find(place, key).map(|entry| entry.deadline())
    }

    /// What has been noted.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.told.take().map_or_else(Vec::new, |told| told.into_inner().events)
    }

    /// A write came across an expired key, perhaps not for the first time.
    pub(super) fn tell_expired(&self, key: &[u8]) {
        let Some(told) = &self.told else { return };
        let told = &mut *told.borrow_mut();
        if told.write && told.expired.insert(key.into()) && told.classes.has(Classes::EXPIRED) {
            told.events.push(Event { name: "expired", key: key.into() });
        }
    }

    /// A value is about to be given to a key; perhaps it is not there.
    pub(super) fn tell_creation(&self, key: &[u8]) {
        if self.told.is_none() {
            return;
        }
        if !self.is_there(key) {
            self.tell(Classes::NEW, "new", key);
        }
        // The new value may expire, too.
        if let Some(told) = &self.told {
            told.borrow_mut().expired.remove(key);
        }
    }

    /// A key was looked for in vain. Redis tells only those who read.
    pub(super) fn tell_miss(&self, key: &[u8], reads: bool) {
        let Some(told) = &self.told else { return };
        let is_told = reads || !told.borrow().write;
        if is_told {
            self.tell(Classes::MISS, "keymiss", key);
        }
    }
}
