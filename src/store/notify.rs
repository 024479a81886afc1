//! Keyspace notifications: the events that a transaction collects, to be published after its locks are
//! released. The caller says which events are wanted. Without any, there is no list, and emitting an
//! event costs a branch.

use super::Tx;
use std::cell::RefCell;
use std::collections::HashSet;

/// Something that happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Redis's name for it.
    pub name: &'static str,
    /// The key.
    pub key: Box<[u8]>,
}

/// The events of a transaction, in the order in which they happened.
pub(super) struct Notifications {
    is_wanted: Box<dyn Fn(&str) -> bool>,
    /// The current command may write. A read leaves expired keys to the sweeper.
    write: bool,
    events: Vec<Event>,
    /// Keys whose expiry has been emitted; they may still be in the table.
    expired: HashSet<Box<[u8]>>,
}

impl Notifications {
    fn emit(&mut self, name: &'static str, key: &[u8]) {
        if (self.is_wanted)(name) {
            self.events.push(Event { name, key: key.into() });
        }
    }
}

impl Tx<'_> {
    /// Collects events from now on: those whose name is wanted.
    pub fn collect_events(&mut self, is_wanted: impl Fn(&str) -> bool + 'static) {
        self.notifications = Some(Box::new(RefCell::new(Notifications {
            is_wanted: Box::new(is_wanted),
            write: true,
            events: Vec::new(),
            expired: HashSet::new(),
        })));
    }

    /// True if it collects events.
    pub fn collects_events(&self) -> bool {
        self.notifications.is_some()
    }

    /// Takes the events collected so far, and collects no more.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.notifications.take().map_or_else(Vec::new, |list| list.into_inner().events)
    }

    /// The next command begins. Whether it may write decides which events it causes by itself.
    pub fn set_command_kind(&self, write: bool) {
        if let Some(list) = &self.notifications {
            list.borrow_mut().write = write;
        }
    }

    /// Emits an event.
    pub fn emit(&self, name: &'static str, key: &[u8]) {
        if let Some(list) = &self.notifications {
            list.borrow_mut().emit(name, key);
        }
    }

    /// A command found an expired key. A write emits that once for each key.
    pub(super) fn emit_expired(&self, key: &[u8]) {
        let Some(list) = &self.notifications else { return };
        let list = &mut *list.borrow_mut();
        if list.write && list.expired.insert(key.into()) {
            list.emit("expired", key);
        }
    }

    /// A key is about to get a value, which may expire again.
    pub(super) fn emit_creation(&self, key: &[u8]) {
        let Some(list) = &self.notifications else { return };
        if !self.find(key).is_some_and(|entry| self.is_live(entry)) {
            self.emit("new", key);
        }
        list.borrow_mut().expired.remove(key);
    }

    /// A read did not find a key. As in Redis, a write that looks at a key first emits nothing.
    pub(super) fn emit_miss(&self, key: &[u8], reads: bool) {
        let Some(list) = &self.notifications else { return };
        let list = &mut *list.borrow_mut();
        if reads || !list.write {
            list.emit("keymiss", key);
        }
    }
}
