//! Adding partitions and ending transactions, in every state, in both versions of the protocol.

use heddle_proto::{batch::Outcome, error::ErrorCode};

use super::harness::*;
use crate::coordinator::transaction::*;

fn ended(driver: &mut Driver, request: Request) -> Option<Result<ProducerIdentity, ErrorCode>> {
    match driver.ask(request)? {
        Reply::EndTxn(Ok(identity)) => Some(Ok(identity)),
        Reply::EndTxn(Err(Refusal::Error(code))) => Some(Err(code)),
        other => panic!("{other:?}"),
    }
}

/// Brings a fresh producer into a state, by the first or the second version.
fn in_state(state: State, raises: bool) -> (Driver, ProducerIdentity) {
    let mut driver = Driver::new();
    let producer = driver.init("a", 7);
    let outcome = match state {
        State::Empty => return (driver, producer),
        State::PrepareCommit | State::CompleteCommit => Outcome::Commit,
        _ => Outcome::Abort,
    };
    driver.add("a", producer, &[1]).expect("is added");
    if state != State::Ongoing {
        driver.send(end("a", producer, outcome, raises));
        driver.flush(usize::MAX);
        if state.done().is_some() {
            driver.deliver().expect("are due");
        }
    }
    assert_eq!(driver.state("a"), state);
    (driver, producer)
}

#[test]
fn ending_in_every_state_by_the_first_version() {
    use ErrorCode::{ConcurrentTransactions, InvalidTxnState};
    let same = Some(Ok(identity(7, 0)));
    for (state, commit, abort) in [
        (State::Empty, Some(Err(InvalidTxnState)), Some(Err(InvalidTxnState))),
        (State::Ongoing, None, None),
        (State::PrepareCommit, Some(Err(ConcurrentTransactions)), Some(Err(InvalidTxnState))),
        (State::PrepareAbort, Some(Err(InvalidTxnState)), Some(Err(ConcurrentTransactions))),
        (State::CompleteCommit, same, Some(Err(InvalidTxnState))),
        (State::CompleteAbort, Some(Err(InvalidTxnState)), same),
    ] {
        for (outcome, expected) in [(Outcome::Commit, commit), (Outcome::Abort, abort)] {
            let (mut driver, producer) = in_state(state, false);
            let answer = ended(&mut driver, end("a", producer, outcome, false));
            assert_eq!(answer, expected, "{outcome:?} in {state:?}");
        }
    }
}

#[test]
fn ending_in_every_state_by_the_second_version() {
    use ErrorCode::{ConcurrentTransactions, InvalidTxnState};
    let raised = Some(Ok(identity(7, 1)));
    for (state, commit, abort) in [
        (State::Empty, Some(Err(InvalidTxnState)), raised),
        (State::Ongoing, None, None),
        (State::PrepareCommit, Some(Err(ConcurrentTransactions)), Some(Err(InvalidTxnState))),
        (State::PrepareAbort, Some(Err(InvalidTxnState)), Some(Err(ConcurrentTransactions))),
        (State::CompleteCommit, raised, Some(Err(InvalidTxnState))),
        (State::CompleteAbort, Some(Err(InvalidTxnState)), raised),
    ] {
        for (outcome, expected) in [(Outcome::Commit, commit), (Outcome::Abort, abort)] {
            // The producer is the one before the end, as in a retry.
            let (mut driver, producer) = in_state(state, true);
            let answer = ended(&mut driver, end("a", producer, outcome, true));
            assert_eq!(answer, expected, "{outcome:?} in {state:?}");
        }
    }
}

#[test]
fn adding_in_every_state() {
    for (state, expected) in [
        (State::Empty, Ok(())),
        (State::Ongoing, Ok(())),
        (State::PrepareCommit, Err(ErrorCode::ConcurrentTransactions)),
        (State::PrepareAbort, Err(ErrorCode::ConcurrentTransactions)),
        (State::CompleteCommit, Ok(())),
        (State::CompleteAbort, Ok(())),
    ] {
        let (mut driver, producer) = in_state(state, false);
        assert_eq!(driver.add("a", producer, &[2]), expected, "{state:?}");
        if expected.is_ok() {
            assert_eq!(driver.state("a"), State::Ongoing);
        }
        for stranger in [identity(8, 0), identity(7, 1)] {
            assert!(driver.add("a", stranger, &[2]).is_err(), "{state:?}");
        }
        assert_eq!(driver.add("nobody", producer, &[2]), Err(ErrorCode::InvalidProducerIdMapping));
    }
}

#[test]
fn a_commit_is_answered_when_its_markers_are_written_and_noted() {
    let (mut driver, producer) = in_state(State::Ongoing, true);
    let to = driver.send(end("a", producer, Outcome::Commit, true));
    assert!(driver.markers.is_empty(), "the decision is not durable");
    driver.flush(usize::MAX);
    assert_eq!(driver.reply_to(to), None);
    let markers = driver.deliver().expect("are due");
    assert_eq!((markers.producer, markers.partitions), (identity(7, 1), vec![at(1)]));
    assert_eq!(driver.reply_to(to), None, "the completion is not durable");
    driver.flush(usize::MAX);
    assert_eq!(driver.reply_to(to), Some(Reply::EndTxn(Ok(identity(7, 1)))));
    assert_eq!(driver.add("a", producer, &[1]), Err(ErrorCode::ProducerFenced), "an old epoch adds nothing");
}

#[test]
fn an_abort_with_nothing_open_still_raises_the_epoch() {
    let (mut driver, producer) = in_state(State::Empty, true);
    assert_eq!(ended(&mut driver, end("a", producer, Outcome::Abort, true)), Some(Ok(identity(7, 1))));
    assert_eq!(driver.add("a", producer, &[1]), Err(ErrorCode::ProducerFenced));
    assert!(driver.markers.is_empty());
}

#[test]
fn a_decision_survives_a_crash_and_its_markers_are_asked_for_again() {
    for (outcome, done) in [(Outcome::Commit, State::CompleteCommit), (Outcome::Abort, State::CompleteAbort)]
    {
        let (mut driver, producer) = in_state(State::Ongoing, true);
        driver.send(end("a", producer, outcome, true));
        driver.crash();
        assert_eq!(driver.state("a"), State::Ongoing, "it was not durable");
        driver.send(end("a", producer, outcome, true));
        driver.flush(1);
        driver.crash();
        let markers = driver.deliver().expect("are asked for again");
        assert_eq!((markers.outcome, markers.producer), (outcome, identity(7, 1)));
        assert_eq!(driver.state("a"), done);
        assert_eq!(ended(&mut driver, end("a", producer, outcome, true)), Some(Ok(identity(7, 1))));
    }
}

#[test]
fn a_late_report_of_markers_changes_nothing() {
    let (mut driver, producer) = in_state(State::Ongoing, true);
    driver.send(end("a", producer, Outcome::Commit, true));
    driver.flush(usize::MAX);
    let markers = driver.deliver().expect("are due");
    driver.flush(usize::MAX);
    driver.add("a", identity(7, 1), &[4]).expect("the next transaction begins");
    driver.send(Request::MarkersWritten(markers));
    assert_eq!(driver.state("a"), State::Ongoing);
}

#[test]
fn only_partitions_of_the_open_transaction_are_verified() {
    let verify = |driver: &mut Driver, producer, indexes: &[u32]| {
        let partitions = indexes.iter().map(|index| at(*index)).collect();
        match driver.ask(Request::VerifyPartitions(VerifyPartitions { id: id("a"), producer, partitions })) {
            Some(Reply::VerifyPartitions(answer)) => answer,
            other => panic!("{other:?}"),
        }
    };
    let (mut driver, producer) = in_state(State::Ongoing, false);
    assert_eq!(verify(&mut driver, producer, &[1, 2]), Ok(vec![true, false]));
    assert_eq!(verify(&mut driver, identity(7, 9), &[1]), Err(ErrorCode::ProducerFenced));
    let (mut driver, producer) = in_state(State::PrepareCommit, false);
    assert_eq!(verify(&mut driver, producer, &[1]), Err(ErrorCode::ConcurrentTransactions));
    let (mut driver, producer) = in_state(State::CompleteCommit, false);
    assert_eq!(verify(&mut driver, producer, &[1]), Ok(vec![false]));
}

#[test]
fn the_number_of_partitions_is_bounded() {
    let mut driver = Driver::with(TransactionConfig { partitions_max: 3, ..TransactionConfig::default() });
    let producer = driver.init("a", 7);
    driver.add("a", producer, &[1, 2]).expect("fits");
    assert_eq!(driver.add("a", producer, &[3, 4]), Err(ErrorCode::InvalidRequest));
    driver.add("a", producer, &[3]).expect("fits");
}

#[test]
fn lists_are_filtered() {
    let (mut driver, _) = in_state(State::Ongoing, false);
    driver.init("b", 8);
    let list = |driver: &mut Driver, request| match driver.ask(Request::List(request)) {
        Some(Reply::List(listed)) => listed.iter().map(|line| line.id.to_string()).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let all = ListTransactions::default();
    assert_eq!(list(&mut driver, all.clone()), ["a", "b"]);
    assert_eq!(list(&mut driver, ListTransactions { states: vec![State::Empty], ..all.clone() }), ["b"]);
    let producers = vec![identity(7, 0).id];
    assert_eq!(list(&mut driver, ListTransactions { producers, ..all.clone() }), ["a"]);
    let old = ListTransactions { open_for: Some(MINUTE / 2), ..all };
    assert!(list(&mut driver, old.clone()).is_empty());
    driver.wait(MINUTE / 2 + std::time::Duration::from_millis(1));
    assert_eq!(list(&mut driver, old), ["a"]);
}

#[test]
fn whoever_waits_is_refused_when_the_coordinator_goes_away() {
    let (mut driver, producer) = in_state(State::Ongoing, true);
    let to = driver.send(end("a", producer, Outcome::Commit, true));
    let refused = driver.machine.unload(ErrorCode::NotCoordinator);
    assert_eq!(refused, [(to, Reply::EndTxn(Err(ErrorCode::NotCoordinator.into())))]);
}
