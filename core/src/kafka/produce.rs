//! Produce: the batches of each partition are appended in the order they came; the reply waits for all of them.

use std::rc::Rc;

use bytes::BytesMut;
use heddle_log_store::Disk;
use heddle_net::{
    kafka::{
        ProduceReply, ReplyHeader, RequestHeader, decode_produce, encode_produce,
        produce::{ProducePartitionReply, ProduceTopicReply},
    },
    outbox::{Outbox, ReplySlot},
};
use heddle_proto::error::ErrorCode;

use super::{connection::End, locate, words};
use crate::{
    partition::produce::Acks,
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
type Topics<D> = Vec<(heddle_net::kafka::StrBytes, Vec<Part<D>>)>;

/// Handles one request: admits its batches now, answers when they are as safe as asked.
///
/// # Errors
/// When the request cannot be read or the connection takes no more replies.
pub async fn handle<D: Disk>(
    shard: &Rc<Shard<D>>,
    outbox: &Outbox,
    header: &RequestHeader,
    body: BytesMut,
) -> Result<(), End> {
    let request = decode_produce(header, body)?;
    let reply_header = header.reply();
    let acks = match request.acks {
        0 => Acks::None,
        1 => Acks::Primary,
        -1 => Acks::Quorum,
        _ => {
            let slot = outbox.slot(0).await?;
            fill(slot, reply_header, &request.refuse(ErrorCode::InvalidRequiredAcks));
            return Ok(());
        }
    };
    if request.transactional_id.is_some() {
        let slot = outbox.slot(0).await?;
        fill(slot, reply_header, &request.refuse(ErrorCode::UnsupportedVersion));
        return Ok(());
    }
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
            parts.push(Part { index: partition.index, ticket: shard.produce(at, records, None, acks).await });
        }
        topics.push((topic.name, parts));
    }
    if let Some(slot) = slot {
        shard.queues.spawn(Queue::Hot, async move {
            let mut reply = ProduceReply::default();
            for (name, parts) in topics {
                let mut partitions = Vec::with_capacity(parts.len());
                for part in parts {
                    partitions.push(partition_reply(part.index, part.ticket.settled().await));
                }
                reply.topics.push(ProduceTopicReply { name, partitions });
            }
            fill(slot, reply_header, &reply);
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
            ..ProducePartitionReply::refused(index, error.code)
        },
    }
}

fn fill(slot: ReplySlot, header: ReplyHeader, reply: &ProduceReply) {
    let mut scratch = BytesMut::with_capacity(128);
    match encode_produce(header, reply, &mut scratch) {
        Ok(bytes) => slot.fill(bytes),
        // The slot is dropped unfilled, which closes the connection: the client must not wait for ever.
        Err(error) => tracing::error!(%error, "a produce reply could not be encoded"),
    }
}
