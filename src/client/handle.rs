//! The client: commands to the node that leads, wherever it is.

use super::command::Command;
use super::convert::FromValue;
use super::error::Error;
use super::executor::Executor;
use super::pipeline::Pipeline;
use super::pool::Figures;
use super::session::{Reads, Session};
use super::subscriber::Subscriber;
use std::sync::Arc;
use std::time::Duration;

/// A client of one server, or of a leader and its followers. Clones share one pool; each may be used by many
/// threads. The connections are closed when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) executor: Arc<Executor>,
}

impl Client {
    /// Any command that does not change its connection.
    pub fn command(&self, args: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Call<'_> {
        Call { executor: &self.executor, command: Command::new(args) }
    }

    /// The value of a key.
    pub fn get<T: FromValue>(&self, key: impl AsRef<[u8]>) -> Result<T, Error> {
        self.command([b"GET", key.as_ref()]).query()
    }

    /// Sets a key.
    pub fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.command([b"SET", key.as_ref(), value.as_ref()]).query()
    }

    /// Sets a key for a time, of which whole milliseconds count.
    pub fn set_for(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        time: Duration,
    ) -> Result<(), Error> {
        let millis = time.as_millis().to_string();
        self.command([b"SET", key.as_ref(), value.as_ref(), b"PX", millis.as_bytes()]).query()
    }

    /// Deletes a key. True if it was there.
    pub fn del(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.command([b"DEL", key.as_ref()]).query()
    }

    /// Adds 1 to a number; returns the new one.
    pub fn incr(&self, key: impl AsRef<[u8]>) -> Result<i64, Error> {
        self.command([b"INCR", key.as_ref()]).query()
    }

    /// Sets a key if its value is the expected one; None expects that it does not exist. True if it was set.
    pub fn compare_and_set<V: AsRef<[u8]> + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&V>,
        new: impl AsRef<[u8]>,
    ) -> Result<bool, Error> {
        let mut args = vec![b"SET", key.as_ref(), new.as_ref()];
        match expected {
            Some(old) => args.extend([&b"IFEQ"[..], old.as_ref()]),
            None => args.push(b"NX"),
        }
        self.command(args).query()
    }

    /// Sends a message. Returns how many clients of the leader got it.
    pub fn publish(
        &self,
        channel: impl AsRef<[u8]>,
        payload: impl AsRef<[u8]>,
    ) -> Result<u64, Error> {
        self.command([b"PUBLISH", channel.as_ref(), payload.as_ref()]).query()
    }

    /// An empty pipeline.
    pub fn pipeline(&self) -> Pipeline<'_> {
        Pipeline::new(&self.executor)
    }

    /// A session that reads its own writes.
    pub fn session(&self, reads: Reads) -> Session {
        Session::new(Arc::clone(&self.executor), reads)
    }

    /// Subscribes to channels, over a connection outside the pool. When it returns, the server has confirmed them.
    pub fn subscribe(
        &self,
        channels: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Subscriber, Error> {
        let channels = channels.into_iter().map(|channel| channel.as_ref().to_vec()).collect();
        Subscriber::new(Arc::clone(&self.executor), channels)
    }

    /// The state of the pool of connections to the leader.
    pub fn figures(&self) -> Figures {
        self.executor.leader.figures()
    }

    /// `host:port` of the node that led when the client last asked.
    pub fn leader(&self) -> Option<String> {
        self.executor.nodes.leader()
    }
}

/// One command that is not sent yet.
#[derive(Debug)]
#[must_use = "it is sent by `query`"]
pub struct Call<'c> {
    executor: &'c Executor,
    command: Result<Command, Error>,
}

impl Call<'_> {
    /// Allows that it is sent again if it is in doubt, so that it may be executed twice. For keys with one writer.
    pub fn may_repeat(mut self) -> Self {
        if let Ok(command) = &mut self.command {
            command.is_repeatable = true;
        }
        self
    }

    /// Sends it and returns its reply.
    pub fn query<T: FromValue>(self) -> Result<T, Error> {
        T::from_value(self.executor.execute(&self.command?, self.executor.deadline())?.value)
    }
}
