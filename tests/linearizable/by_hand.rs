//! Small histories whose verdict a reader can check, each with its drawing.

use crate::common::linear::{Answer, Call, Op, check};
use Answer::{Nil, Number, Ok};

/// A call with an answer.
fn call(client: usize, called: u64, answered: u64, op: Op, answer: Answer) -> Call {
    Call { client, op, called, answered: Some((answered, answer)) }
}

/// A call without one.
fn in_doubt(client: usize, called: u64, op: Op) -> Call {
    Call { client, op, called, answered: None }
}

fn assert_allowed(calls: &[Call]) {
    check(calls).unwrap_or_else(|violation| panic!("{violation}"));
}

/// Fails unless there is a violation, and the answer of this call is what has no explanation.
fn assert_impossible(calls: &[Call], culprit: &Call) {
    let violation = check(calls).expect_err("no order explains these answers");
    assert_eq!(violation.culprit(), Some(culprit), "{violation}");
}

/// ```text
/// client 1  |---|                SET 1: OK
/// client 1        |---|          SET 2: OK
/// client 2               |---|   GET: 1
/// ```
#[test]
fn a_stale_read() {
    let (one, two) = (call(1, 1, 2, Op::Set(1), Ok), call(1, 3, 4, Op::Set(2), Ok));
    let stale = call(2, 5, 6, Op::Get, Number(1));
    assert_impossible(&[one, two, stale], &stale);
    // Begun before the second write was answered, it is not stale.
    assert_allowed(&[one, two, Call { called: 4, ..stale }]);
}

/// Two clients see a write that is under way: after the first has seen it, the second must.
///
/// ```text
/// client 1  |------------------|   SET 1: OK
/// client 2    |---|                GET: 1
/// client 3          |---|          GET: nil
/// ```
#[test]
fn a_write_that_was_seen_and_vanishes() {
    let write = call(1, 1, 9, Op::Set(1), Ok);
    let (new, old) = (call(2, 2, 3, Op::Get, Number(1)), call(3, 4, 5, Op::Get, Nil));
    assert_impossible(&[write, new, old], &old);
    assert_allowed(&[write, new, call(3, 2, 5, Op::Get, Nil)]);
}

#[test]
fn a_lost_update() {
    let (one, two) = (call(1, 1, 4, Op::Incr, Number(1)), call(2, 2, 5, Op::Incr, Number(1)));
    assert_impossible(&[one, two], &two);
    assert_allowed(&[one, Call { answered: Some((5, Number(2))), ..two }]);
}

#[test]
fn a_lost_write() {
    let write = call(1, 1, 2, Op::Set(1), Ok);
    let read = call(2, 3, 4, Op::Get, Nil);
    assert_impossible(&[write, read], &read);
    assert_allowed(&[write, call(2, 3, 4, Op::Del, Number(1)), call(2, 5, 6, Op::Get, Nil)]);
}

/// ```text
/// client 1  |........................>   SET 1: no answer
/// client 2    |---|                      GET: nil
/// client 2          |---|                GET: 1
/// ```
#[test]
fn a_write_in_doubt_that_is_seen_later() {
    let write = in_doubt(1, 1, Op::Set(1));
    let (before, after) = (call(2, 2, 3, Op::Get, Nil), call(2, 4, 5, Op::Get, Number(1)));
    assert_allowed(&[write, before, after]);
    // It takes effect once.
    let gone = call(2, 6, 7, Op::Get, Nil);
    assert_impossible(&[write, before, after, gone], &gone);
    // Not before it was sent.
    let early = Call { called: 6, ..write };
    assert_impossible(&[early, before, after], &after);
}

#[test]
fn a_write_in_doubt_that_is_never_seen() {
    let doubts = [Op::Set(1), Op::Incr, Op::Del, Op::SetIfEq { expected: 7, value: 1 }];
    for op in doubts {
        let set = call(2, 1, 2, Op::Set(7), Ok);
        assert_allowed(&[set, in_doubt(1, 3, op), call(2, 4, 5, Op::Get, Number(7))]);
    }
}

#[test]
fn an_increment_in_doubt_counts_once() {
    let (doubt, seen) = (in_doubt(1, 1, Op::Incr), call(2, 2, 3, Op::Incr, Number(2)));
    assert_allowed(&[doubt, seen]);
    let twice = call(2, 4, 5, Op::Incr, Number(4));
    assert_impossible(&[doubt, seen, twice], &twice);
}

#[test]
fn a_compare_and_set_that_succeeds_twice() {
    let set = call(1, 1, 2, Op::Set(7), Ok);
    let swap = |client, called, value| {
        call(client, called, called + 5, Op::SetIfEq { expected: 7, value }, Ok)
    };
    let (one, two) = (swap(1, 3, 8), swap(2, 4, 9));
    assert_impossible(&[set, one, two], &two);
    assert_allowed(&[set, one, Call { answered: Some((9, Nil)), ..two }]);
    // Unless the value comes back between the two.
    assert_allowed(&[set, one, in_doubt(3, 3, Op::Set(7)), two]);
}

#[test]
fn a_delete_that_removes_a_key_twice() {
    let set = call(1, 1, 2, Op::Set(7), Ok);
    let (one, two) = (call(1, 3, 6, Op::Del, Number(1)), call(2, 4, 7, Op::Del, Number(1)));
    assert_impossible(&[set, one, two], &two);
    assert_allowed(&[set, one, Call { answered: Some((7, Number(0))), ..two }]);
}

/// Of a long history, only what proves the fault is drawn.
#[test]
fn the_drawing_is_short() {
    let mut calls = Vec::new();
    for round in 0..200 {
        let at = 10 * round as u64 + 10;
        calls.push(call(1, at, at + 4, Op::Set(round), Ok));
        calls.push(call(2, at + 1, at + 3, Op::Get, Number(round)));
        let is_stale = round == 150;
        calls.push(call(3, at + 6, at + 8, Op::Get, Number(if is_stale { 20 } else { round })));
    }
    let drawing = check(&calls).expect_err("the read of 20 is stale").to_string();
    let expected = "\
no order explains these answers, from a key on that holds anything:
  client 1   |-|        SET 150: OK
  client 3       |-|    GET: 20   <- impossible
";
    assert_eq!(drawing, expected);
}

#[test]
fn the_drawing_shows_what_is_in_doubt() {
    let (doubt, seen) = (in_doubt(1, 1, Op::Incr), call(2, 2, 3, Op::Incr, Number(2)));
    let violation = check(&[doubt, seen, call(3, 4, 5, Op::Incr, Number(4))]);
    let expected = "\
no order explains these answers, from a key on that does not exist:
  client 1   |.......>    INCR: no answer
  client 2     |-|        INCR: 2
  client 3         |-|    INCR: 4   <- impossible
";
    assert_eq!(violation.expect_err("one counts once").to_string(), expected);
}
