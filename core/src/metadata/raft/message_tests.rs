//! Tests of the messages: each comes back as it went, and bytes that are none are refused.

use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;
use proptest::prelude::*;

use super::*;
use crate::metadata::{
    MetadataError, Outcome,
    raft::{
        entry::{log_id, membership},
        tests::Virtual,
        types::{Entry, LogId, StoredMembership},
    },
};

type Ask = Request<Virtual>;

fn members() -> crate::metadata::raft::types::Membership {
    let nodes = BTreeMap::from([(1, "a:1".to_owned()), (2, "b:2".to_owned()), (3, String::new())]);
    membership(vec![BTreeSet::from([1, 2]), BTreeSet::from([2])], nodes).expect("every voter has an address")
}

fn append(vote: Vote, prev: Option<LogId>, ids: &[(u64, u64)]) -> Ask {
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(Command::DeleteTopic { name: "t".to_owned() }),
        EntryPayload::Membership(members()),
    ];
    let entries = ids.iter().zip(payloads.into_iter().cycle());
    let entries =
        entries.map(|((term, index), payload)| Entry::<Virtual> { log_id: log_id(*term, *index), payload });
    Request::Append(AppendEntriesRequest {
        vote,
        prev_log_id: prev,
        leader_commit: Some(log_id(1, 1)),
        entries: entries.collect(),
    })
}

fn install(offset: u64, last: Option<LogId>) -> Ask {
    let last_membership = StoredMembership::new(Some(log_id(1, 0)), members());
    let meta = SnapshotMeta { last_log_id: last, last_membership, snapshot_id: "3-9".to_owned() };
    let vote = Vote::new_committed(3, 1);
    Request::Install(InstallSnapshotRequest { vote, meta, offset, data: vec![7; 100], done: true })
}

fn requests() -> Vec<Ask> {
    vec![
        append(Vote::new_committed(3, 2), Some(log_id(2, 4)), &[(2, 5), (3, 6), (3, 7)]),
        append(Vote::new_committed(3, 2), None, &[]),
        Request::Vote(VoteRequest::new(Vote::new(9, 1), None)),
        install(512, Some(log_id(3, 9))),
        Request::Propose(Command::TakeProducerIds { count: 3 }),
    ]
}

fn replies() -> Vec<Reply> {
    let segment = |offset| SnapshotSegmentId { id: "3-9".to_owned(), offset };
    vec![
        Reply::Append(AppendEntriesResponse::Success),
        Reply::Append(AppendEntriesResponse::PartialSuccess(Some(log_id(1, 2)))),
        Reply::Append(AppendEntriesResponse::Conflict),
        Reply::Append(AppendEntriesResponse::HigherVote(Vote::new(4, 3))),
        Reply::Vote(VoteResponse { vote: Vote::new(4, 3), vote_granted: true, last_log_id: None }),
        Reply::Install(InstallSnapshotResponse { vote: Vote::new_committed(4, 3) }),
        Reply::Mismatch(SnapshotMismatch { expect: segment(0), got: segment(9) }),
        Reply::Answer { index: 9, answer: Ok(Outcome::ProducerIds(7)) },
        Reply::Answer { index: 3, answer: Err(MetadataError::TopicExists("t".to_owned())) },
        Reply::NotLeader,
        Reply::Unknown,
        Reply::Stopped,
    ]
}

#[test]
fn every_message_comes_back_and_no_prefix_does() {
    for request in requests() {
        let bytes = request.encode();
        let back = Ask::decode(&bytes).expect("it is whole");
        assert_eq!(format!("{back:?}"), format!("{request:?}"));
        assert!((0..bytes.len()).all(|length| Ask::decode(&bytes[..length]).is_err()));
    }
    for reply in replies() {
        let bytes = reply.encode();
        assert!((0..bytes.len()).all(|length| Reply::decode(&bytes[..length]).is_err()));
        assert_eq!(Reply::decode(&bytes), Ok(reply));
    }
}

#[test]
fn messages_that_cannot_be_are_refused() {
    let vote = Vote::new_committed(3, 2);
    let nobody = Vote { leader_id: openraft::LeaderId { term: 3, voted_for: None }, committed: true };
    let no_id = Vote::new(3, u64::MAX);
    for request in [
        append(vote, None, &[(3, 1)]),
        append(vote, Some(log_id(2, 4)), &[(2, 5), (2, 7)]),
        append(vote, Some(log_id(2, 4)), &[(1, 5)]),
        append(vote, Some(log_id(2, 4)), &[(4, 5)]),
        append(vote, Some(log_id(2, u64::MAX)), &[(3, 0)]),
        append(nobody, None, &[]),
        append(no_id, None, &[]),
        Request::Vote(VoteRequest::new(nobody, None)),
        install(u64::MAX, Some(log_id(3, 9))),
        install(0, None),
    ] {
        assert_eq!(Ask::decode(&request.encode()).err(), Some(DecodeError::Impossible), "{request:?}");
    }
    assert_eq!(Reply::decode(&[2, 5]), Err(DecodeError::UnknownVersion(2)));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0..5_u8) {
        let mut message = vec![VERSION, kind];
        message.extend(bytes);
        let _refused = Ask::decode(&message);
        let _refused = Reply::decode(&message);
    }
}
