//! Produce: the batches of each partition are appended in the order they came; the reply waits for all of them.

use std::{cmp::Ordering, rc::Rc, time::Instant};

use bytes::BytesMut;
use heddle_log_store::Disk;
use heddle_net::{
    kafka::{
        ProduceReply, ReplyHeader, RequestHeader, StrBytes, TopicRef, decode_produce, encode_produce,
        produce::{ProducePartitionReply, ProduceTopic, ProduceTopicReply, RecordError},
    },
    outbox::{
        Outbox, ReplySlot,
        watch::{Operation, Watch},
    },
};
use heddle_proto::{
    batch::{BatchError, BatchHeader, Compression},
    error::ErrorCode,
    ids::{Offset, TopicPartition},
};

use super::{code_for, connection::End, groups::text, leaders::Leaders, locate_topic, transactional, words};
use crate::{
    admin::stages::Arrival,
    coordinator::transaction::TransactionalId,
    metadata::{ClusterImage, quota::Limited},
    partition::{produce::Acks, validate::RecordFault},
    runtime::{Queue, time::timed},
    shard::{
        Shard,
        produce::Ticket,
        quotas::Mute,
        request::{OpError, Produced},
    },
};

/// The first version whose batches may be compressed with zstd.
const ZSTD_SINCE: i16 = 7;

/// One partition of the request, on its way.
struct Part<D: Disk> {
    index: i32,
    at: TopicPartition,
    ticket: Ticket<D>,
}

/// The topics of a request, with what became of their partitions.
type Topics<D> = Vec<(TopicRef, Vec<Part<D>>)>;

/// What holds for all batches of a request.
struct Terms {
    acks: Acks,
    transaction: Option<TransactionalId>,
    version: i16,
    arrival: Arrival,
}

/// Handles one request: admits its batches now, answers when they are as safe as asked.
///
/// # Errors
/// When the request cannot be read or the connection takes no more replies.
pub async fn handle<D: Disk>(
    shard: &Rc<Shard<D>>,
    (outbox, mute): (&Outbox, &Rc<Mute>),
    header: &RequestHeader,
    body: BytesMut,
    readable: Instant,
    received: Instant,
) -> Result<(), End> {
    let (body_bytes, client) = (body.len(), header.client_id.as_deref());
    let request = decode_produce(header, body)?;
    let arrival = Arrival { readable, received, decoded: Instant::now() };
    let reply_header = header.reply();
    let acks = match request.acks {
        0 => Acks::None,
        1 => Acks::Primary,
        -1 => Acks::Quorum,
        _ => {
            let slot = outbox.slot(0).await?;
            fill(slot, reply_header, &request.refuse(ErrorCode::InvalidRequiredAcks), None);
            return Ok(());
        }
    };
    if request.transactional_id.is_some() && acks != Acks::Quorum {
        if acks == Acks::None {
            // Who wants no reply would take it for that to the next request.
            outbox.close();
            return Ok(());
        }
        let slot = outbox.slot(0).await?;
        fill(slot, reply_header, &request.refuse(ErrorCode::InvalidRequiredAcks), None);
        return Ok(());
    }
    let transaction = request.transactional_id.as_ref().map(|id| TransactionalId::new(text(id)));
    let slot = match acks {
        Acks::None => None,
        _ => Some(outbox.slot(0).await?),
    };
    let terms = Terms { acks, transaction, version: header.version, arrival };
    let image = shard.image();
    let mut topics: Topics<D> = Vec::with_capacity(request.topics.len());
    let throttle_ms = if shard.quotas.is_set() {
        // The appends are counted as time of the core; what they wait for is not.
        let ((), spent) = timed(admit(shard, &image, request.topics, &terms, &mut topics)).await;
        let bytes = shard.charge(Limited::ProduceBytes, client, body_bytes as f64).await;
        mute.extend(bytes.max(shard.charge(Limited::RequestTime, client, spent.as_secs_f64()).await))
    } else {
        admit(shard, &image, request.topics, &terms, &mut topics).await;
        0
    };
    let shard = shard.clone();
    match slot {
        Some(slot) => shard.clone().queues.spawn(Queue::Hot, async move {
            let (mut reply, ready) = settle(&shard, topics, arrival).await;
            reply.throttle_ms = throttle_ms;
            let watch = Watch { operation: Operation::Produce, begun: arrival.readable, ready };
            fill(slot, reply_header, &reply, Some(watch));
        }),
        None => {
            let outbox = outbox.clone();
            shard.clone().queues.spawn(Queue::Hot, async move {
                let (reply, _) = settle(&shard, topics, arrival).await;
                // There is no reply to tell it in: the end of the connection makes the client look at the metadata.
                if reply.topics.iter().flat_map(|topic| &topic.partitions).any(|p| !p.error.is_none()) {
                    outbox.close();
                }
            });
        }
    }
    Ok(())
}

/// Appends the batches of each partition in the order they came.
async fn admit<D: Disk>(
    shard: &Rc<Shard<D>>,
    image: &ClusterImage,
    asked: Vec<ProduceTopic>,
    terms: &Terms,
    topics: &mut Topics<D>,
) {
    for topic in asked {
        let mut parts = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let at = locate_topic(image, &topic.topic, partition.index);
            let records = partition.records.unwrap_or_default();
            let permit = match (check_records(&records, terms.version), &terms.transaction) {
                (Err(error), _) if shard.owner(at).is_ok() => Err(error),
                // That there is no such partition comes first, and is found below.
                (Err(_), _) => Ok(None),
                (Ok(()), None) => Ok(None),
                (Ok(()), Some(id)) => transactional::permit(shard, id, at, &records, terms.version).await,
            };
            let ticket = match permit {
                Ok(permit) => shard.produce(at, records, None, terms.acks, permit, terms.arrival).await,
                Err(error) => shard.refuse(error, terms.arrival),
            };
            parts.push(Part { index: partition.index, at, ticket });
        }
        topics.push((topic.topic, parts));
    }
}

/// What Kafka demands of the records of a partition before it looks into them: one batch, whole, in the one format
/// that is stored, with offsets from 0. What else is wrong with it is found where it would be appended.
fn check_records(records: &[u8], version: i16) -> Result<(), OpError> {
    let refuse = |code, message: &str| Err(OpError::new(code, message));
    let header = match BatchHeader::parse(records) {
        Ok(header) => header,
        Err(BatchError::Magic(0 | 1)) => {
            return refuse(ErrorCode::InvalidRecord, "record formats 0 and 1 are not stored, only 2");
        }
        Err(BatchError::Magic(_)) => {
            return refuse(ErrorCode::CorruptMessage, "there is no such record format");
        }
        Err(BatchError::Truncated { .. }) => {
            return refuse(ErrorCode::InvalidRecord, "the request holds no whole record batch");
        }
        Err(_) => return Ok(()),
    };
    match records.len().cmp(&(header.batch_bytes as usize)) {
        Ordering::Less => refuse(ErrorCode::InvalidRecord, "the request holds no whole record batch"),
        Ordering::Greater => {
            refuse(ErrorCode::InvalidRecord, "a request holds one record batch for each partition")
        }
        Ordering::Equal if header.base_offset != Offset::ZERO => {
            refuse(ErrorCode::InvalidRecord, "the base offset of a batch that is produced is 0")
        }
        Ordering::Equal if header.compression() == Compression::Zstd && version < ZSTD_SINCE => {
            refuse(ErrorCode::UnsupportedCompressionType, "zstd needs version 7 of Produce")
        }
        Ordering::Equal => Ok(()),
    }
}

/// Waits until everything is as safe as asked, or refused; also says when that was.
async fn settle<D: Disk>(
    shard: &Rc<Shard<D>>,
    topics: Topics<D>,
    arrival: Arrival,
) -> (ProduceReply, Instant) {
    let mut reply = ProduceReply::default();
    let mut ready = arrival.decoded;
    let mut refused = Vec::new();
    for (topic, parts) in topics {
        let mut partitions = Vec::with_capacity(parts.len());
        for part in parts {
            let result = part.ticket.settled().await;
            ready = ready.max(result.as_ref().map_or(ready, |produced| produced.times.ready()));
            if result.is_err() {
                refused.push((reply.topics.len(), partitions.len(), part.at));
            }
            partitions.push(partition_reply(part.index, result));
        }
        reply.topics.push(ProduceTopicReply { topic, partitions });
    }
    if !refused.is_empty() {
        explain(&shard.image(), &mut reply, refused);
    }
    (reply, ready)
}

/// Completes the replies of partitions that were refused: an unknown id is told as that, and a moved partition's
/// leader is named.
fn explain(image: &ClusterImage, reply: &mut ProduceReply, refused: Vec<(usize, usize, TopicPartition)>) {
    let mut leaders = Leaders::new(image);
    for (topic, partition, at) in refused {
        let topic = &mut reply.topics[topic];
        let partition = &mut topic.partitions[partition];
        partition.error = code_for(image, &topic.topic, partition.error);
        // A batch of an older epoch is refused for itself; only a moved leader is told.
        if partition.error == ErrorCode::NotLeaderOrFollower {
            partition.current_leader = leaders.tell(at, partition.error);
        }
    }
    reply.endpoints = leaders.into_endpoints();
}

fn partition_reply(index: i32, result: Result<Produced, OpError>) -> ProducePartitionReply {
    match result {
        Ok(produced) => ProducePartitionReply::appended(
            index,
            produced.base_offset.get(),
            produced.append_time.get(),
            produced.start.get(),
        ),
        Err(error) => ProducePartitionReply {
            error_message: Some(words(error.message)),
            record_errors: error.faults.iter().map(record_error).collect(),
            ..ProducePartitionReply::refused(index, error.code)
        },
    }
}

fn record_error(fault: &RecordFault) -> RecordError {
    RecordError {
        batch_index: i32::try_from(fault.index).unwrap_or(i32::MAX),
        message: Some(StrBytes::from_static_str(fault.reason)),
    }
}

fn fill(slot: ReplySlot, header: ReplyHeader, reply: &ProduceReply, watch: Option<Watch>) {
    let mut scratch = BytesMut::with_capacity(128);
    match encode_produce(header, reply, &mut scratch) {
        Ok(bytes) => match watch {
            Some(watch) => slot.fill_watched(bytes, watch),
            None => slot.fill(bytes),
        },
        // The slot is dropped unfilled, which closes the connection: the client must not wait for ever.
        Err(error) => tracing::error!(%error, "a produce reply could not be encoded"),
    }
}
