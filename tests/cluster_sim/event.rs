//! The events of a run, and their order.

use crate::replication::LinkMessage;
use kvstore::aof::record::Epoch;
use kvstore::cluster::message::Message;
use kvstore::cluster::term::NodeId;

/// Something that happens at one moment.
#[derive(Debug)]
pub enum Event {
    Start(usize),
    Tick(usize, u64),
    Line {
        from: usize,
        to: usize,
        message: Message,
        commit: usize,
    },
    /// The log has been synced for a candidate.
    Synced(usize, u64),
    /// The winner writes the first record of its epoch.
    Begin(usize, u64, Epoch, Option<Vec<NodeId>>),
    /// The term reaches the disk, if a broken rule does not wait for it.
    TermSynced(usize, u64),
    LateLog(usize, u64),
    Fsync(usize, u64),
    Link {
        from: usize,
        to: usize,
        number: u64,
        message: LinkMessage,
    },
    /// The level of an acknowledgement has been read; its epoch is read now.
    Acknowledge {
        follower: usize,
        number: u64,
        level: usize,
    },
    /// An acknowledgement comes to the election's thread.
    Acked {
        node: usize,
        process: u64,
        from: NodeId,
        epoch: Epoch,
        level: usize,
    },
    Client,
    /// A batch's last command reads, some time after its first one.
    Read {
        node: usize,
        process: u64,
        batch: u64,
    },
    Gate {
        node: usize,
        process: u64,
        batch: u64,
    },
    Confirm(usize, u64),
    Promote(usize),
    Restart(usize),
    /// Something happens to a node that has just won.
    Hit(usize),
    CutPower(usize),
    /// A client reads from a node that has just woken up.
    StaleRead(usize),
    Fault,
    /// The operator adds a voter or removes one.
    ChangeMembers,
    DiskWorks(usize),
    Heal(usize, usize),
}

impl Event {
    /// The node to which it happens. A paused one takes it later.
    pub fn node(&self) -> Option<usize> {
        match self {
            Event::Tick(at, _)
            | Event::Synced(at, _)
            | Event::Begin(at, ..)
            | Event::TermSynced(at, _)
            | Event::LateLog(at, _)
            | Event::Fsync(at, _)
            | Event::Confirm(at, _)
            | Event::Promote(at)
            | Event::StaleRead(at) => Some(*at),
            Event::Line { to, .. } | Event::Link { to, .. } => Some(*to),
            Event::Acknowledge { follower: node, .. }
            | Event::Acked { node, .. }
            | Event::Read { node, .. }
            | Event::Gate { node, .. } => Some(*node),
            Event::Start(_)
            | Event::Restart(_)
            | Event::Hit(_)
            | Event::CutPower(_)
            | Event::Client
            | Event::Fault
            | Event::DiskWorks(_)
            | Event::ChangeMembers
            | Event::Heal(..) => None,
        }
    }

    /// The process to which it belongs. It is lost with it.
    pub fn process(&self) -> Option<u64> {
        match self {
            Event::Tick(_, process)
            | Event::Synced(_, process)
            | Event::Begin(_, process, ..)
            | Event::TermSynced(_, process)
            | Event::LateLog(_, process)
            | Event::Fsync(_, process)
            | Event::Confirm(_, process)
            | Event::Acked { process, .. }
            | Event::Read { process, .. }
            | Event::Gate { process, .. } => Some(*process),
            _ => None,
        }
    }
}

/// An event with its time and its number: of two at one time, the older one comes first.
#[derive(Debug)]
pub struct Timed(pub u64, pub u64, pub Event);

impl PartialEq for Timed {
    fn eq(&self, other: &Timed) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Timed) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, other: &Timed) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}
