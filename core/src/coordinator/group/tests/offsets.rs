//! OffsetCommit, OffsetFetch, OffsetDelete and the end of an offset's life.

use heddle_proto::{
    error::ErrorCode,
    ids::{Offset, Timestamp},
};

use super::harness::*;
use crate::coordinator::group::{
    GroupConfig, TopicImage, TopicInfo,
    message::{Event, FetchTopics, GroupState, JoinAnswer, OffsetDelete, OffsetFetch, Reply, Request},
};

const DAY: i64 = 24 * 3600 * 1000;

#[test]
fn commits_are_checked_against_the_group() {
    let (ok, unknown) = (ErrorCode::None, ErrorCode::UnknownMemberId);
    let mut driver = Driver::new();
    assert_eq!(driver.commit(commit("a", 0, 1).by("m", 3)), [ErrorCode::GroupIdNotFound]);
    let old_client = commit("a", 0, 1).by("m", 3).change(|commit| commit.knows_consumer_groups = false);
    assert_eq!(driver.commit(old_client), [ErrorCode::IllegalGeneration]);
    assert_eq!(driver.state(), GroupState::Dead, "a refused commit makes no group");
    assert_eq!(driver.commit(commit("a", 0, 1)), [ok], "a client that assigns its partitions itself");
    assert_eq!(driver.state(), GroupState::Empty);

    let mut driver = Driver::new();
    let member = driver.stable(vec![join("").instance("i")]).remove(0);
    let id = member.member.as_str();
    let by = |member: &str, generation| commit("a", 0, 5).by(member, generation);
    assert_eq!(driver.commit(commit("a", 0, 5)), [unknown], "the group has members");
    assert_eq!(driver.commit(by("other", 1)), [unknown]);
    assert_eq!(driver.commit(by(id, 0)), [ErrorCode::IllegalGeneration]);
    let other_instance = by(id, 1).change(|commit| commit.instance = Some("j".into()));
    assert_eq!(driver.commit(other_instance), [unknown]);
    let fenced = by("other", 1).change(|commit| commit.instance = Some("i".into()));
    assert_eq!(driver.commit(fenced), [ErrorCode::FencedInstanceId]);
    assert_eq!(driver.commit(by(id, 1)), [ok]);
    assert_eq!(driver.offset("a", 0), 5);
    // While the group gathers, members of the last generation may still commit; when it waits for the leader, not.
    let joining = driver.join(join(""));
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
    assert_eq!(driver.commit(by(id, 1)), [ok]);
    let again = driver.join(join(id).instance("i"));
    assert_eq!(driver.joined(again).generation, generation(2));
    assert_eq!(driver.joined(joining).generation, generation(2));
    assert_eq!(driver.commit(by(id, 1)), [ErrorCode::IllegalGeneration]);
    assert_eq!(driver.commit(by(id, 2)), [ErrorCode::RebalanceInProgress]);
}

#[test]
fn commits_of_consumer_groups_are_checked_by_epoch() {
    let mut driver = Driver::new();
    let _ = driver.beat(enter("one", &["a"]));
    assert_eq!(driver.commit(commit("a", 0, 1)), [ErrorCode::UnknownMemberId]);
    assert_eq!(driver.commit(commit("a", 0, 1).by("two", 1)), [ErrorCode::UnknownMemberId]);
    assert_eq!(driver.commit(commit("a", 0, 1).by("one", 0)), [ErrorCode::StaleMemberEpoch]);
    let old_client = commit("a", 0, 1).by("one", 1).change(|commit| commit.knows_consumer_groups = false);
    assert_eq!(driver.commit(old_client), [ErrorCode::UnsupportedVersion]);
    assert_eq!(driver.commit(commit("a", 0, 1).by("one", 1)), [ErrorCode::None]);
    let fetch = |member: Option<&str>, epoch| OffsetFetch {
        member: member.map(Into::into),
        epoch,
        ..fetch_of(vec![named("a", 0)])
    };
    let table = [
        (fetch(None, -1), ErrorCode::None),
        (fetch(Some("one"), 1), ErrorCode::None),
        (fetch(Some("one"), 2), ErrorCode::StaleMemberEpoch),
        (fetch(Some("two"), 1), ErrorCode::UnknownMemberId),
    ];
    for (request, error) in table {
        assert_eq!(driver.fetch(request).error, error);
    }
    let _ = driver.beat(beat("one", -1));
    assert_eq!(driver.commit(commit("a", 0, 9)), [ErrorCode::None], "empty, it takes commits from outside");
}

#[test]
fn each_partition_stands_for_itself() {
    let config = GroupConfig { offset_metadata_bytes_max: 4, ..GroupConfig::default() };
    let mut driver = Driver::with(config, topics(&[1]));
    let mut long = commit_partition("a", 0, 1);
    long.metadata = Some("12345".into());
    let mut none = commit_partition("a", 0, 2);
    none.metadata = None;
    let request = commit("a", 0, 1).change(|commit| {
        commit.partitions = vec![commit_partition("nowhere", 0, 1), commit_partition("a", 1, 1), long, none];
    });
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(
        driver.commit(request),
        [unknown, unknown, ErrorCode::OffsetMetadataTooLarge, ErrorCode::None]
    );
    let fetched = driver.fetch(fetch_of(vec![named("a", 0), named("a", 1)])).partitions;
    assert_eq!((fetched[0].offset.get(), &*fetched[0].metadata, fetched[0].leader_epoch.get()), (2, "", 3));
    assert_eq!((fetched[1].offset.get(), fetched[1].error), (-1, ErrorCode::None));
    let all = driver.fetch(OffsetFetch { topics: FetchTopics::All, ..fetch_of(Vec::new()) });
    assert_eq!(all.partitions.len(), 1);
    let other = OffsetFetch { group: "other".into(), ..fetch_of(vec![named("a", 0)]) };
    assert_eq!(driver.fetch(other).partitions[0].offset.get(), -1);
}

fn delete(driver: &mut Driver, topic: &str, index: u32) -> (ErrorCode, Vec<ErrorCode>) {
    let request = OffsetDelete { group: GROUP.into(), partitions: vec![named(topic, index)] };
    match driver.call(Request::OffsetDelete(request)) {
        Reply::OffsetDelete(answer) => {
            (answer.error, answer.partitions.into_iter().map(|result| result.error).collect())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn offsets_are_deleted_unless_the_topic_is_read() {
    let ok = (ErrorCode::None, vec![ErrorCode::None]);
    let read = (ErrorCode::None, vec![ErrorCode::GroupSubscribedToTopic]);
    let mut driver = Driver::new();
    assert_eq!(delete(&mut driver, "a", 0), (ErrorCode::GroupIdNotFound, vec![]));
    assert_eq!(driver.commit(commit("a", 0, 1)), [ErrorCode::None]);
    assert_eq!(driver.commit(commit("b", 0, 1)), [ErrorCode::None]);
    assert_eq!(delete(&mut driver, "z", 0), (ErrorCode::None, vec![ErrorCode::UnknownTopicOrPartition]));
    let _ = driver.stable(vec![join("")]);
    assert_eq!(delete(&mut driver, "a", 0), read);
    assert_eq!(delete(&mut driver, "b", 0), ok);
    assert_eq!((driver.offset("a", 0), driver.offset("b", 0)), (1, -1));

    let mut driver = Driver::new();
    assert_eq!(driver.commit(commit("a", 0, 1)), [ErrorCode::None]);
    assert_eq!(delete(&mut driver, "a", 0), ok);
    let connect = |join: Join| join.change(|join| join.protocol_type = "connect".into());
    let _ = driver.stable(vec![connect(join(""))]);
    assert_eq!(delete(&mut driver, "a", 0), (ErrorCode::NonEmptyGroup, vec![]));

    let mut driver = Driver::new();
    assert_eq!(driver.commit(commit("b", 0, 1)), [ErrorCode::None]);
    let _ = driver.beat(enter("one", &["a"]));
    assert_eq!(delete(&mut driver, "a", 0), read);
    assert_eq!(delete(&mut driver, "b", 0), ok);
}

#[test]
fn offsets_of_a_group_without_protocol_expire_by_their_commit() {
    let mut driver = Driver::new();
    let _ = driver.commit(commit("a", 0, 1));
    driver.wait(6 * DAY);
    let _ = driver.commit(commit("a", 1, 1));
    driver.wait(DAY + 600_000);
    assert_eq!((driver.offset("a", 0), driver.offset("a", 1)), (-1, 1));
    driver.wait(6 * DAY);
    assert_eq!(driver.state(), GroupState::Dead, "with its last offset the group goes");
    assert!(driver.machine.snapshot().is_empty());
}

#[test]
fn offsets_of_a_group_expire_after_its_last_member_left() {
    for is_consumer in [false, true] {
        let mut driver = Driver::new();
        let (member, epoch) = if is_consumer {
            let _ = driver.beat(enter("one", &["a"]));
            ("one".to_string(), 1)
        } else {
            let long =
                |join: Join| join.change(|join| join.session_timeout = std::time::Duration::from_secs(1_800));
            (driver.stable(vec![long(join(""))]).remove(0).member.to_string(), 1)
        };
        let alive = JoinAnswer {
            generation: generation(1),
            ..JoinAnswer::refuse(ErrorCode::None, member.as_str().into())
        };
        assert_eq!(driver.commit(commit("a", 0, 1).by(&member, epoch)), [ErrorCode::None]);
        assert_eq!(driver.commit(commit("b", 0, 1).by(&member, epoch)), [ErrorCode::None]);
        for _ in 0..DAY * 8 / 30_000 {
            driver.wait(30_000);
            if is_consumer {
                let _ = driver.beat(beat("one", 1));
            } else {
                assert_eq!(driver.heartbeat(&alive), ErrorCode::None);
            }
        }
        assert_eq!(driver.offset("a", 0), 1, "it reads that topic");
        assert_eq!(driver.offset("b", 0), -1, "but not this one");
        if is_consumer {
            let _ = driver.beat(beat("one", -1));
        } else {
            let _ = driver.leave(&[(&member, None)]);
        }
        driver.restart();
        driver.wait(6 * DAY);
        assert_eq!(driver.offset("a", 0), 1);
        driver.wait(DAY + 600_000);
        assert_eq!(driver.offset("a", 0), -1);
        assert_eq!(driver.state(), GroupState::Dead);
        assert!(driver.machine.snapshot().is_empty() && driver.replayed().snapshot().is_empty());
    }
}

#[test]
fn an_end_that_the_client_asked_for_holds() {
    let mut driver = Driver::new();
    let ends = Timestamp::new(driver.now + DAY);
    let _ = driver.commit(commit("a", 0, 1).change(|commit| commit.expires = Some(ends)));
    driver.wait(DAY - 1);
    assert_eq!(driver.offset("a", 0), 1);
    driver.wait(600_000);
    assert_eq!(driver.offset("a", 0), -1);
}

#[test]
fn many_expired_offsets_go_in_writes_of_limited_size() {
    let mut driver = Driver::with(GroupConfig::default(), topics(&[2_500]));
    for index in 0..2_500 {
        let _ = driver.commit(commit("a", index, 1));
    }
    let before = driver.last_write.get();
    driver.wait(7 * DAY + 600_000);
    assert!(driver.machine.snapshot().is_empty());
    assert_eq!(driver.last_write.get() - before, 3);
}

#[test]
fn offsets_of_a_deleted_topic_go_and_one_of_the_same_name_starts_anew() {
    let mut driver = Driver::with(GroupConfig::default(), topics(&[1, 1]));
    let _ = driver.commit(commit("a", 0, 1));
    let _ = driver.commit(commit("b", 0, 2));
    driver.apply(Event::TopicsChanged(topics(&[1])));
    driver.apply(Event::TopicsChanged(topics(&[1, 1])));
    assert_eq!((driver.offset("a", 0), driver.offset("b", 0)), (1, -1));
    // Deleted and made again while the coordinator was down.
    let info = TopicInfo { id: topic_id(9), partition_count: 1 };
    driver.topics = std::sync::Arc::new(TopicImage::new([("a".into(), info)]));
    driver.restart();
    assert_eq!(driver.offset("a", 0), -1);
    let all = driver.fetch(OffsetFetch { topics: FetchTopics::All, ..fetch_of(Vec::new()) });
    assert!(all.partitions.is_empty());
    let _ = driver.commit(commit("a", 0, 8));
    assert_eq!(driver.fetch(fetch_of(vec![named("a", 0)])).partitions[0].offset, Offset::new(8));
}
