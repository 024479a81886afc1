//! Thousands of small random histories, judged by the own checker and by that of another author (`todc-utils`).
//!
//! Half of them have an order, since their answers come from a register that takes each call at a moment
//! between its sending and its answer. The others have one answer changed, or one call that had no effect: then
//! there may be an order all the same, and the two checkers must agree on it.

use crate::common::diagram::Violation;
use crate::common::linear::{Answer, Call, Op, check};
use crate::common::number_from_env;
use crate::common::rng::{Rng, fresh_seed};
use todc_utils::{Action, History, Specification, WGLChecker};

const HISTORIES: usize = 20_000;
/// Few, so that calls meet the value that they want.
const VALUES: i64 = 3;

/// The register as a relation, written for the other checker and independently of the own one's model.
struct Register;

impl Specification for Register {
    type State = Option<i64>;
    type Operation = (Op, Option<Answer>);

    fn init() -> Option<i64> {
        None
    }

    fn apply((op, answer): &(Op, Option<Answer>), state: &Option<i64>) -> (bool, Option<i64>) {
        let is = |expected: Answer| answer.is_none() || *answer == Some(expected);
        let (is_valid, after) = match *op {
            Op::Get if state.is_none() => (is(Answer::Nil), None),
            Op::Get => (is(Answer::Number(state.expect("it is some"))), *state),
            Op::Set(value) => (is(Answer::Ok), Some(value)),
            Op::Del if state.is_none() => (is(Answer::Number(0)), None),
            Op::Del => (is(Answer::Number(1)), None),
            Op::Incr if state.is_none() => (is(Answer::Number(1)), Some(1)),
            Op::Incr => (is(Answer::Number(state.expect("it is some") + 1)), state.map(|n| n + 1)),
            Op::SetIfEq { expected, value } if *state == Some(expected) => {
                (is(Answer::Ok), Some(value))
            }
            Op::SetIfEq { .. } => (is(Answer::Nil), *state),
        };
        (is_valid, if is_valid { after } else { *state })
    }
}

/// The other checker's verdict. It knows no calls in doubt: they are answered after everything else, with an
/// answer that always fits. So one that never took effect took it last.
fn other_verdict(calls: &[Call]) -> bool {
    let mut events = Vec::new();
    for (process, call) in calls.iter().enumerate() {
        let operation = (call.op, call.answered.map(|(_, answer)| answer));
        let end = call.answered.map_or(u64::MAX, |(at, _)| at);
        events.push((call.called, process, Action::Call(operation)));
        events.push((end, process, Action::Response(operation)));
    }
    events.sort_by_key(|(at, ..)| *at);
    let actions = events.into_iter().map(|(_, process, action)| (process, action)).collect();
    WGLChecker::<Register>::is_linearizable(History::from_actions(actions))
}

fn random_op(rng: &mut Rng) -> Op {
    let mut value = || rng.between(1, VALUES);
    let (value, expected) = (value(), value());
    match rng.below(10) {
        0..4 => Op::Get,
        4..6 => Op::Set(value),
        6 => Op::Del,
        7..9 => Op::Incr,
        _ => Op::SetIfEq { expected, value },
    }
}

fn random_answer(rng: &mut Rng) -> Answer {
    match rng.below(6) {
        0 => Answer::Nil,
        1 => Answer::Ok,
        _ => Answer::Number(rng.between(0, VALUES + 1)),
    }
}

/// A call, and the moment at which it takes effect. In doubt: that moment may never come.
struct Planned {
    call: Call,
    effect: Option<u64>,
}

/// The calls of a few clients, each of which waits for its answer before its next call.
fn plan(rng: &mut Rng) -> Vec<Planned> {
    let (clients, len) = (2 + rng.below(4), 1 + rng.below(14));
    let mut free_from = vec![0; clients];
    let mut planned = Vec::new();
    for number in 0..len as u64 {
        let client = rng.below(clients);
        let later = |rng: &mut Rng, at: u64| at + 1 + rng.below(20) as u64;
        let called = later(rng, free_from[client]);
        let is_in_doubt = rng.chance(15);
        let effect = if is_in_doubt { called + rng.below(200) as u64 } else { later(rng, called) };
        let answered = if is_in_doubt { later(rng, called) } else { later(rng, effect) };
        free_from[client] = answered;
        // All moments differ: the other checker takes events in an order, not with times.
        let distinct = |at: u64| at * 100 + number;
        let answer = (!is_in_doubt).then_some((distinct(answered), Answer::Ok));
        let call = Call { client, op: random_op(rng), called: distinct(called), answered: answer };
        let happens = !is_in_doubt || rng.chance(50);
        planned.push(Planned { call, effect: happens.then_some(distinct(effect)) });
    }
    planned
}

/// Gives the answers of a register. One call, if any, has no effect on it.
fn answer(planned: &mut [Planned], without_effect: Option<usize>) {
    let mut order: Vec<usize> = (0..planned.len()).collect();
    order.sort_by_key(|&at| planned[at].effect);
    let mut state = None;
    for at in order {
        let Planned { call, effect } = &mut planned[at];
        if effect.is_none() {
            continue;
        }
        let (given, after) = run(call.op, state);
        call.answered = call.answered.map(|(end, _)| (end, given));
        if without_effect != Some(at) {
            state = after;
        }
    }
}

fn run(op: Op, state: Option<i64>) -> (Answer, Option<i64>) {
    let answers = [Answer::Ok, Answer::Nil].into_iter().chain((0..100).map(Answer::Number));
    let mut answers = answers.map(|answer| (answer, Register::apply(&(op, Some(answer)), &state)));
    let fitting = answers.find(|(_, (fits, _))| *fits);
    fitting.map(|(answer, (_, after))| (answer, after)).expect("each call has an answer")
}

/// A history, and true if it surely has an order.
fn random_history(rng: &mut Rng) -> (Vec<Call>, bool) {
    let mut planned = plan(rng);
    let (victim, fault) = (rng.below(planned.len()), rng.below(4));
    answer(&mut planned, (fault == 1).then_some(victim));
    let mut calls: Vec<Call> = planned.into_iter().map(|planned| planned.call).collect();
    if fault == 0 {
        let wrong = random_answer(rng);
        calls[victim].answered = calls[victim].answered.map(|(at, _)| (at, wrong));
    }
    (calls, fault > 1)
}

/// The calls of a drawing. If it claims that the key's value at its beginning does not matter, the key holds some
/// random one.
fn drawn_part(violation: &Violation, rng: &mut Rng) -> Vec<Call> {
    let mut calls = violation.clipped();
    if violation.starts_anywhere() {
        let op = Op::Set(rng.between(-10, 10));
        calls.push(Call { client: 0, op, called: 0, answered: Some((1, Answer::Ok)) });
    }
    calls
}

#[test]
fn both_checkers_agree_on_random_histories() {
    let seed = number_from_env("KVSTORE_SEED").unwrap_or_else(fresh_seed);
    let (mut rng, mut rejected, mut saved) = (Rng::new(seed), 0, 0);
    for number in 0..HISTORIES {
        let (calls, has_order) = random_history(&mut rng);
        let (own, other) = (check(&calls), other_verdict(&calls));
        let context = format!("KVSTORE_SEED={seed}, history {number}: {calls:#?}");
        assert_eq!(own.is_ok(), other, "the checkers disagree, {context}");
        assert!(other || !has_order, "its answers come from a register, {context}");
        if let Err(violation) = own {
            let drawn = drawn_part(&violation, &mut rng);
            assert!(!other_verdict(&drawn), "the drawn part has an order: {violation}, {context}");
            assert!(violation.culprit().is_some(), "{violation}, {context}");
            rejected += 1;
        } else if !has_order {
            saved += 1;
        }
    }
    // Faults that matter, and faults that an order hides: both must have been judged often.
    assert!(rejected > HISTORIES / 20, "{rejected} of {HISTORIES} histories had no order");
    assert!(saved > HISTORIES / 20, "{saved} of {HISTORIES} faults had no consequence");
}
