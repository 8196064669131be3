//! Produce, versions 0 to 13: batches leave the frame as writable slices, and replies are written without the crate.
//!
//! Versions 0 to 2 are decoded only so that they can be refused by name: see [`served`](super::versions::served).

use bytes::{Bytes, BytesMut};
use heddle_proto::error::ErrorCode;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;

use super::error::{DecodeError, EncodeError};
use super::header::{ReplyHeader, RequestHeader};
use super::topic::{TopicRef, entry_bytes_min};
use super::wire::{Reader, Writer, uvarint_size};

/// The highest version this codec reads and writes; 13 names topics by id.
pub const PRODUCE_VERSION_MAX: i16 = 13;

/// Batches for partitions, as the client sent them. Numbers are raw: nothing has been checked but lengths.
#[derive(Debug, PartialEq, Eq)]
pub struct ProduceRequest {
    /// Set by a transactional producer.
    pub transactional_id: Option<StrBytes>,
    /// -1 all, 1 leader only, 0 no reply; other values are the client's mistake.
    pub acks: i16,
    /// How long to wait for the acks, in milliseconds.
    pub timeout_ms: i32,
    /// What to append where.
    pub topics: Vec<ProduceTopic>,
}

/// The part of a produce request for one topic.
#[derive(Debug, PartialEq, Eq)]
pub struct ProduceTopic {
    /// Which topic.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<ProducePartition>,
}

/// The part of a produce request for one partition.
#[derive(Debug, PartialEq, Eq)]
pub struct ProducePartition {
    /// Partition index, possibly negative.
    pub index: i32,
    /// Concatenated record batches: the frame's own bytes, writable in place.
    pub records: Option<BytesMut>,
}

/// The reply to a produce request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceReply {
    /// One entry per topic of the request.
    pub topics: Vec<ProduceTopicReply>,
    /// For how long the client is being held back, in milliseconds.
    pub throttle_ms: i32,
    /// Where the brokers named in `current_leader` listen (version 10 and up).
    pub endpoints: Vec<NodeEndpoint>,
}

/// The reply for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceTopicReply {
    /// Which topic, named as asked.
    pub topic: TopicRef,
    /// One entry per partition of the request.
    pub partitions: Vec<ProducePartitionReply>,
}

/// The reply for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartitionReply {
    /// Partition index as asked.
    pub index: i32,
    /// Whether it was appended.
    pub error: ErrorCode,
    /// Offset of the first record, -1 when refused.
    pub base_offset: i64,
    /// When the broker appended, in milliseconds since the epoch; -1 when the producer's timestamps stand (version 2 and up).
    pub append_time_ms: i64,
    /// First offset still in the log, -1 when unknown (version 5 and up).
    pub log_start_offset: i64,
    /// Which records of the batch were wrong (version 8 and up).
    pub record_errors: Vec<RecordError>,
    /// What was wrong in words (version 8 and up).
    pub error_message: Option<StrBytes>,
    /// Who leads now, told with NOT_LEADER_OR_FOLLOWER (version 10 and up).
    pub current_leader: Option<CurrentLeader>,
}

/// One record that made its batch fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// Position of the record in its batch.
    pub batch_index: i32,
    /// What is wrong with it.
    pub message: Option<StrBytes>,
}

/// The leader of a partition and its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentLeader {
    /// Broker id of the leader.
    pub id: i32,
    /// Its leader epoch.
    pub epoch: i32,
}

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// Broker id.
    pub id: i32,
    /// Host name or address.
    pub host: StrBytes,
    /// TCP port.
    pub port: i32,
    /// Rack, if any.
    pub rack: Option<StrBytes>,
}

impl ProduceRequest {
    /// The reply that refuses every partition of this request with `error`.
    pub fn refuse(&self, error: ErrorCode) -> ProduceReply {
        let topics = self.topics.iter().map(|topic| ProduceTopicReply {
            topic: topic.topic.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|p| ProducePartitionReply::refused(p.index, error))
                .collect(),
        });
        ProduceReply { topics: topics.collect(), ..ProduceReply::default() }
    }
}

impl ProducePartitionReply {
    /// The reply for batches that were appended.
    pub fn appended(index: i32, base_offset: i64, append_time_ms: i64, log_start_offset: i64) -> Self {
        ProducePartitionReply {
            index,
            error: ErrorCode::None,
            base_offset,
            append_time_ms,
            log_start_offset,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        }
    }

    /// The reply for batches that were not appended.
    pub fn refused(index: i32, error: ErrorCode) -> Self {
        ProducePartitionReply { error, ..Self::appended(index, -1, -1, -1) }
    }
}

/// Reads the body of a produce request. The batches stay where the frame was read into.
///
/// # Errors
/// [`DecodeError::UnsupportedVersion`] above [`PRODUCE_VERSION_MAX`] or below 0, else whatever is malformed.
pub fn decode_produce(header: &RequestHeader, body: BytesMut) -> Result<ProduceRequest, DecodeError> {
    let version = header.version;
    if header.api != ApiKey::Produce || !(0..=PRODUCE_VERSION_MAX).contains(&version) {
        return Err(DecodeError::UnsupportedVersion { api: header.api, version });
    }
    let flexible = header.is_flexible();
    let mut reader = Reader::new(body, flexible);
    let transactional_id = if version >= 3 { reader.nullable_string()? } else { None };
    let acks = reader.i16()?;
    let timeout_ms = reader.i32()?;
    // The smallest partition is an index and null records.
    let partition_bytes_min = if flexible { 6 } else { 8 };
    let topic_count = reader.array(entry_bytes_min(version, flexible))?;
    let mut topics = Vec::with_capacity(topic_count);
    for _ in 0..topic_count {
        let topic = TopicRef::read(&mut reader, version)?;
        let partition_count = reader.array(partition_bytes_min)?;
        let mut partitions = Vec::with_capacity(partition_count);
        for _ in 0..partition_count {
            let index = reader.i32()?;
            let records = reader.nullable_bytes()?;
            reader.skip_tags()?;
            partitions.push(ProducePartition { index, records });
        }
        reader.skip_tags()?;
        topics.push(ProduceTopic { topic, partitions });
    }
    reader.skip_tags()?;
    reader.finish()?;
    Ok(ProduceRequest { transactional_id, acks, timeout_ms, topics })
}

/// Writes a whole produce reply, length prefix included, using `out` as scratch (cleared first).
///
/// # Errors
/// [`EncodeError::FieldTooLong`] when a string does not fit the version's length field.
pub fn encode_produce(
    header: ReplyHeader,
    reply: &ProduceReply,
    out: &mut BytesMut,
) -> Result<Bytes, EncodeError> {
    if header.api != ApiKey::Produce {
        return Err(EncodeError::WrongApi(header.api));
    }
    let mut writer = Writer::begin(header, out);
    writer.long_length(reply.topics.len())?;
    for topic in &reply.topics {
        topic.topic.write(&mut writer, header.version)?;
        writer.long_length(topic.partitions.len())?;
        for partition in &topic.partitions {
            write_partition(&mut writer, header.version, partition)?;
        }
        writer.no_tags();
    }
    if header.version >= 1 {
        writer.i32(reply.throttle_ms);
    }
    write_endpoints(&mut writer, header.version >= 10, &reply.endpoints)?;
    writer.finish()
}

fn write_partition(
    writer: &mut Writer<'_>,
    version: i16,
    reply: &ProducePartitionReply,
) -> Result<(), EncodeError> {
    writer.i32(reply.index);
    writer.i16(reply.error.code());
    writer.i64(reply.base_offset);
    if version >= 2 {
        writer.i64(reply.append_time_ms);
    }
    if version >= 5 {
        writer.i64(reply.log_start_offset);
    }
    if version >= 8 {
        write_record_errors(writer, &reply.record_errors)?;
        writer.nullable_string(reply.error_message.as_deref())?;
    }
    match reply.current_leader {
        Some(leader) if version >= 10 => {
            writer.uvarint(1);
            write_leader(writer, 0, leader);
        }
        _ => writer.no_tags(),
    }
    Ok(())
}

fn write_record_errors(writer: &mut Writer<'_>, errors: &[RecordError]) -> Result<(), EncodeError> {
    writer.long_length(errors.len())?;
    for error in errors {
        writer.i32(error.batch_index);
        writer.nullable_string(error.message.as_deref())?;
        writer.no_tags();
    }
    Ok(())
}

/// The tagged field that names a partition's leader; its tag differs between produce and fetch.
pub(super) fn write_leader(writer: &mut Writer<'_>, tag: u32, leader: CurrentLeader) {
    writer.uvarint(tag);
    writer.uvarint(9); // two 32-bit numbers and an empty set of tags
    writer.i32(leader.id);
    writer.i32(leader.epoch);
    writer.no_tags();
}

/// The tags that end the reply: where the version has it, tag 0 holds the endpoints.
pub(super) fn write_endpoints(
    writer: &mut Writer<'_>,
    has_endpoints: bool,
    endpoints: &[NodeEndpoint],
) -> Result<(), EncodeError> {
    if !has_endpoints || endpoints.is_empty() {
        writer.no_tags();
        return Ok(());
    }
    let bytes = compact_size(endpoints.len()) + endpoints.iter().map(endpoint_size).sum::<usize>();
    writer.uvarint(1);
    writer.uvarint(0);
    writer.uvarint(u32::try_from(bytes).map_err(|_| EncodeError::FieldTooLong(bytes))?);
    writer.long_length(endpoints.len())?;
    for endpoint in endpoints {
        writer.i32(endpoint.id);
        writer.string(&endpoint.host)?;
        writer.i32(endpoint.port);
        writer.nullable_string(endpoint.rack.as_deref())?;
        writer.no_tags();
    }
    Ok(())
}

/// Bytes of one endpoint: id, host, port, rack and an empty set of tags.
fn endpoint_size(endpoint: &NodeEndpoint) -> usize {
    let host = compact_size(endpoint.host.len()) + endpoint.host.len();
    let rack = endpoint.rack.as_ref().map_or(1, |rack| compact_size(rack.len()) + rack.len());
    4 + host + 4 + rack + 1
}

/// Bytes of a compact length field that says `length`. Beyond 32 bits the write that follows fails.
fn compact_size(length: usize) -> usize {
    uvarint_size(u32::try_from(length).unwrap_or(u32::MAX).saturating_add(1))
}
