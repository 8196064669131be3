//! Produce: one partition a frame, its batches as payload.

use std::rc::Rc;

use bytes::BytesMut;
use heddle_log_store::Disk;
use heddle_net::outbox::{
    Outbox,
    watch::{Operation, Watch},
};
use heddle_proto::{
    error::ErrorCode,
    ids::{Epoch, PartitionIndex, TopicId, TopicPartition},
    native::Reply,
};

use super::{connection::End, reply};
use crate::{
    admin::stages::Arrival,
    partition::produce::Acks,
    runtime::Queue,
    shard::{Shard, request::OpError},
};

/// Where the batches go and when to answer.
pub struct Target {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// The client's idea of the epoch; negative for none.
    pub epoch: Epoch,
    /// Kafka's acks: -1, 0 or 1.
    pub acks: i8,
}

/// Handles one request: admits its batches now, answers when they are as safe as asked.
///
/// # Errors
/// When the connection takes no more replies.
pub async fn handle<D: Disk>(
    shard: &Rc<Shard<D>>,
    outbox: &Outbox,
    correlation: u32,
    target: Target,
    payload: BytesMut,
    arrival: Arrival,
) -> Result<(), End> {
    let at = TopicPartition { topic: target.topic, partition: target.partition };
    let epoch = (target.epoch >= Epoch::new(0)).then_some(target.epoch);
    let acks = match target.acks {
        0 => {
            shard.produce(at, payload, epoch, Acks::None, None, arrival).await;
            return Ok(());
        }
        1 => Acks::Primary,
        -1 => Acks::Quorum,
        other => {
            let slot = outbox.slot(0).await?;
            let message = format!("acks can be -1 (all), 0 (none) or 1 (primary); {other} was given");
            slot.fill(reply::refusal(correlation, &OpError::new(ErrorCode::InvalidRequiredAcks, message)));
            return Ok(());
        }
    };
    let slot = outbox.slot(0).await?;
    let ticket = shard.produce(at, payload, epoch, acks, None, arrival).await;
    shard.queues.spawn(Queue::Hot, async move {
        match ticket.settled().await {
            Ok(produced) => {
                let answer =
                    Reply::Produce { base_offset: produced.base_offset, append_time: produced.append_time };
                let ready = produced.times.ready();
                let watch = Watch { operation: Operation::Produce, begun: arrival.readable, ready };
                slot.fill_watched(reply::frame(correlation, &answer), watch);
            }
            Err(error) => slot.fill(reply::refusal(correlation, &error)),
        }
    });
    Ok(())
}
