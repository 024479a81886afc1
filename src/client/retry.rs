//! The rules for repeating a command after a failure.
//!
//! | what happened | a command that reads | a command that writes |
//! |---|---|---|
//! | not sent: no leader known, no connection | again | again |
//! | READONLY, LOADING, MASTERDOWN: not executed | again | again |
//! | STALE: the node may not lead any more | again | the answer |
//! | sent, and no answer; INDOUBT, MISCONF | again | [`Error::InDoubt`], unless the caller allows a repetition |
//! | the pool was exhausted for the time of a checkout | [`Error::Exhausted`] | [`Error::Exhausted`] |
//! | any other answer | the answer | the answer |
//!
//! *Again* is until the deadline of the call, with a pause of about 25 ms; none begins in the last 25 ms. Not even a
//! SET is repeated by itself: the first one may have been executed, and another client may have written since, whose
//! newer value the second one would undo. That is harmless for keys with one writer, and only the caller knows them.
//!
//! A wait for a connection is not repeated, because the waiter would lose its place in the queue.
//!
//! Each command of a pipeline is judged alone: what was answered is kept.

use super::command::Command;
use super::error::{Error, code};
use super::reply::Value;

/// The result of one attempt to execute a command.
#[derive(Debug)]
pub(super) enum Outcome {
    /// No byte of it has left.
    NotSent(Error),
    /// The server may have it.
    Unanswered(String),
    /// The server's answer, perhaps an error.
    Answered(Answer),
}

/// An answer, and the token of the write if it was asked for.
#[derive(Debug)]
pub(super) struct Answer {
    pub value: Value,
    pub token: Option<Value>,
}

/// The decision after an outcome.
#[derive(Debug)]
pub(super) enum Verdict {
    Done(Result<Answer, Error>),
    /// Send it again. The error is the result if there is no time for that.
    Again(Error),
}

/// Decides about one command.
pub(super) fn judge(command: &Command, outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::NotSent(error @ Error::Unavailable(_)) => Verdict::Again(error),
        // A wrong password stays wrong. For an exhausted pool, the waiting was the attempt.
        Outcome::NotSent(error) => Verdict::Done(Err(error)),
        Outcome::Unanswered(why) => unconfirmed(command, why, Error::Unavailable),
        Outcome::Answered(Answer { value: Value::Error(text), .. }) => refused(command, text),
        Outcome::Answered(answer) => Verdict::Done(Ok(answer)),
    }
}

fn refused(command: &Command, text: String) -> Verdict {
    match code(&text) {
        "READONLY" | "LOADING" | "MASTERDOWN" => Verdict::Again(Error::Refused(text)),
        "INDOUBT" | "MISCONF" => unconfirmed(command, text, Error::Refused),
        // The node does not have what the leader must have, or is not sure that it still leads.
        "STALE" if command.is_read => Verdict::Again(Error::Refused(text)),
        _ => Verdict::Done(Err(Error::Refused(text))),
    }
}

/// The command may have been executed.
fn unconfirmed(command: &Command, why: String, of_a_read: fn(String) -> Error) -> Verdict {
    match (command.is_read, command.is_repeatable) {
        (true, _) => Verdict::Again(of_a_read(why)),
        (false, true) => Verdict::Again(Error::InDoubt(why)),
        (false, false) => Verdict::Done(Err(Error::InDoubt(why))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict on a read, on a write, and on a write that may be repeated.
    fn verdicts(outcome: impl Fn() -> Outcome) -> [String; 3] {
        let read = Command::new(["GET", "k"]).unwrap();
        let write = Command::new(["SET", "k", "v"]).unwrap();
        let mut allowed = write.clone();
        allowed.is_repeatable = true;
        [read, write, allowed].map(|command| match judge(&command, outcome()) {
            Verdict::Again(_) => "again".to_owned(),
            Verdict::Done(Ok(_)) => "value".to_owned(),
            Verdict::Done(Err(error)) => {
                format!("{error:?}").split(['(', ' ']).next().unwrap_or_default().to_owned()
            }
        })
    }

    fn answered(text: &str) -> [String; 3] {
        let value = || Value::Error(format!("{text} for some reason"));
        verdicts(|| Outcome::Answered(Answer { value: value(), token: None }))
    }

    #[test]
    fn the_table_holds() {
        let unsent = || Outcome::NotSent(Error::Unavailable(String::new()));
        assert_eq!(verdicts(unsent), ["again", "again", "again"]);
        let exhausted = Error::Exhausted { waited: std::time::Duration::ZERO, waiting: 1 };
        let full = || Outcome::NotSent(exhausted.clone());
        assert_eq!(verdicts(full), ["Exhausted", "Exhausted", "Exhausted"]);
        let unanswered = || Outcome::Unanswered(String::new());
        assert_eq!(verdicts(unanswered), ["again", "InDoubt", "again"]);
        for text in ["READONLY", "LOADING", "MASTERDOWN"] {
            assert_eq!(answered(text), ["again", "again", "again"], "{text}");
        }
        for text in ["INDOUBT", "MISCONF"] {
            assert_eq!(answered(text), ["again", "InDoubt", "again"], "{text}");
        }
        assert_eq!(answered("STALE"), ["again", "Refused", "Refused"]);
        for text in ["ERR", "WRONGTYPE", "OOM", "DIVERGED", "NOREPLICAS"] {
            assert_eq!(answered(text), ["Refused", "Refused", "Refused"], "{text}");
        }
    }
}
