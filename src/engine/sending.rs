//! How replies leave after the gate, and which clients are cut off because they do not read them.

use super::parking::Parked;
use super::{Engine, Session};
use crate::clients::Client;
use crate::clients::outbox::SendError;
use crate::clock::Stopwatch;
use crate::config::OutputLimit;
use crate::metrics::Stat;
use crate::observe::monitor::{self, Overflown};
use crate::observe::probe::Unsettled;
use crate::protocol::Reply;
use std::net::SocketAddr;

impl Engine {
    /// Passes the gate with what has been answered and sends it. An error means that the client is gone or
    /// has been cut off.
    pub fn flush(&self, session: &mut Session, reply: &mut Reply) -> Result<(), SendError> {
        if reply.is_over_limit() {
            let bytes = reply.bytes().len();
            self.record_over_limit(session.client.addr, bytes);
            return Err(SendError::OverLimit(bytes));
        }
        let begins_monitoring = self.begin_monitoring(session);
        let is_open = self.pass_gate(session, reply)?;
        if is_open && !reply.bytes().is_empty() {
            self.send_replies(session, reply)?;
        }
        if begins_monitoring {
            // The first line comes after the reply to MONITOR.
            session.client.wait_unparked();
        }
        self.feed_monitor(session)
    }

    /// Sends a session's replies that have passed the gate.
    pub(crate) fn send_replies(
        &self,
        session: &mut Session,
        reply: &mut Reply,
    ) -> Result<(), SendError> {
        let limit = session.output_limit();
        let sent = self.send(&session.client, reply, limit, &mut session.probe.unsettled);
        reply.clear();
        sent
    }

    pub(super) fn send_parked(&self, parked: &mut Parked) {
        parked.client.outbox.unpark(parked.bytes);
        // An error means that the client is gone or has been cut off: it will not miss them.
        let _ = self.send(&parked.client, &parked.reply, parked.limit, &mut parked.unsettled);
    }

    fn send(
        &self,
        client: &Client,
        reply: &Reply,
        limit: OutputLimit,
        unsettled: &mut Unsettled,
    ) -> Result<(), SendError> {
        let stopwatch = unsettled.is_observed().then(Stopwatch::start);
        let sent = client.send(reply.bytes(), reply.largest_value(), limit);
        if let Some(stopwatch) = stopwatch {
            unsettled.sent(stopwatch.nanos());
        }
        self.metrics[Stat::OutputBytes].add(reply.bytes().len() as u64);
        sent.inspect_err(|error| self.record_cut(client.addr, error))
    }

    /// Joins the monitors if MONITOR was called in this batch; returns whether. It happens before the reply
    /// leaves: a client that has the reply misses nothing.
    fn begin_monitoring(&self, session: &mut Session) -> bool {
        let Some(dialect) = session.begins_monitoring.take() else { return false };
        session.monitoring =
            Some(self.monitors.join(&session.client, dialect, self.clients.memory()));
        true
    }

    /// Sends a monitor the lines that have come for it. An error means that it is gone or has been cut off.
    pub fn feed_monitor(&self, session: &mut Session) -> Result<(), SendError> {
        let Some(monitoring) = &session.monitoring else { return Ok(()) };
        let sent = match monitoring.take() {
            Ok(lines) if lines.is_empty() => return Ok(()),
            Ok(lines) => {
                self.metrics[Stat::OutputBytes].add(lines.len() as u64);
                session.client.send(&lines, 0, monitor::limit(session.output_limit()))
            }
            Err(Overflown) => Err(SendError::OverLimit(session.client.outbox.queued_bytes())),
        };
        sent.inspect_err(|error| {
            let SendError::OverLimit(waiting) = error else {
                return self.record_cut(session.client.addr, error);
            };
            self.metrics[Stat::OutputLimitDisconnections].increment();
            log::warn!(
                "client {}: a monitor that cannot keep up is cut off ({waiting} bytes not read)",
                session.client.addr
            );
        })
    }

    /// How much may wait for a client, by the settings as they are now.
    pub fn output_limit(&self, client: &Client) -> OutputLimit {
        self.config.output_limit(client.class())
    }

    /// Cuts off clients for which too much waits, or for too long, although nothing more is sent.
    pub(super) fn cut_slow_clients(&self) {
        for client in self.clients.slow() {
            if let Some(waiting) = client.outbox.check(self.output_limit(&client)) {
                self.record_over_limit(client.addr, waiting);
            }
        }
    }

    /// Counts and logs a client that was cut off because its replies could not be sent.
    pub(crate) fn record_cut(&self, addr: SocketAddr, error: &SendError) {
        match error {
            SendError::OverLimit(waiting) => self.record_over_limit(addr, *waiting),
            SendError::NoThread(error) => {
                self.metrics[Stat::PushThreadFailures].increment();
                log::warn!(
                    "client {addr}: cut off, because there is no thread to send what it is slow to \
                     take: {error}; raise the limit of threads (ulimit -u, or the container's pids)"
                );
            }
            SendError::Closed(_) => {}
        }
    }

    fn record_over_limit(&self, addr: SocketAddr, waiting: usize) {
        self.metrics[Stat::OutputLimitDisconnections].increment();
        log::warn!(
            "client {addr}: cut off with {waiting} bytes that it has not read \
             (client-output-buffer-limit)"
        );
    }
}
