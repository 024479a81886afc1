//! From commands to answers: attempts on the leader, repeated as [`super::retry`] allows; reads from followers.

use super::attempt::attempt;
use super::cluster::{Nodes, Target, leader_in_refusal};
use super::command::Command;
use super::error::{Error, code};
use super::followers::Followers;
use super::pool::Pool;
use super::reply::Value;
use super::retry::{Answer, Outcome, Verdict, judge};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The mean pause between two attempts.
const PAUSE: Duration = Duration::from_millis(25);

/// The state that all clones of a client share: the pools, and the times of a call.
#[derive(Debug)]
pub(super) struct Executor {
    pub nodes: Arc<Nodes>,
    pub leader: Pool<Target>,
    pub followers: Followers,
    /// The time for a connection of the pool to be returned.
    pub checkout: Duration,
    /// The time for a call with all its attempts.
    pub deadline: Duration,
}

/// A command that has no result yet.
struct Pending {
    at: usize,
    /// An earlier attempt was sent and not answered.
    in_doubt: Option<Error>,
}

impl Executor {
    /// The deadline of a call that begins now.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.deadline
    }

    /// Executes one command on the leader.
    pub fn execute(&self, command: &Command, deadline: Instant) -> Result<Answer, Error> {
        let mut results = self.execute_all(std::slice::from_ref(command), deadline);
        results.pop().expect("one result for each command")
    }

    /// Executes commands on the leader. Returns one result for each.
    pub fn execute_all(
        &self,
        commands: &[Command],
        deadline: Instant,
    ) -> Vec<Result<Answer, Error>> {
        let mut results: Vec<_> = commands.iter().map(|_| None).collect();
        let mut pending: Vec<_> =
            (0..commands.len()).map(|at| Pending { at, in_doubt: None }).collect();
        for number in 0.. {
            let batch: Vec<&Command> = pending.iter().map(|it| &commands[it.at]).collect();
            let outcomes = self.attempt_on_leader(&batch, deadline);
            let mut again = vec![];
            for (mut it, outcome) in pending.into_iter().zip(outcomes) {
                match judge(&commands[it.at], outcome) {
                    Verdict::Done(result) => results[it.at] = Some(it.settle(result)),
                    Verdict::Again(error) => {
                        if let Error::InDoubt(_) = error {
                            it.in_doubt = Some(error.clone());
                        }
                        // An attempt that the deadline cut short tells less than the answer before it, unless it
                        // was sent and may have been executed.
                        let is_cut_short = Instant::now() >= deadline;
                        if results[it.at].is_none() || !is_cut_short || it.in_doubt.is_some() {
                            results[it.at] = Some(it.settle(Err(error)));
                        }
                        again.push(it);
                    }
                }
            }
            if again.is_empty() || !pause(number, deadline) {
                break;
            }
            pending = again;
        }
        results.into_iter().map(|result| result.expect("one result for each command")).collect()
    }

    /// An attempt on the leader. An answer that only a follower gives ends the connections to that node.
    fn attempt_on_leader(&self, commands: &[&Command], deadline: Instant) -> Vec<Outcome> {
        let generation = self.leader.generation();
        let outcomes = attempt(&self.leader, commands, self.checkout, deadline);
        if let Some(refusal) = outcomes.iter().find_map(of_a_follower) {
            self.nodes.learn(leader_in_refusal(refusal));
            self.leader.retire(generation);
        }
        outcomes
    }

    /// Sends a read to the next node that does not lead. None if there is none to ask. Most of the call's time is
    /// left for the leader.
    pub fn ask_follower(
        &self,
        command: &Command,
        wait: Duration,
        turn: usize,
        deadline: Instant,
    ) -> Option<Outcome> {
        let follower = self.followers.next(turn, self.nodes.leader().as_deref())?;
        let now = Instant::now();
        let deadline = deadline.min(now + wait + deadline.saturating_duration_since(now) / 4);
        let outcome = attempt(&follower.pool, &[command], self.checkout, deadline).pop()?;
        if let Outcome::Unanswered(_) | Outcome::NotSent(Error::Unavailable(_)) = outcome {
            self.followers.avoid(follower);
        }
        Some(outcome)
    }
}

/// The text of an answer that only a follower gives.
fn of_a_follower(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Answered(Answer { value: Value::Error(text), .. })
            if matches!(code(text), "READONLY" | "MASTERDOWN" | "STALE") =>
        {
            Some(text)
        }
        _ => None,
    }
}

impl Pending {
    /// A command that was in doubt once remains so, unless a later attempt was executed.
    fn settle(&self, result: Result<Answer, Error>) -> Result<Answer, Error> {
        match (&self.in_doubt, result) {
            (Some(doubt), Err(_)) => Err(doubt.clone()),
            (_, result) => result,
        }
    }
}

/// Sleeps after the attempt with this number, from 0; false if there is no time for another. The second attempt
/// follows at once. Any later one has at least [`PAUSE`]: a write that is sent just before the deadline would only be
/// in doubt.
pub(super) fn pause(number: usize, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    if number == 0 {
        return !left.is_zero();
    }
    // Clients that lost the same leader do not all come at the same moment.
    let rest = PAUSE.mul_f64(0.5 + fastrand::f64());
    let has_time = left >= rest + PAUSE;
    if has_time {
        thread::sleep(rest);
    }
    has_time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_attempt_begins_just_before_the_deadline() {
        let of_ms = |left| Instant::now() + Duration::from_millis(left);
        assert!(pause(0, of_ms(20)) && !pause(0, of_ms(0)), "the second attempt follows at once");
        assert!(pause(1, of_ms(10_000)));
        assert!(!pause(1, of_ms(30)), "nothing would be left after a pause");
    }
}
