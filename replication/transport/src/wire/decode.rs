//! Reading frames: lengths, checksum, verification under limits, and then only what the machines may see.

use bytes::{Buf, Bytes};
use flatbuffers::{Vector, VerifierOptions};
use heddle_proto::batch::BATCH_HEADER_BYTES;
use heddle_proto::crc::crc32c;
use heddle_proto::ids::{CoreId, Epoch, NodeId, Offset, PartitionIndex, TopicId, TopicPartition};
use heddle_replication::history::{EPOCHS_MAX, History};
use heddle_replication::message::{Join, Life, Message};
use heddle_replication_driver::{Frame, Peer, Said};

use super::encode::within;
use super::generated::heddle::peer as fb;
use super::{
    Body, CALL_BYTES_MAX, CLUSTER_ID_BYTES_MAX, Call, FRAME_BYTES_MAX, HEADER_BYTES_MAX, Hello,
    PAYLOAD_BYTES_MAX, PREFIX_BYTES, Purpose, Refusal, SAID_COUNT_MAX, WireError, checksum,
};

/// Header, body, list entry, its message.
const DEPTH_MAX: usize = 8;

/// A table for each message and one for what holds it, and the few around them.
const TABLES_MAX: usize = 2 * SAID_COUNT_MAX + 8;

/// Reads a frame, which begins behind its length field. Batches are parts of it, not copied.
///
/// # Errors
/// Every [`WireError`].
pub fn decode(mut frame: Bytes) -> Result<Body, WireError> {
    let frame_bytes = frame.len();
    if frame_bytes < PREFIX_BYTES {
        return Err(WireError::TooShort(frame_bytes));
    }
    within("frame", frame_bytes, FRAME_BYTES_MAX)?;
    let (header_bytes, stored) = (frame.get_u32_le() as usize, frame.get_u32_le());
    within("header", header_bytes, HEADER_BYTES_MAX)?;
    if header_bytes > frame.len() {
        return Err(WireError::HeaderBeyondFrame { header_bytes, frame_bytes });
    }
    let header = frame.split_to(header_bytes);
    let computed = checksum(frame_bytes as u32, &header);
    if computed != stored {
        return Err(WireError::Crc { stored, computed });
    }
    let options = VerifierOptions {
        max_depth: DEPTH_MAX,
        max_tables: TABLES_MAX,
        max_apparent_size: 2 * HEADER_BYTES_MAX,
        ignore_missing_null_terminator: false,
    };
    let root = flatbuffers::root_with_opts::<fb::Header<'_>>(&options, &header)?;
    let missing = WireError::Missing("body");
    match root.body_type() {
        fb::Body::Streams => read_streams(&root.body_as_streams().ok_or(missing)?, frame).map(Body::Streams),
        fb::Body::Request => {
            let request = root.body_as_request().ok_or(missing)?;
            read_call(request.number(), request.crc(), frame).map(Body::Request)
        }
        fb::Body::Reply => {
            let reply = root.body_as_reply().ok_or(missing)?;
            read_call(reply.number(), reply.crc(), frame).map(Body::Reply)
        }
        _ if !frame.is_empty() => Err(WireError::Payload { named: 0, bytes: frame.len() }),
        _ => read_small(&root),
    }
}

fn read_call(number: u64, stored: u32, payload: Bytes) -> Result<Call, WireError> {
    within("payload", payload.len(), CALL_BYTES_MAX)?;
    let computed = crc32c(&payload);
    if computed != stored { Err(WireError::Crc { stored, computed }) } else { Ok(Call { number, payload }) }
}

/// What has no payload.
fn read_small(root: &fb::Header<'_>) -> Result<Body, WireError> {
    let missing = WireError::Missing("body");
    Ok(match root.body_type() {
        fb::Body::Hello => Body::Hello(read_hello(&root.body_as_hello().ok_or(missing)?)?),
        fb::Body::Proof => Body::Proof(root.body_as_proof().ok_or(missing)?.digest().0),
        fb::Body::Accepted => Body::Accepted(root.body_as_accepted().ok_or(missing)?.digest().0),
        fb::Body::Refused => Body::Refused(refusal_of(root.body_as_refused().ok_or(missing)?.reason())),
        fb::Body::Ping => Body::Ping(root.body_as_ping().ok_or(missing)?.number()),
        fb::Body::Pong => Body::Pong(root.body_as_pong().ok_or(missing)?.number()),
        other => return Err(WireError::Unknown { what: "frame", kind: other.0 }),
    })
}

fn read_hello(hello: &fb::Hello<'_>) -> Result<Hello, WireError> {
    within("cluster id", hello.cluster().len(), CLUSTER_ID_BYTES_MAX)?;
    let peer = |node, core| Peer { node: NodeId::new(node), core: CoreId::new(core) };
    Ok(Hello {
        cluster: hello.cluster().to_owned(),
        from: peer(hello.node(), hello.core()),
        life: Life(hello.life()),
        process: hello.process().0,
        to: peer(hello.to_node(), hello.to_core()),
        challenge: hello.challenge().0,
        purpose: purpose_of(hello.purpose())?,
    })
}

fn purpose_of(purpose: fb::Purpose) -> Result<Purpose, WireError> {
    Ok(match purpose {
        fb::Purpose::Streams => Purpose::Streams,
        fb::Purpose::Calls => Purpose::Calls,
        fb::Purpose::Join => Purpose::Join,
        other => return Err(WireError::Unknown { what: "purpose", kind: other.0 }),
    })
}

fn refusal_of(reason: fb::Reason) -> Refusal {
    match reason {
        fb::Reason::Cluster => Refusal::Cluster,
        fb::Reason::OwnNode => Refusal::OwnNode,
        fb::Reason::NodeInUse => Refusal::NodeInUse,
        fb::Reason::NotMe => Refusal::NotMe,
        fb::Reason::Secret => Refusal::Secret,
        fb::Reason::Purpose => Refusal::Purpose,
        _ => Refusal::Unknown,
    }
}

fn read_streams(streams: &fb::Streams<'_>, mut payload: Bytes) -> Result<Frame, WireError> {
    within("payload", payload.len(), PAYLOAD_BYTES_MAX)?;
    let list = streams.said().unwrap_or_default();
    within("list of messages", list.len(), SAID_COUNT_MAX)?;
    let sizes = list.iter().flat_map(|said| said.batch_bytes().unwrap_or_default());
    if let Some(small) = sizes.clone().find(|bytes| (*bytes as usize) < BATCH_HEADER_BYTES) {
        return Err(WireError::OutOfRange { field: "size of a batch", value: i64::from(small) });
    }
    let named = sizes.fold(0, |sum: u64, bytes| sum.saturating_add(u64::from(bytes)));
    let bytes = payload.len();
    if named != bytes as u64 {
        return Err(WireError::Payload { named, bytes });
    }
    let said = list.iter().map(|said| read_said(&said, &mut payload)).collect::<Result<_, _>>()?;
    let taken = streams.taken().map(|taken| (taken.stream(), taken.bytes()));
    Ok(Frame { connection: streams.stream(), taken, said })
}

fn read_said(said: &fb::Said<'_>, payload: &mut Bytes) -> Result<Said, WireError> {
    let topic = TopicId::new(said.topic().0);
    let batches = said.batch_bytes().unwrap_or_default().iter();
    // Together they are the payload, so that no part of it can be missing here.
    let batches = batches.map(|bytes| payload.split_to(bytes as usize)).collect();
    Ok(Said {
        partition: TopicPartition::new(topic, PartitionIndex::new(said.partition())),
        message: read_message(said)?,
        batches,
    })
}

fn read_message(said: &fb::Said<'_>) -> Result<Message, WireError> {
    let missing = WireError::Missing("message");
    Ok(match said.message_type() {
        fb::Message::Join => read_join(&said.message_as_join().ok_or(missing)?)?,
        fb::Message::Welcome => read_welcome(&said.message_as_welcome().ok_or(missing)?)?,
        fb::Message::Append => read_append(&said.message_as_append().ok_or(missing)?)?,
        fb::Message::Commit => {
            let commit = said.message_as_commit().ok_or(missing)?;
            Message::Commit {
                epoch: epoch(commit.epoch())?,
                life: Life(commit.life()),
                committed: offset("committed", commit.committed())?,
            }
        }
        fb::Message::Ack => {
            let ack = said.message_as_ack().ok_or(missing)?;
            Message::Ack {
                epoch: epoch(ack.epoch())?,
                life: Life(ack.life()),
                written: offset("written", ack.written())?,
                held: ack.held().map(|held| offset("held", held)).transpose()?,
                version: ack.version(),
            }
        }
        other => return Err(WireError::Unknown { what: "message", kind: other.0 }),
    })
}

fn read_join(join: &fb::Join<'_>) -> Result<Message, WireError> {
    Ok(Message::Join(Join {
        epoch: epoch(join.epoch())?,
        life: Life(join.life()),
        start: offset("start", join.start())?,
        end: offset("end", join.end())?,
        committed: offset("committed", join.committed())?,
        history: read_history(join.history())?,
    }))
}

fn read_welcome(welcome: &fb::Welcome<'_>) -> Result<Message, WireError> {
    Ok(Message::Welcome {
        epoch: epoch(welcome.epoch())?,
        life: Life(welcome.life()),
        shared: offset("shared", welcome.shared())?,
        start: offset("start", welcome.start())?,
        elected_end: offset("elected end", welcome.elected_end())?,
        committed: offset("committed", welcome.committed())?,
    })
}

fn read_append(append: &fb::Append<'_>) -> Result<Message, WireError> {
    let (from, upto) = (offset("from", append.from())?, offset("upto", append.upto())?);
    if from > upto {
        return Err(WireError::OutOfRange { field: "from", value: from.get() });
    }
    Ok(Message::Append {
        epoch: epoch(append.epoch())?,
        life: Life(append.life()),
        from,
        upto,
        history: read_history(append.history())?,
        committed: offset("committed", append.committed())?,
    })
}

fn read_history(entries: Option<Vector<'_, fb::EpochStart>>) -> Result<History, WireError> {
    let entries = entries.unwrap_or_default();
    if entries.len() > EPOCHS_MAX {
        return Err(WireError::History);
    }
    let entries =
        entries.iter().map(|entry| Ok((epoch(entry.epoch())?, offset("start of an epoch", entry.start())?)));
    History::from_entries(entries.collect::<Result<_, WireError>>()?).ok_or(WireError::History)
}

fn offset(field: &'static str, value: i64) -> Result<Offset, WireError> {
    if value < 0 { Err(WireError::OutOfRange { field, value }) } else { Ok(Offset::new(value)) }
}

fn epoch(value: i32) -> Result<Epoch, WireError> {
    let out_of_range = WireError::OutOfRange { field: "epoch", value: i64::from(value) };
    if value < 0 { Err(out_of_range) } else { Ok(Epoch::new(value)) }
}
