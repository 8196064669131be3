//! InitProducerId: epochs, fencing, timeouts, exhaustion, expiry.

use std::time::Duration;

use heddle_proto::{batch::Outcome, error::ErrorCode, ids::ProducerId};

use super::harness::*;
use crate::coordinator::transaction::*;

fn refused(driver: &mut Driver, request: Request) -> Refusal {
    match driver.ask(request) {
        Some(Reply::InitProducerId(Err(refusal))) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_life_has_a_higher_epoch() {
    let mut driver = Driver::new();
    assert_eq!(refused(&mut driver, init("a", None, None)), Refusal::NeedsProducerId);
    assert_eq!(driver.init("a", 7), identity(7, 0));
    assert_eq!(driver.init("a", 8), identity(7, 1));
    assert_eq!(driver.init("b", 9), identity(9, 0));
    driver.crash();
    assert_eq!(driver.init("a", 8), identity(7, 2));
}

#[test]
fn a_raised_epoch_can_be_asked_for_twice_and_fences_what_is_older() {
    let mut driver = Driver::new();
    let first = driver.init("a", 7);
    let raised = Some(Reply::InitProducerId(Ok(identity(7, 1))));
    assert_eq!(driver.ask(init("a", Some(first), None)), raised);
    assert_eq!(driver.ask(init("a", Some(first), None)), raised, "a retry raises nothing");
    assert_eq!(driver.init("a", 0), identity(7, 2));
    let fenced = Refusal::Error(ErrorCode::ProducerFenced);
    for old in [first, identity(7, 1), identity(7, 3), identity(8, 2)] {
        assert_eq!(refused(&mut driver, init("a", Some(old), None)), fenced, "{old:?}");
    }
    let unknown = driver.ask(init("z", Some(first), Some(1)));
    assert_eq!(
        unknown,
        Some(Reply::InitProducerId(Ok(identity(1, 0)))),
        "an id that was forgotten begins anew"
    );
}

#[test]
fn a_new_life_aborts_what_the_old_one_left_open() {
    let mut driver = Driver::new();
    let old = driver.init("a", 7);
    driver.add("a", old, &[1, 2]).expect("is added");
    let concurrent = Refusal::Error(ErrorCode::ConcurrentTransactions);
    assert_eq!(refused(&mut driver, init("a", None, None)), concurrent);
    assert_eq!(driver.add("a", old, &[3]), Err(ErrorCode::ProducerFenced));
    assert_eq!(refused(&mut driver, init("a", None, None)), concurrent, "its markers are not written");
    let markers = driver.deliver().expect("are due");
    assert_eq!((markers.producer, markers.outcome), (identity(7, 1), Outcome::Abort));
    assert_eq!(markers.partitions, [at(1), at(2)]);
    assert_eq!(driver.init("a", 0), identity(7, 2));
    assert_eq!(driver.add("a", old, &[1]), Err(ErrorCode::ProducerFenced));
    let old_end = driver.ask(end("a", old, Outcome::Commit, true));
    assert_eq!(old_end, Some(Reply::EndTxn(Err(ErrorCode::ProducerFenced.into()))), "it must not commit");
}

#[test]
fn timeouts_are_bounded_and_names_are_not_empty() {
    let mut driver = Driver::new();
    for (timeout, name, error) in [
        (Duration::ZERO, "a", ErrorCode::InvalidTransactionTimeout),
        (Duration::from_millis(900_001), "a", ErrorCode::InvalidTransactionTimeout),
        (MINUTE, "", ErrorCode::InvalidRequest),
    ] {
        let fresh = Some(ProducerId::new(1));
        let request = InitProducerId { id: id(name), timeout, current: None, fresh };
        assert_eq!(refused(&mut driver, Request::InitProducerId(request)), Refusal::Error(error));
    }
}

#[test]
fn an_open_transaction_is_aborted_after_its_timeout() {
    let mut driver = Driver::new();
    let producer = driver.init("a", 7);
    driver.add("a", producer, &[1]).expect("is added");
    driver.wait(MINUTE - Duration::from_millis(1));
    driver.flush(usize::MAX);
    assert!(driver.markers.is_empty());
    driver.wait(Duration::from_millis(1));
    assert!(driver.markers.is_empty(), "the decision is not durable");
    driver.flush(usize::MAX);
    let markers = driver.deliver().expect("are due");
    assert_eq!((markers.producer, markers.outcome), (identity(7, 1), Outcome::Abort));
    assert_eq!(driver.state("a"), State::CompleteAbort);
    assert_eq!(driver.add("a", producer, &[1]), Err(ErrorCode::ProducerFenced));
}

#[test]
fn a_timeout_runs_on_through_a_restart() {
    let mut driver = Driver::new();
    let producer = driver.init("a", 7);
    driver.add("a", producer, &[1]).expect("is added");
    driver.wait(MINUTE / 2);
    driver.crash();
    driver.wait(MINUTE / 2);
    driver.flush(usize::MAX);
    assert!(driver.deliver().is_some());
}

#[test]
fn used_up_epochs_are_followed_by_a_new_producer_id() {
    let mut driver = Driver::new();
    let mut producer = driver.init("a", 7);
    for epoch in 1..i16::MAX {
        producer = driver.init("a", 0);
        assert_eq!(producer, identity(7, epoch));
    }
    // Ended by the client: the markers take the last epoch, then comes the new id.
    driver.add("a", producer, &[1]).expect("is added");
    let needs = driver.ask(end("a", producer, Outcome::Commit, true));
    assert_eq!(needs, Some(Reply::EndTxn(Err(Refusal::NeedsProducerId))));
    let fresh = Some(ProducerId::new(8));
    let outcome = Outcome::Commit;
    let request = EndTxn { id: id("a"), producer, outcome, raises_epoch: true, fresh };
    let to = driver.send(Request::EndTxn(request));
    driver.flush(usize::MAX);
    assert_eq!(driver.deliver().expect("are due").producer, identity(7, i16::MAX));
    driver.flush(usize::MAX);
    assert_eq!(driver.reply_to(to), Some(Reply::EndTxn(Ok(identity(8, 0)))));
    let again = driver.ask(end("a", producer, Outcome::Commit, true));
    assert_eq!(again, Some(Reply::EndTxn(Ok(identity(8, 0)))), "a retry learns the same");
    assert_eq!(driver.init("a", 9), identity(8, 1));
}

#[test]
fn idle_ids_are_forgotten_and_open_ones_are_not() {
    let mut driver = Driver::new();
    let open = driver.init("open", 1);
    driver.init("idle", 2);
    driver.wait(driver.config.id_retention - MINUTE / 2);
    driver.add("open", open, &[1]).expect("is added");
    driver.wait(MINUTE / 2);
    assert_eq!(driver.state("idle"), State::Dead);
    assert_eq!(driver.state("open"), State::Ongoing);
    driver.flush(usize::MAX);
    driver.crash();
    assert_eq!(driver.state("idle"), State::Dead);
    assert_eq!(driver.init("idle", 3), identity(3, 0));
}

#[test]
fn the_number_of_ids_is_bounded() {
    let mut driver = Driver::with(TransactionConfig { ids_max: 2, ..TransactionConfig::default() });
    driver.init("a", 1);
    driver.init("b", 2);
    let refusal = refused(&mut driver, init("c", None, Some(3)));
    assert_eq!(refusal, Refusal::Error(ErrorCode::PolicyViolation));
    driver.init("a", 0);
}
