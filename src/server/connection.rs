//! One connection: read what is there, run every whole request, send the replies once.
//!
//! ```text
//!  read ─▶ [ buffer ] ─▶ decode ─▶ execute ─▶ decode ─▶ execute ─ … ─▶ the gate ─▶ send ─▶ read
//! ```
//!
//! The memory that a client can make this thread hold: its unfinished request, at most
//! `client-query-buffer-limit`, grown only by bytes that arrived; replies of one batch, sent at the
//! latest when they exceed 64 KiB by one reply; these and what it does not read, together at most
//! `client-output-buffer-limit` and one value of `proto-max-bulk-len`, so that every single value can be
//! read. A client over a limit is cut off and logged; the others do not notice.

use super::look::Look;
use crate::clock::Stopwatch;
use crate::commands::text;
use crate::config::Id;
use crate::engine::session::Serve;
use crate::engine::{Client, Ending, Engine, Session};
use crate::error::Failure;
use crate::metrics::Stat;
use crate::observe::monitor;
use crate::protocol::{Decoder, Dialect, Input, Limits, Reply, Step};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// The buffer's first size: an idle connection should cost little.
const INPUT_BYTES_MIN: usize = 512;
/// The buffer grows up to here when reads fill it, and beyond only for a request that needs it.
const INPUT_BYTES_READ: usize = 64 << 10;
/// Replies of one batch are sent before they exceed this by more than one reply.
const REPLY_BYTES_FLUSH: usize = 64 << 10;
/// Before a close, how long and how much to read on so that the last reply is not lost: closing with
/// unread input resets the connection, and the reset overtakes the reply.
const LINGER_TIME: Duration = Duration::from_millis(200);
const LINGER_READS_MAX: usize = 64;

/// A connection over `maxclients` has so long to say that it is another node's.
const SPARE_TIME: Duration = Duration::from_secs(1);

/// Why a connection ends.
enum End {
    /// The peer has sent all it will send, or left.
    PeerDone,
    /// It asked for it, or broke the protocol: told, then closed.
    Told,
    /// Cut off without a word.
    Cut,
}

/// Serves one client until it leaves.
pub fn serve(engine: &Engine, client: Arc<Client>) {
    let registration = engine.clients.hold(client);
    let mut connection = Connection::open(engine, Arc::clone(&registration.client));
    let end = connection.run();
    // Or messages would go on coming while the last of them are waited for.
    connection.session.subscriptions.leave_all();
    let outbox = &registration.client.outbox;
    if !matches!(end, End::Cut) {
        registration.client.wait_unparked();
        outbox.drain();
    }
    if matches!(end, End::Told) {
        linger(outbox.socket());
    }
}

struct Connection<'e> {
    engine: &'e Engine,
    session: Session,
    decoder: Decoder,
    input: Input,
    reply: Reply,
    read_timeout: Option<Duration>,
    look: Look,
    /// The last batch was a single request, or wrote to the log: see [`crate::clients::aside`].
    steps_aside: bool,
}

impl<'e> Connection<'e> {
    /// On the heap, and not put together in the caller's frame: a thread's stack is to fit into two pages for most
    /// commands.
    #[inline(never)]
    fn open(engine: &'e Engine, client: Arc<Client>) -> Box<Connection<'e>> {
        Box::new(Connection {
            engine,
            session: Session::new(engine, client),
            decoder: Decoder::default(),
            input: Input::new(INPUT_BYTES_MIN, INPUT_BYTES_READ),
            reply: Reply::new(Dialect::Resp2),
            read_timeout: None,
            look: Look::default(),
            steps_aside: true,
        })
    }

    fn run(&mut self) -> End {
        loop {
            if let Err(end) = self.read().and_then(|()| self.run_requests()) {
                return end;
            }
        }
    }

    /// Waits for more input.
    fn read(&mut self) -> Result<(), End> {
        // A client that is silent should cost little, whatever it has asked for before.
        self.decoder.shrink();
        self.session.shrink();
        let held =
            self.input.capacity() + self.decoder.allocated_bytes() + self.session.allocated_bytes();
        self.session.client.record_input(self.input.waiting().len(), held);
        self.set_timeout();
        if self.steps_aside {
            self.engine.clients.aside.step();
        }
        let room = self.input.room();
        let socket = self.session.client.outbox.socket();
        match self.look.read(&self.engine.clients.looking, socket, room) {
            Ok(0) => Err(End::PeerDone),
            Ok(n) => {
                self.input.filled(n);
                self.engine.metrics[Stat::InputBytes].add(n as u64);
                self.check_query_limit()
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) if is_timeout(&error) && self.session.monitoring.is_on() => {
                let Session { monitoring, config, .. } = &self.session;
                monitoring.feed(config, &self.engine.metrics).map_err(|_| End::Cut)
            }
            Err(error) if is_timeout(&error) => {
                log::debug!("client {}: idle for too long; closing", self.session.client.addr);
                Err(End::Told)
            }
            Err(_) => Err(End::PeerDone),
        }
    }

    /// Runs every whole request in the buffer and sends the replies.
    fn run_requests(&mut self) -> Result<(), End> {
        self.engine.begin_batch(&mut self.session);
        let bulk_len_max = self.session.config.value_len_max as u64;
        self.limit_replies();
        let (mut requests, mut is_last) = (0, false);
        let written_before = self.session.last_write;
        loop {
            let unauthenticated = !self.session.authenticated;
            let limits = Limits { bulk_len_max, unauthenticated };
            let step = self.decoder.step(self.input.waiting(), limits);
            if let Some(answers) = self.decoder.take_telnet_answers() {
                self.reply.raw(&answers);
            }
            let used = match step {
                Step::NeedMore => break,
                Step::Skip(used) => used,
                Step::Resp(used) => {
                    self.session.record_resp();
                    self.reply.set_dialect(self.session.resp);
                    let args = self.decoder.args(self.input.waiting());
                    self.engine.execute(&mut self.session, args, &mut self.reply);
                    used
                }
                Step::Text(used) => {
                    self.run_line();
                    used
                }
                Step::BadLine(used, failure) => {
                    self.refuse_line(failure);
                    used
                }
                Step::Fatal(failure) => return Err(self.protocol_error(&failure)),
            };
            self.input.consume(used);
            requests += 1;
            match std::mem::take(&mut self.session.ending) {
                Ending::None => {}
                Ending::AfterBatch => is_last = true,
                Ending::HandOver(serve) => self.hand_over(serve)?,
                Ending::AfterReply => {
                    self.flush()?;
                    return Err(End::Told);
                }
                Ending::Now => return Err(End::Cut),
            }
            if self.reply.bytes().len() > REPLY_BYTES_FLUSH {
                self.flush()?;
                self.limit_replies();
                // The next command did not take the time of this.
                self.session.probe.stopwatch = Stopwatch::start();
            }
        }
        self.flush()?;
        self.steps_aside = requests == 1 || self.session.last_write != written_before;
        if is_last { Err(End::Told) } else { Ok(()) }
    }

    /// Leaves the connection to a function. If that served something until the end, the connection ends.
    fn hand_over(&mut self, serve: Serve) -> Result<(), End> {
        self.flush()?;
        match serve(self.engine, &mut self.session, self.input.waiting()) {
            Ok(true) => Err(End::Cut),
            Ok(false) => Ok(()),
            Err(failure) => {
                let dialect = self.reply.dialect();
                self.reply_failure(dialect, &failure);
                Ok(())
            }
        }
    }

    /// The next replies may take what is left of the output limit: what waits already counts.
    fn limit_replies(&mut self) {
        let limit = self.session.output_limit();
        self.reply.set_limit(self.session.client.outbox.room(limit));
    }

    fn run_line(&mut self) {
        let (line, words) = (self.decoder.line(), self.decoder.words());
        match text::arguments(&self.engine.commands, line, words) {
            Ok(spans) => {
                let args = self.decoder.line_args(&spans);
                self.session.record_line(args);
                self.reply.set_dialect(self.session.line_dialect());
                self.engine.execute(&mut self.session, args, &mut self.reply);
            }
            Err(failure) => self.refuse_line(failure),
        }
    }

    fn refuse_line(&mut self, failure: Failure) {
        self.reply.set_dialect(self.session.line_dialect());
        self.engine.refuse_line(&mut self.session, failure, &mut self.reply);
    }

    /// Passes the gate and sends what has been answered.
    fn flush(&mut self) -> Result<(), End> {
        self.engine.flush(&mut self.session, &mut self.reply).map_err(|_| End::Cut)
    }

    fn protocol_error(&mut self, failure: &Failure) -> End {
        self.engine.metrics[Stat::ProtocolErrors].increment();
        log::info!("client {}: {failure}; closing", self.session.client.addr);
        self.reply_failure(self.session.resp, failure);
        self.flush().err().unwrap_or(End::Told)
    }

    fn reply_failure(&mut self, dialect: Dialect, failure: &Failure) {
        self.engine.metrics.count_error(failure.code());
        self.reply.set_dialect(dialect);
        self.reply.error(failure);
    }

    fn check_query_limit(&mut self) -> Result<(), End> {
        let held = self.input.waiting().len() + self.decoder.allocated_bytes();
        if held as u64 <= self.engine.config.int(Id::ClientQueryBufferLimit) as u64 {
            return Ok(());
        }
        self.engine.metrics[Stat::QueryLimitDisconnections].increment();
        log::warn!(
            "client {}: its request exceeds client-query-buffer-limit; cut off",
            self.session.client.addr
        );
        Err(End::Cut)
    }

    /// `timeout` may change at any time; the socket is told only when it does.
    fn set_timeout(&mut self) {
        let seconds = self.engine.config.int(Id::Timeout) as u64;
        // A subscriber has nothing to say.
        let applies = seconds > 0 && self.session.subscriptions.is_empty();
        let idle = applies.then(|| Duration::from_secs(seconds));
        let idle = if self.session.client.is_spare { Some(SPARE_TIME) } else { idle };
        let timeout = if self.session.monitoring.is_on() { Some(monitor::PACE) } else { idle };
        if timeout != self.read_timeout {
            self.read_timeout = timeout;
            // It fails only on a broken socket, which the read will tell.
            let _ = self.session.client.outbox.socket().set_read_timeout(timeout);
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// The last reply is on its way; read on a little, so that it arrives.
pub(crate) fn linger<S: AsFd>(socket: &S)
where
    for<'s> &'s S: Read,
{
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
    let _ = set_socket_timeout(socket, Timeout::Recv, Some(LINGER_TIME));
    // On the heap: in the frame of a connection's thread it would cost each of them a page.
    let mut scrap = vec![0; 4096];
    for _ in 0..LINGER_READS_MAX {
        match (&mut &*socket).read(&mut scrap) {
            Ok(n) if n > 0 => {}
            _ => break,
        }
    }
}
