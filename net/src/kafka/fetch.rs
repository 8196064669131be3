//! Fetch, versions 4 to 18: the reply is framed around batches that are never copied.

use bytes::{Bytes, BytesMut};
use heddle_proto::error::ErrorCode;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;

use super::error::{DecodeError, EncodeError};
use super::header::{ReplyHeader, RequestHeader};
use super::produce::{CurrentLeader, NodeEndpoint, write_endpoints, write_leader};
use super::topic::{TopicRef, entry_bytes_min};
use super::wire::{Reader, Writer};

/// The lowest version this codec reads: older ones expect message formats that Heddle does not store.
pub const FETCH_VERSION_MIN: i16 = 4;
/// The highest version this codec reads and writes; 13 and up name topics by id.
pub const FETCH_VERSION_MAX: i16 = 18;

/// From this version on, who fetches is told in a tagged field that consumers leave out.
const REPLICA_STATE_VERSION_MIN: i16 = 15;

/// What to read from where. Numbers are raw, as the client sent them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// -1 for a consumer, else the broker id of a follower.
    pub replica_id: i32,
    /// How long to wait for `bytes_min`, in milliseconds.
    pub wait_max_ms: i32,
    /// How many bytes to wait for.
    pub bytes_min: i32,
    /// How many bytes the reply may hold in all.
    pub bytes_max: i32,
    /// 0 reads everything committed, 1 stops at the last stable offset.
    pub isolation_level: i8,
    /// Incremental fetch session, 0 for none.
    pub session_id: i32,
    /// Epoch within the session: 0 opens one, -1 closes it or asks for none.
    pub session_epoch: i32,
    /// What to read.
    pub topics: Vec<FetchTopic>,
    /// What to drop from the session.
    pub forgotten: Vec<ForgottenTopic>,
    /// The consumer's rack, empty for none.
    pub rack_id: StrBytes,
}

/// The part of a fetch request for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopic {
    /// Which topic.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<FetchPartition>,
}

/// The part of a fetch request for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// Partition index, possibly negative.
    pub index: i32,
    /// The leader epoch the client knows, -1 for none.
    pub current_leader_epoch: i32,
    /// First offset wanted.
    pub fetch_offset: i64,
    /// Epoch of the last record the client has, -1 for none.
    pub last_fetched_epoch: i32,
    /// A follower's first offset, -1 from consumers.
    pub log_start_offset: i64,
    /// How many bytes of this partition the reply may hold.
    pub bytes_max: i32,
}

/// Partitions of one topic to drop from a fetch session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgottenTopic {
    /// Which topic.
    pub topic: TopicRef,
    /// Partition indexes.
    pub partitions: Vec<i32>,
}

/// The reply to a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchReply {
    /// For how long the client is being held back, in milliseconds.
    pub throttle_ms: i32,
    /// An error of the request as a whole (version 7 and up).
    pub error: ErrorCode,
    /// The fetch session, 0 for none (version 7 and up).
    pub session_id: i32,
    /// One entry per topic.
    pub topics: Vec<FetchTopicReply>,
    /// Where the brokers named in `current_leader` listen (version 16 and up).
    pub endpoints: Vec<NodeEndpoint>,
}

/// The reply for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopicReply {
    /// Which topic, named as asked.
    pub topic: TopicRef,
    /// One entry per partition.
    pub partitions: Vec<FetchPartitionReply>,
}

/// The reply for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPartitionReply {
    /// Partition index as asked.
    pub index: i32,
    /// Whether it could be read.
    pub error: ErrorCode,
    /// The committed position, -1 when unknown.
    pub high_watermark: i64,
    /// Below this no transaction is open; -1 when unknown.
    pub last_stable_offset: i64,
    /// First offset still in the log, -1 when unknown (version 5 and up).
    pub log_start_offset: i64,
    /// Aborted transactions that overlap the batches; `None` is written as null.
    pub aborted: Option<Vec<AbortedTransaction>>,
    /// Broker to read from instead, -1 for none (version 11 and up).
    pub preferred_read_replica: i32,
    /// Where the client's log and this one part, told instead of batches (version 12 and up).
    pub diverging: Option<EpochEnd>,
    /// Who leads now, told with NOT_LEADER_OR_FOLLOWER or FENCED_LEADER_EPOCH (version 12 and up).
    pub current_leader: Option<CurrentLeader>,
    /// Whole batches, in order, as they lie in the log.
    pub records: Vec<Bytes>,
}

/// The end of the last epoch that the client and this broker share (KIP-595).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch.
    pub epoch: i32,
    /// The offset after its last record.
    pub end_offset: i64,
}

/// A transaction whose records a read-committed consumer skips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// The producer.
    pub producer_id: i64,
    /// Its first offset in the transaction.
    pub first_offset: i64,
}

impl Default for FetchReply {
    fn default() -> Self {
        FetchReply {
            throttle_ms: 0,
            error: ErrorCode::None,
            session_id: 0,
            topics: Vec::new(),
            endpoints: Vec::new(),
        }
    }
}

impl FetchRequest {
    /// The reply that refuses this request with `error`: for the request as a whole, and for each partition because
    /// versions below 7 have no other place for it.
    pub fn refuse(&self, error: ErrorCode) -> FetchReply {
        let topics = self.topics.iter().map(|topic| FetchTopicReply {
            topic: topic.topic.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|p| FetchPartitionReply::refused(p.index, error))
                .collect(),
        });
        FetchReply { error, topics: topics.collect(), ..FetchReply::default() }
    }
}

impl FetchPartitionReply {
    /// The reply for a partition that could be read, possibly with nothing new in it.
    pub fn read(index: i32, high_watermark: i64, log_start_offset: i64, records: Vec<Bytes>) -> Self {
        FetchPartitionReply {
            index,
            error: ErrorCode::None,
            high_watermark,
            last_stable_offset: high_watermark,
            log_start_offset,
            aborted: None,
            preferred_read_replica: -1,
            diverging: None,
            current_leader: None,
            records,
        }
    }

    /// The reply for a partition that could not be read.
    pub fn refused(index: i32, error: ErrorCode) -> Self {
        FetchPartitionReply { error, ..Self::read(index, -1, -1, Vec::new()) }
    }

    /// Bytes of the batches.
    pub fn records_bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

/// Reads the body of a fetch request.
///
/// # Errors
/// [`DecodeError::UnsupportedVersion`] outside [`FETCH_VERSION_MIN`] to [`FETCH_VERSION_MAX`], else whatever is
/// malformed.
pub fn decode_fetch(header: &RequestHeader, body: BytesMut) -> Result<FetchRequest, DecodeError> {
    let version = header.version;
    if header.api != ApiKey::Fetch || !(FETCH_VERSION_MIN..=FETCH_VERSION_MAX).contains(&version) {
        return Err(DecodeError::UnsupportedVersion { api: header.api, version });
    }
    let mut reader = Reader::new(body, header.is_flexible());
    let replica_id = if version < REPLICA_STATE_VERSION_MIN { Some(reader.i32()?) } else { None };
    let wait_max_ms = reader.i32()?;
    let bytes_min = reader.i32()?;
    let bytes_max = reader.i32()?;
    let isolation_level = reader.i8()?;
    let (session_id, session_epoch) = if version >= 7 { (reader.i32()?, reader.i32()?) } else { (0, -1) };
    let topics = read_topics(&mut reader, version)?;
    let forgotten = if version >= 7 { read_forgotten(&mut reader, version)? } else { Vec::new() };
    let rack_id = if version >= 11 { reader.string()? } else { StrBytes::new() };
    let replica_state = reader.tag((version >= REPLICA_STATE_VERSION_MIN).then_some(1))?;
    reader.finish()?;
    let replica_id = match (replica_id, replica_state) {
        (Some(id), _) => id,
        (None, Some(state)) => Reader::new(state, true).i32()?,
        (None, None) => -1,
    };
    Ok(FetchRequest {
        replica_id,
        wait_max_ms,
        bytes_min,
        bytes_max,
        isolation_level,
        session_id,
        session_epoch,
        topics,
        forgotten,
        rack_id,
    })
}

fn read_topics(reader: &mut Reader, version: i16) -> Result<Vec<FetchTopic>, DecodeError> {
    let topic_count = reader.array(entry_bytes_min(version, version >= 12))?;
    let mut topics = Vec::with_capacity(topic_count);
    for _ in 0..topic_count {
        let topic = TopicRef::read(reader, version)?;
        let partition_count = reader.array(16)?; // index, offset and byte limit are in every version
        let mut partitions = Vec::with_capacity(partition_count);
        for _ in 0..partition_count {
            partitions.push(read_partition(reader, version)?);
        }
        reader.skip_tags()?;
        topics.push(FetchTopic { topic, partitions });
    }
    Ok(topics)
}

fn read_partition(reader: &mut Reader, version: i16) -> Result<FetchPartition, DecodeError> {
    let partition = FetchPartition {
        index: reader.i32()?,
        current_leader_epoch: if version >= 9 { reader.i32()? } else { -1 },
        fetch_offset: reader.i64()?,
        last_fetched_epoch: if version >= 12 { reader.i32()? } else { -1 },
        log_start_offset: if version >= 5 { reader.i64()? } else { -1 },
        bytes_max: reader.i32()?,
    };
    reader.skip_tags()?;
    Ok(partition)
}

fn read_forgotten(reader: &mut Reader, version: i16) -> Result<Vec<ForgottenTopic>, DecodeError> {
    let topic_count = reader.array(entry_bytes_min(version, version >= 12))?;
    let mut forgotten = Vec::with_capacity(topic_count);
    for _ in 0..topic_count {
        let topic = TopicRef::read(reader, version)?;
        let partition_count = reader.array(4)?;
        let mut partitions = Vec::with_capacity(partition_count);
        for _ in 0..partition_count {
            partitions.push(reader.i32()?);
        }
        reader.skip_tags()?;
        forgotten.push(ForgottenTopic { topic, partitions });
    }
    Ok(forgotten)
}

/// Writes a whole fetch reply as chunks to be sent in order: pieces of `out` (cleared first) with the length prefix
/// at the front, and between them the batches of `reply`, moved and not copied. No chunk is empty.
///
/// # Errors
/// [`EncodeError::TooLong`] when the batches exceed the 31-bit length of a frame, [`EncodeError::FieldTooLong`] when
/// a name does not fit the version.
pub fn encode_fetch(
    header: ReplyHeader,
    reply: FetchReply,
    out: &mut BytesMut,
) -> Result<Vec<Bytes>, EncodeError> {
    if header.api != ApiKey::Fetch {
        return Err(EncodeError::WrongApi(header.api));
    }
    let mut framing = Framing { writer: Writer::begin(header, out), cuts: Vec::new(), records_bytes: 0 };
    framing.reply(header.version, reply)?;
    let Framing { mut writer, cuts, records_bytes } = framing;
    writer.set_length(records_bytes)?;
    Ok(interleave(out, cuts))
}

/// Batches to be sent once the written bytes have reached a position.
struct Cut {
    position: usize,
    records: Vec<Bytes>,
}

/// A reply being written: the pieces in one buffer, and where batches go between them.
struct Framing<'a> {
    writer: Writer<'a>,
    cuts: Vec<Cut>,
    records_bytes: usize,
}

impl Framing<'_> {
    fn reply(&mut self, version: i16, reply: FetchReply) -> Result<(), EncodeError> {
        self.writer.i32(reply.throttle_ms);
        if version >= 7 {
            self.writer.i16(reply.error.code());
            self.writer.i32(reply.session_id);
        }
        self.writer.long_length(reply.topics.len())?;
        for topic in reply.topics {
            topic.topic.write(&mut self.writer, version)?;
            self.writer.long_length(topic.partitions.len())?;
            for partition in topic.partitions {
                self.partition(version, partition)?;
            }
            self.writer.no_tags();
        }
        write_endpoints(&mut self.writer, version >= 16, &reply.endpoints)
    }

    fn partition(&mut self, version: i16, reply: FetchPartitionReply) -> Result<(), EncodeError> {
        let records_bytes = reply.records_bytes();
        let writer = &mut self.writer;
        writer.i32(reply.index);
        writer.i16(reply.error.code());
        writer.i64(reply.high_watermark);
        writer.i64(reply.last_stable_offset);
        if version >= 5 {
            writer.i64(reply.log_start_offset);
        }
        write_aborted(writer, reply.aborted.as_deref())?;
        if version >= 11 {
            writer.i32(reply.preferred_read_replica);
        }
        writer.long_length(records_bytes)?;
        if records_bytes > 0 {
            self.cuts.push(Cut { position: writer.position(), records: reply.records });
            self.records_bytes += records_bytes;
        }
        if version >= 12 {
            write_partition_tags(writer, reply.diverging, reply.current_leader);
        }
        Ok(())
    }
}

/// The tagged fields of a partition: 0 is the diverging epoch, 1 the leader.
fn write_partition_tags(writer: &mut Writer<'_>, diverging: Option<EpochEnd>, leader: Option<CurrentLeader>) {
    writer.uvarint(u32::from(diverging.is_some()) + u32::from(leader.is_some()));
    if let Some(end) = diverging {
        writer.uvarint(0);
        writer.uvarint(13); // a 32-bit number, a 64-bit one and an empty set of tags
        writer.i32(end.epoch);
        writer.i64(end.end_offset);
        writer.no_tags();
    }
    if let Some(leader) = leader {
        write_leader(writer, 1, leader);
    }
}

fn write_aborted(writer: &mut Writer<'_>, aborted: Option<&[AbortedTransaction]>) -> Result<(), EncodeError> {
    let Some(aborted) = aborted else {
        writer.null_length();
        return Ok(());
    };
    writer.long_length(aborted.len())?;
    for transaction in aborted {
        writer.i64(transaction.producer_id);
        writer.i64(transaction.first_offset);
        writer.no_tags();
    }
    Ok(())
}

/// Cuts `out` at each position and puts the batches between the pieces.
fn interleave(out: &mut BytesMut, cuts: Vec<Cut>) -> Vec<Bytes> {
    let batch_count: usize = cuts.iter().map(|cut| cut.records.len()).sum();
    let mut chunks = Vec::with_capacity(batch_count + cuts.len() + 1);
    let mut sent = 0;
    for cut in cuts {
        chunks.push(out.split_to(cut.position - sent).freeze());
        sent = cut.position;
        chunks.extend(cut.records.into_iter().filter(|batch| !batch.is_empty()));
    }
    if !out.is_empty() {
        chunks.push(out.split().freeze());
    }
    chunks
}
