//! Error replies: every api and version is answered in a schema that the crate's client side reads, with the code.

use bytes::BytesMut;
use heddle_proto::error::ErrorCode;
use heddle_samples::{self as samples, Rng, read_reply, read_reply_as};
use kafka_protocol::messages::ApiKey;

use crate::kafka::versions::{SERVED, known_versions};
use crate::kafka::{
    ReplyHeader, decode_control, decode_header, encode_reply, is_served, refuse_control, refuse_header,
    served, unsupported_reply,
};

/// Apis that only brokers and tools of Kafka's own control plane send: there the connection is closed.
const SILENT: [ApiKey; 24] = [
    ApiKey::DeleteAcls,
    ApiKey::AlterReplicaLogDirs,
    ApiKey::AlterUserScramCredentials,
    ApiKey::Vote,
    ApiKey::BeginQuorumEpoch,
    ApiKey::EndQuorumEpoch,
    ApiKey::AlterPartition,
    ApiKey::Envelope,
    ApiKey::FetchSnapshot,
    ApiKey::BrokerRegistration,
    ApiKey::BrokerHeartbeat,
    ApiKey::AllocateProducerIds,
    ApiKey::ControllerRegistration,
    ApiKey::AssignReplicasToDirs,
    ApiKey::ShareGroupDescribe,
    ApiKey::AddRaftVoter,
    ApiKey::RemoveRaftVoter,
    ApiKey::UpdateRaftVoter,
    ApiKey::InitializeShareGroupState,
    ApiKey::ReadShareGroupState,
    ApiKey::WriteShareGroupState,
    ApiKey::DeleteShareGroupState,
    ApiKey::ReadShareGroupStateSummary,
    ApiKey::DescribeShareGroupOffsets,
];

/// A frame of `api`, with entries when there is a sample for it.
fn frame(api: ApiKey, version: i16, rng: &mut Rng) -> BytesMut {
    match samples::request(api, version, rng) {
        Some(request) => samples::frame(&request, api, version, rng),
        None => samples::header(api, version, rng),
    }
}

/// Whether a reply tells `code` anywhere.
fn tells(reply: &impl std::fmt::Debug, code: i16) -> bool {
    format!("{reply:?}").contains(&format!("error_code: {code},"))
}

/// Whether a reply has an array without entries, so that it may have nowhere to tell an error.
fn has_no_entries(reply: &impl std::fmt::Debug) -> bool {
    format!("{reply:?}").contains(": []")
}

#[test]
fn a_handler_can_refuse_every_served_request() {
    let mut rng = Rng::new(21);
    for entry in SERVED.iter().filter(|entry| !matches!(entry.api, ApiKey::Produce | ApiKey::Fetch)) {
        for version in entry.min..=entry.max {
            let mut told = 0;
            for _ in 0..20 {
                let mut body = frame(entry.api, version, &mut rng);
                let header = decode_header(&mut body).unwrap();
                let request = decode_control(&header, body.freeze()).unwrap();
                let reply = refuse_control(&request, ErrorCode::ClusterAuthorizationFailed, Some("words"));
                let bytes = encode_reply(header.reply(), reply, &mut BytesMut::new()).unwrap();
                let (correlation, read) = read_reply(entry.api, version, bytes);
                assert_eq!(correlation, header.correlation);
                told += u32::from(tells(&read, 31));
                assert!(tells(&read, 31) || has_no_entries(&read), "{:?} v{version}: {read:?}", entry.api);
            }
            assert!(told > 0, "{:?} v{version} never tells", entry.api);
        }
    }
}

#[test]
fn refusals_by_header_alone_tell_the_code() {
    for entry in SERVED {
        for version in entry.min..=entry.max {
            let header = ReplyHeader { api: entry.api, version, correlation: 6 };
            let Some(bytes) = refuse_header(header, ErrorCode::InvalidRequest, &mut BytesMut::new()) else {
                continue;
            };
            let (correlation, read) = read_reply(entry.api, version, bytes);
            assert_eq!(correlation, 6);
            assert!(tells(&read, 42), "{:?} v{version}: {read:?}", entry.api);
        }
    }
}

#[test]
fn apis_that_are_not_served_get_unsupported_version() {
    let mut rng = Rng::new(22);
    for api in ApiKey::iter().filter(|&api| served(api).is_none()) {
        let known = known_versions(api);
        for version in known.min..=known.max {
            let mut told = is_silent(api);
            for _ in 0..20 {
                let mut body = frame(api, version, &mut rng);
                let header = decode_header(&mut body).unwrap();
                let reply = unsupported_reply(&header, body, &mut BytesMut::new());
                let Some(bytes) = reply else {
                    assert!(is_silent(api), "{api:?} v{version} gets no reply");
                    continue;
                };
                assert!(!SILENT.contains(&api), "{api:?} is answered");
                let (correlation, read) = read_reply(api, version, bytes);
                assert_eq!(correlation, header.correlation);
                told |= tells(&read, 35);
                assert!(tells(&read, 35) || has_no_entries(&read), "{api:?} v{version}: {read:?}");
            }
            assert!(told, "{api:?} v{version} never tells");
        }
    }
}

/// Whether nothing is answered, for want of a place for an error.
fn is_silent(api: ApiKey) -> bool {
    SILENT.contains(&api)
}

#[test]
fn versions_that_the_crate_knows_but_are_not_served_get_unsupported_version() {
    let mut rng = Rng::new(23);
    for entry in SERVED {
        let known = known_versions(entry.api);
        for version in (known.min..=known.max).filter(|&version| !is_served(entry.api, version)) {
            let (mut answered, mut told) = (0, 0);
            for _ in 0..20 {
                let mut body = frame(entry.api, version, &mut rng);
                let header = decode_header(&mut body).unwrap();
                let Some(bytes) = unsupported_reply(&header, body, &mut BytesMut::new()) else { continue };
                answered += 1;
                let (_, read) = read_reply(entry.api, version, bytes);
                told += u32::from(tells(&read, 35));
                assert!(tells(&read, 35) || has_no_entries(&read), "{:?} v{version}: {read:?}", entry.api);
            }
            // A producer with acks=0 waits for no reply; everybody else is answered.
            let least = if entry.api == ApiKey::Produce { 1 } else { 20 };
            assert!(answered >= least && told > 0, "{:?} v{version}", entry.api);
        }
    }
}

#[test]
fn versions_beyond_the_crate_are_answered_in_the_newest_schema() {
    let mut rng = Rng::new(24);
    for entry in SERVED.iter().filter(|entry| entry.api != ApiKey::Produce) {
        let newest = known_versions(entry.api).max;
        let mut body = samples::header(entry.api, newest + 3, &mut rng);
        let sent = samples::request(entry.api, newest, &mut rng).unwrap();
        sent.encode(&mut body, newest).unwrap();
        let header = decode_header(&mut body).unwrap();
        let bytes = unsupported_reply(&header, body, &mut BytesMut::new()).unwrap();
        let body_version = if entry.api == ApiKey::ApiVersions { 0 } else { newest };
        let (_, read) = read_reply_as(entry.api, newest, body_version, bytes);
        assert!(tells(&read, 35) || has_no_entries(&read), "{:?}: {read:?}", entry.api);
    }
}

#[test]
fn versions_below_the_crate_are_not_answered() {
    for (api, version) in [(ApiKey::Fetch, 3), (ApiKey::ListOffsets, 0), (ApiKey::CreateTopics, 1)] {
        let mut body = samples::header(api, version, &mut Rng::new(1));
        let header = decode_header(&mut body).unwrap();
        assert_eq!(unsupported_reply(&header, body, &mut BytesMut::new()), None);
    }
}
