//! One attempt: commands out over a connection of a pool, answers in.

use super::cluster::Target;
use super::command::Command;
use super::connection::Connection;
use super::error::Error;
use super::pool::Pool;
use super::reply::Value;
use super::retry::{Answer, Outcome};
use std::io;
use std::time::{Duration, Instant};

/// Commands sent before their replies are read. With more, client and server could both wait for the other to read.
const CHUNK_LEN: usize = 256;

/// Sends commands and reads their replies. Returns an outcome for each. `checkout` is the time for a connection of the
/// pool to be returned.
pub(super) fn attempt(
    pool: &Pool<Target>,
    commands: &[&Command],
    checkout: Duration,
    deadline: Instant,
) -> Vec<Outcome> {
    let checkout = deadline.min(Instant::now() + checkout);
    let mut connection = match pool.checkout(checkout, deadline) {
        Ok(connection) => connection,
        Err(error) => {
            return commands.iter().map(|_| Outcome::NotSent(error.clone())).collect();
        }
    };
    let (mut outcomes, mut failure) = (Vec::with_capacity(commands.len()), None);
    for chunk in commands.chunks(CHUNK_LEN) {
        exchange(&mut connection, chunk, deadline, &mut outcomes, &mut failure);
    }
    // If its node is gone, the other connections are of no use either.
    if failure.is_some() {
        pool.retire(connection.generation());
    }
    outcomes
}

/// Sends a chunk and appends an outcome for each of its commands. After a failure, nothing is sent.
fn exchange(
    connection: &mut Connection,
    chunk: &[&Command],
    deadline: Instant,
    outcomes: &mut Vec<Outcome>,
    failure: &mut Option<String>,
) {
    let (mut bytes, mut ends) = (vec![], Vec::with_capacity(chunk.len()));
    for command in chunk {
        command.encode(&mut bytes);
        ends.push(bytes.len());
    }
    let mut sent = 0;
    if failure.is_none() {
        let replies = chunk.iter().map(|command| command.replies()).sum();
        sent = match connection.send(&bytes, replies, deadline) {
            Ok(()) => bytes.len(),
            Err(error) => {
                *failure = Some(error.error.to_string());
                error.sent
            }
        };
    }
    let mut is_readable = true;
    for (command, end) in chunk.iter().zip(ends) {
        if !may_be_executed(command, end, sent) {
            let why = failure.clone().unwrap_or_default();
            outcomes.push(Outcome::NotSent(Error::Unavailable(why)));
            continue;
        }
        // Replies may have come before a failure to send.
        let answer =
            if is_readable { Some(read_answer(connection, command, deadline)) } else { None };
        match answer {
            Some(Ok(answer)) => outcomes.push(Outcome::Answered(answer)),
            Some(Err(error)) => {
                is_readable = false;
                outcomes.push(Outcome::Unanswered(failure.insert(error.to_string()).clone()));
            }
            None => outcomes.push(Outcome::Unanswered(failure.clone().unwrap_or_default())),
        }
    }
}

/// True if the server may have all bytes of a command that ends at `end`, of which `sent` have left.
fn may_be_executed(command: &Command, end: usize, sent: usize) -> bool {
    // With a LASTSEQ after it, the command itself ends somewhere before.
    let is_begun = || {
        let mut bytes = vec![];
        command.encode(&mut bytes);
        sent > end - bytes.len()
    };
    sent >= end || (command.wants_token && is_begun())
}

fn read_answer(
    connection: &mut Connection,
    command: &Command,
    deadline: Instant,
) -> io::Result<Answer> {
    let waited = command.after.as_ref().map(|_| connection.receive(deadline)).transpose()?;
    let mut value = connection.receive(deadline)?;
    if let Some(refusal @ Value::Error(_)) = waited {
        value = refusal;
    }
    // The write is answered, with or without its token.
    let token = if command.wants_token { connection.receive(deadline).ok() } else { None };
    Ok(Answer { value, token })
}
