//! Clients that are cut off because they do not read what they are sent: counted and logged.

use crate::clients::Clients;
use crate::clients::outbox::SendError;
use crate::clients::socket::Addr;
use crate::config::Config;
use crate::metrics::{Metrics, Stat};

/// Counts and logs a client that was cut off because its output could not be sent.
pub fn record_cut(metrics: &Metrics, addr: Addr, error: &SendError) {
    match error {
        SendError::OverLimit(waiting) => {
            metrics[Stat::OutputLimitDisconnections].increment();
            log::warn!(
                "client {addr}: cut off with {waiting} bytes that it has not read \
                 (client-output-buffer-limit)"
            );
        }
        SendError::NoThread(error) => {
            metrics[Stat::PushThreadFailures].increment();
            log::warn!(
                "client {addr}: cut off, because there is no thread to send what it is slow to take: {error}; \
                 raise the limit of threads (ulimit -u, or the container's pids)"
            );
        }
        SendError::Closed(_) => {}
    }
}

/// Cuts off clients for which too much waits, or for too long, although nothing more is sent.
pub(crate) fn cut_slow_clients(clients: &Clients, config: &Config, metrics: &Metrics) {
    for client in clients.slow() {
        if let Some(waiting) = client.outbox.check(config.output_limit(client.class())) {
            record_cut(metrics, client.addr, &SendError::OverLimit(waiting));
        }
    }
}
