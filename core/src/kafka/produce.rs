//! Produce: the batches of each partition are appended in the order they came; the reply waits for all of them.

use std::{rc::Rc, time::Instant};

use bytes::BytesMut;
use heddle_log_store::Disk;
use heddle_net::{
    kafka::{
        ProduceReply, ReplyHeader, RequestHeader, StrBytes, decode_produce, encode_produce,
        produce::{ProducePartitionReply, ProduceTopicReply, RecordError},
    },
    outbox::{
        Outbox, ReplySlot,
        watch::{Operation, Watch},
    },
};
use heddle_proto::error::ErrorCode;

use super::{connection::End, groups::text, locate, transactional, words};
use crate::{
    admin::stages::Arrival,
    coordinator::transaction::TransactionalId,
    partition::{produce::Acks, validate::RecordFault},
    runtime::Queue,
    shard::{
        Shard,
        produce::Ticket,
        request::{OpError, Produced},
    },
};

/// One partition of the request, on its way.
struct Part<D: Disk> {
    index: i32,
    ticket: Ticket<D>,
}

/// The topics of a request by name, with what became of their partitions.
type Topics<D> = Vec<(StrBytes, Vec<Part<D>>)>;

/// Handles one request: admits its batches now, answers when they are as safe as asked.
///
/// # Errors
/// When the request cannot be read or the connection takes no more replies.
pub async fn handle<D: Disk>(
    shard: &Rc<Shard<D>>,
    outbox: &Outbox,
    header: &RequestHeader,
    body: BytesMut,
    readable: Instant,
    received: Instant,
) -> Result<(), End> {
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
        let slot = outbox.slot(0).await?;
        fill(slot, reply_header, &request.refuse(ErrorCode::InvalidRequiredAcks), None);
        return Ok(());
    }
    let transaction = request.transactional_id.as_ref().map(|id| TransactionalId::new(text(id)));
    let slot = match acks {
        Acks::None => None,
        _ => Some(outbox.slot(0).await?),
    };
    let image = shard.image();
    let mut topics: Topics<D> = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut parts = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let at = locate(&image, &topic.name, partition.index);
            let records = partition.records.unwrap_or_default();
            let permit = match &transaction {
                None => Ok(None),
                Some(id) => transactional::permit(shard, id, at, &records, header.version).await,
            };
            let ticket = match permit {
                Ok(permit) => shard.produce(at, records, None, acks, permit, arrival).await,
                Err(error) => shard.refuse(error, arrival),
            };
            parts.push(Part { index: partition.index, ticket });
        }
        topics.push((topic.name, parts));
    }
    if let Some(slot) = slot {
        shard.queues.spawn(Queue::Hot, async move {
            let mut reply = ProduceReply::default();
            let mut ready = arrival.decoded;
            for (name, parts) in topics {
                let mut partitions = Vec::with_capacity(parts.len());
                for part in parts {
                    let result = part.ticket.settled().await;
                    ready = ready.max(result.as_ref().map_or(ready, |produced| produced.times.ready()));
                    partitions.push(partition_reply(part.index, result));
                }
                reply.topics.push(ProduceTopicReply { name, partitions });
            }
            let watch = Watch { operation: Operation::Produce, begun: arrival.readable, ready };
            fill(slot, reply_header, &reply, Some(watch));
        });
    }
    Ok(())
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
