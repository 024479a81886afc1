//! A checker of linearizability: is there one order of all calls, each at a moment between its sending and its
//! answer, in which a plain register gives the same answers?
//!
//! ```text
//!  client 1   |--------|             SET 5   OK
//!  client 2      |----------|        GET     5 and nil are both right
//!  client 3            |.........>   INCR    no answer: it happens at any later time, or never
//! ```
//!
//! Each key is a register, and a history is linearizable if that of each key is (Herlihy and Wing, 1990), so each
//! key is checked by itself. The search is that of Wing and Gong (1993): take a call that no other call precedes,
//! apply it, go on with the rest, and go back where an answer does not fit. Lowe (2017) added the memory: of two
//! ways that took the same calls and led to the same value, only the first is followed.
//!
//! A call without an answer may stay out of the order. Many of them on one key are what makes the search long, so
//! each round of a test that kills servers takes new keys. `diagram` shortens and draws what has no order.

use std::collections::HashSet;

/// Calls that one search may try. A history that needs more has too many calls in doubt on one key.
const TRIES_MAX: usize = 50_000_000;

/// A command on one key. All values are numbers, so INCR never fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Get,
    Set(i64),
    Del,
    Incr,
    SetIfEq { expected: i64, value: i64 },
}

/// The reply to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Ok,
    Nil,
    Number(i64),
}

/// A command that a client sent. Times are on one clock for all clients, in any unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub client: usize,
    pub op: Op,
    /// Just before it was sent.
    pub called: u64,
    /// Just after its answer was read. None: no answer came, or one that leaves it in doubt. Then the command may
    /// take effect at any later time, or never.
    pub answered: Option<(u64, Answer)>,
}

/// The value of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    Absent,
    Holds(i64),
    /// Anything: the history does not begin with the key's first call.
    Unknown,
}

/// Fails if no order explains the answers of these calls on one key, which did not exist at first.
pub fn check(calls: &[Call]) -> Result<(), super::diagram::Violation> {
    if is_explained(calls, State::Absent) {
        return Ok(());
    }
    Err(super::diagram::Violation::shorten(calls))
}

/// True if there is an order of these calls, from this state on.
pub(super) fn is_explained(calls: &[Call], start: State) -> bool {
    Search::new(calls, start).run()
}

impl Op {
    /// The answer to it in a state, and the next state.
    fn apply(self, state: Option<i64>) -> (Answer, Option<i64>) {
        match self {
            Op::Get => (state.map_or(Answer::Nil, Answer::Number), state),
            Op::Set(value) => (Answer::Ok, Some(value)),
            Op::Del => (Answer::Number(i64::from(state.is_some())), None),
            Op::Incr => {
                let next = state.unwrap_or(0) + 1;
                (Answer::Number(next), Some(next))
            }
            Op::SetIfEq { expected, value } if state == Some(expected) => (Answer::Ok, Some(value)),
            Op::SetIfEq { .. } => (Answer::Nil, state),
        }
    }
}

impl Call {
    /// The state after it. None if its answer does not fit to the state before it.
    fn step(&self, state: State) -> Option<State> {
        let answer = self.answered.map(|(_, answer)| answer);
        let before = match state {
            State::Unknown => return Some(self.learn()),
            State::Absent => None,
            State::Holds(value) => Some(value),
        };
        let (given, after) = self.op.apply(before);
        answer.is_none_or(|answer| answer == given).then_some(after.into())
    }

    /// The state after this call if the one before it is unknown.
    fn learn(&self) -> State {
        match (self.op, self.answered.map(|(_, answer)| answer)) {
            (Op::Set(value), _) | (Op::SetIfEq { value, .. }, Some(Answer::Ok)) => {
                State::Holds(value)
            }
            (Op::Get | Op::Incr, Some(Answer::Number(value))) => State::Holds(value),
            (Op::Get, Some(Answer::Nil)) | (Op::Del, _) => State::Absent,
            _ => State::Unknown,
        }
    }

    /// True if an answer says that the call changed nothing.
    pub(super) fn is_without_effect(&self) -> bool {
        match (self.op, self.answered) {
            (Op::Get, _) => true,
            (Op::SetIfEq { .. }, Some((_, answer))) => answer == Answer::Nil,
            (Op::Del, Some((_, answer))) => answer == Answer::Number(0),
            _ => false,
        }
    }
}

impl From<Option<i64>> for State {
    fn from(value: Option<i64>) -> State {
        value.map_or(State::Absent, State::Holds)
    }
}

/// A call that was taken, and what to go back to.
struct Step {
    call: usize,
    before: State,
    /// Another choice in its place leads nowhere that this one does not.
    is_only_choice: bool,
}

/// - `calls`: first those with an answer, then those in doubt, each part in the order of sending.
/// - `first`: no answered call before it is left.
/// - `path`: the calls taken so far, in order; `taken` has a bit for each of them.
struct Search {
    calls: Vec<Call>,
    answered: usize,
    first: usize,
    state: State,
    taken: Vec<u64>,
    path: Vec<Step>,
    /// The number of answered calls in `path`.
    explained: usize,
    seen: HashSet<(Vec<u64>, State)>,
}

impl Search {
    fn new(calls: &[Call], state: State) -> Search {
        // A read that was not answered says nothing.
        let is_needed = |call: &&Call| call.answered.is_some() || call.op != Op::Get;
        let mut calls: Vec<Call> = calls.iter().filter(is_needed).copied().collect();
        calls.sort_by_key(|call| (call.answered.is_none(), call.called));
        let answered = calls.partition_point(|call| call.answered.is_some());
        let taken = vec![0; calls.len().div_ceil(64)];
        let (path, seen) = (Vec::new(), HashSet::new());
        Search { calls, answered, first: 0, state, taken, path, explained: 0, seen }
    }

    /// Takes calls until all answers are explained, and goes back where none fits.
    fn run(mut self) -> bool {
        let mut from = 0;
        for _ in 0..TRIES_MAX {
            if self.explained == self.answered {
                return true;
            }
            match self.candidate(from) {
                Some((call, after)) if self.take(call, after) => from = 0,
                Some((call, _)) => from = call + 1,
                None => match self.go_back() {
                    Some(call) => from = call + 1,
                    None => return false,
                },
            }
        }
        panic!("undecided after {TRIES_MAX} tries: too many calls in doubt on one key")
    }

    /// The next call, from this one on, that may come now and whose answer fits; and the state after it.
    fn candidate(&self, from: usize) -> Option<(usize, State)> {
        let deadline = self.deadline();
        let may_come = |call: &usize| self.calls[*call].called <= deadline;
        let answered = (from.max(self.first)..self.answered).take_while(may_come);
        let in_doubt = (from.max(self.answered)..self.calls.len()).take_while(may_come);
        let left = answered.chain(in_doubt).filter(|call| !self.is_taken(*call));
        left.filter_map(|call| Some((call, self.calls[call].step(self.state)?))).next()
    }

    /// The first answer to a call that is left: a call that was sent after it cannot come now.
    fn deadline(&self) -> u64 {
        let mut deadline = u64::MAX;
        for call in self.first..self.answered {
            if self.calls[call].called > deadline {
                break;
            }
            if let Some((at, _)) = self.calls[call].answered.filter(|_| !self.is_taken(call)) {
                deadline = deadline.min(at);
            }
        }
        deadline
    }

    fn is_taken(&self, call: usize) -> bool {
        self.taken[call / 64] >> (call % 64) & 1 == 1
    }

    /// Takes a call, unless the same calls have led to the same state before.
    fn take(&mut self, call: usize, after: State) -> bool {
        self.taken[call / 64] |= 1 << (call % 64);
        if !self.seen.insert((self.taken.clone(), after)) {
            self.taken[call / 64] &= !(1 << (call % 64));
            return false;
        }
        // A call that changes nothing can as well come now as later.
        let is_only_choice = after == self.state && self.calls[call].is_without_effect();
        self.path.push(Step { call, before: self.state, is_only_choice });
        self.state = after;
        self.explained += usize::from(call < self.answered);
        while self.first < self.answered && self.is_taken(self.first) {
            self.first += 1;
        }
        true
    }

    /// Undoes the last step that had a choice; returns its call.
    fn go_back(&mut self) -> Option<usize> {
        loop {
            let Step { call, before, is_only_choice } = self.path.pop()?;
            self.taken[call / 64] &= !(1 << (call % 64));
            self.state = before;
            self.explained -= usize::from(call < self.answered);
            self.first = self.first.min(call);
            if !is_only_choice {
                return Some(call);
            }
        }
    }
}
