//! What happens to a node's part in the election, on its way to the thread `cluster`.
//!
//! Many threads report here: those of the peers' connections, of followers' links, `repl-in`, the sync thread. One
//! thread takes it out, so the election sees one event after another.

use super::message::Input;
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Events that wait at most. Then the reporting thread waits.
const WAITING_MAX: usize = 1024;
/// For so long a reporting thread waits for room, and for the answer to an order: a disk may be slow.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// An event.
#[derive(Debug)]
pub struct Arrived {
    /// What happened.
    pub input: Input,
    /// Is told, after the event's outputs, whether everything that this node has promised is on its disk. False also if
    /// the event was an order that was refused.
    pub done: Option<Sender<bool>>,
}

/// Events that wait for the thread `cluster`.
#[derive(Debug)]
pub struct Inbox {
    sender: Sender<Arrived>,
    receiver: Receiver<Arrived>,
    is_closed: AtomicBool,
}

impl Default for Inbox {
    fn default() -> Inbox {
        let (sender, receiver) = bounded(WAITING_MAX);
        Inbox { sender, receiver, is_closed: AtomicBool::new(false) }
    }
}

impl Inbox {
    /// Reports an event. It is dropped if the thread `cluster` takes none: it has ended, or stands still.
    pub fn put(&self, input: Input) {
        self.send(Arrived { input, done: None });
    }

    fn send(&self, arrived: Arrived) -> bool {
        !self.is_closed.load(SeqCst) && self.sender.send_timeout(arrived, WAIT_MAX).is_ok()
    }

    /// Reports an event and waits until its outputs have been carried out. Returns whether everything that this node
    /// has promised is durable, and the order was not refused.
    pub fn order(&self, input: Input) -> bool {
        let (done, answer) = bounded(1);
        let arrived = Arrived { input, done: Some(done) };
        self.send(arrived) && answer.recv_timeout(WAIT_MAX).unwrap_or(false)
    }

    /// For the thread `cluster`, at its end: what waits, and what comes later, is dropped.
    pub fn close(&self) {
        self.is_closed.store(true, SeqCst);
        while self.receiver.try_recv().is_ok() {}
    }

    /// For the thread `cluster`: the next event, or None at the deadline.
    pub fn next(&self, deadline: Instant) -> Option<Arrived> {
        match self.receiver.try_recv() {
            Ok(arrived) => Some(arrived),
            Err(TryRecvError::Empty) => self.receiver.recv_deadline(deadline).ok(),
            Err(TryRecvError::Disconnected) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn events_come_out_in_order_and_an_order_waits_for_its_answer() {
        let inbox = Inbox::default();
        inbox.put(Input::Tick);
        thread::scope(|scope| {
            let ordering = scope.spawn(|| inbox.order(Input::Copies));
            let soon = Instant::now() + WAIT_MAX;
            assert_eq!(inbox.next(soon).expect("an event").input, Input::Tick);
            let arrived = inbox.next(soon).expect("an order");
            assert_eq!(arrived.input, Input::Copies);
            arrived.done.expect("it waits").send(true).expect("it waits");
            assert!(ordering.join().expect("no panic"));
        });
        assert!(inbox.next(Instant::now()).is_none(), "nothing is left");
    }
}
