//! TxnOffsetCommit: offsets that hold once the transaction commits.

use heddle_proto::{
    error::ErrorCode,
    ids::{ProducerEpoch, ProducerId},
};

use super::harness::*;
use crate::coordinator::group::{
    GroupRecord, RequestId,
    message::{DeleteGroups, Event, OffsetFetch, Reply, Request, TxnOffsetCommit},
};

fn pending(producer: i64, epoch: i16, index: u32, offset: i64) -> TxnOffsetCommit {
    TxnOffsetCommit {
        group: GROUP.into(),
        producer: ProducerId::new(producer),
        producer_epoch: ProducerEpoch::new(epoch),
        generation_or_epoch: -1,
        member: "".into(),
        instance: None,
        partitions: vec![commit_partition("a", index, offset)],
    }
}

#[track_caller]
fn txn(driver: &mut Driver, request: TxnOffsetCommit) -> ErrorCode {
    match driver.call(Request::TxnOffsetCommit(request)) {
        Reply::TxnOffsetCommit(answer) => answer.partitions[0].error,
        other => panic!("{other:?}"),
    }
}

fn end(driver: &mut Driver, producer: i64, epoch: i16, committed: bool) {
    let request = RequestId::new(u64::MAX);
    driver.apply(Event::TransactionEnded {
        request,
        producer: ProducerId::new(producer),
        epoch: ProducerEpoch::new(epoch),
        committed,
    });
    assert_eq!(driver.reply(request), Reply::TransactionEnded);
}

fn stable_error(driver: &mut Driver, index: u32) -> ErrorCode {
    let fetch = OffsetFetch { require_stable: true, ..fetch_of(vec![named("a", index)]) };
    driver.fetch(fetch).partitions[0].error
}

#[test]
fn offsets_of_a_transaction_show_when_it_commits_and_never_when_it_aborts() {
    for restarts in [false, true] {
        for (committed, offset) in [(true, 7), (false, 3)] {
            let mut driver = Driver::new();
            assert_eq!(driver.commit(commit("a", 0, 3)), [ErrorCode::None]);
            assert_eq!(txn(&mut driver, pending(1, 0, 0, 7)), ErrorCode::None);
            if restarts {
                driver.restart();
            }
            assert_eq!(driver.offset("a", 0), 3);
            assert_eq!(stable_error(&mut driver, 0), ErrorCode::UnstableOffsetCommit);
            assert_eq!(stable_error(&mut driver, 1), ErrorCode::None);
            end(&mut driver, 1, 0, committed);
            if restarts {
                driver.restart();
            }
            assert_eq!(driver.offset("a", 0), offset);
            assert_eq!(stable_error(&mut driver, 0), ErrorCode::None);
            let written = driver.records.len();
            end(&mut driver, 1, 0, committed);
            assert_eq!(driver.records.len(), written, "a marker told twice changes nothing");
        }
    }
}

#[test]
fn a_later_commit_outside_the_transaction_stays() {
    for restarts in [false, true] {
        let mut driver = Driver::new();
        assert_eq!(txn(&mut driver, pending(1, 0, 0, 7)), ErrorCode::None);
        assert_eq!(driver.commit(commit("a", 0, 9)), [ErrorCode::None]);
        assert_eq!(txn(&mut driver, pending(2, 0, 1, 5)), ErrorCode::None);
        if restarts {
            driver.restart();
        }
        end(&mut driver, 1, 0, true);
        assert_eq!(driver.offset("a", 0), 9);
        end(&mut driver, 2, 0, true);
        assert_eq!(driver.offset("a", 1), 5);
    }
}

#[test]
fn an_old_epoch_of_the_producer_is_refused() {
    for restarts in [false, true] {
        let mut driver = Driver::new();
        assert_eq!(txn(&mut driver, pending(1, 4, 0, 7)), ErrorCode::None);
        end(&mut driver, 1, 5, false);
        if restarts {
            driver.restart();
        }
        assert_eq!(txn(&mut driver, pending(1, 4, 0, 8)), ErrorCode::InvalidProducerEpoch, "it came late");
        assert_eq!(txn(&mut driver, pending(1, 5, 0, 9)), ErrorCode::None);
        end(&mut driver, 1, 4, true);
        assert_eq!(driver.offset("a", 0), -1, "an old marker decides nothing");
        end(&mut driver, 1, 5, true);
        assert_eq!(driver.offset("a", 0), 9);
    }
}

#[test]
fn members_are_checked_when_they_say_who_they_are() {
    let mut driver = Driver::new();
    let of = |member: &str, generation| TxnOffsetCommit {
        member: member.into(),
        generation_or_epoch: generation,
        ..pending(1, 0, 0, 7)
    };
    assert_eq!(txn(&mut driver, of("m", 1)), ErrorCode::IllegalGeneration, "no group");
    let member = driver.stable(vec![join("")]).remove(0);
    let id = member.member.as_str();
    assert_eq!(txn(&mut driver, of("m", 1)), ErrorCode::UnknownMemberId);
    assert_eq!(txn(&mut driver, of(id, 2)), ErrorCode::IllegalGeneration);
    assert_eq!(txn(&mut driver, of(id, 1)), ErrorCode::None);
    assert_eq!(txn(&mut driver, of("", -1)), ErrorCode::None, "older clients do not say");

    let mut driver = Driver::new();
    let _ = driver.beat(enter("one", &["a"]));
    assert_eq!(txn(&mut driver, of("two", 1)), ErrorCode::UnknownMemberId);
    assert_eq!(txn(&mut driver, of("one", 3)), ErrorCode::IllegalGeneration);
    assert_eq!(txn(&mut driver, of("one", 1)), ErrorCode::None);
    assert_eq!(txn(&mut driver, of("", -1)), ErrorCode::None);
}

#[test]
fn an_open_transaction_keeps_offsets_from_expiring_and_a_deleted_group_forgets_it() {
    let mut driver = Driver::new();
    assert_eq!(driver.commit(commit("a", 0, 3)), [ErrorCode::None]);
    assert_eq!(txn(&mut driver, pending(1, 0, 0, 7)), ErrorCode::None);
    driver.wait(8 * 24 * 3_600_000);
    assert_eq!(driver.offset("a", 0), 3);
    let deletion = Request::DeleteGroups(DeleteGroups { groups: vec![GROUP.into()] });
    assert!(matches!(driver.call(deletion), Reply::DeleteGroups(answer) if answer.groups[0].error.is_none()));
    end(&mut driver, 1, 0, true);
    assert_eq!(driver.offset("a", 0), -1);
    driver.wait(2 * 24 * 3_600_000);
    assert!(driver.machine.snapshot().is_empty(), "the producer is forgotten");
    assert!(matches!(driver.records.last(), Some(GroupRecord::Producer { value: None, .. })));
}
