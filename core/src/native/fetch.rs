//! Fetch: one partition a frame, its batches as the reply's payload.

use std::{rc::Rc, time::Duration};

use heddle_log_store::Disk;
use heddle_net::outbox::Outbox;
use heddle_proto::{
    ids::{Offset, PartitionIndex, TopicId, TopicPartition},
    limits::FRAME_BYTES_MAX,
    native::Reply,
};

use super::{connection::End, reply};
use crate::{
    admin::stages::Arrival,
    partition::transactions::Isolation,
    runtime::Queue,
    shard::{
        Shard,
        fetch::FetchLimits,
        request::{FetchFrom, Reach},
    },
};

/// How much of a connection's room for replies one fetch takes in advance, at most: a client that sends many fetches and
/// reads no reply is served two large ones. More would let a long poll hold up the requests behind it.
const RESERVED_BYTES_MAX: usize = 12 << 20;

/// What is to be read.
pub struct Wanted {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// From where.
    pub offset: Offset,
    /// At most this much (but at least one batch).
    pub bytes_max: u32,
    /// Answer as soon as there is this much.
    pub bytes_min: u32,
    /// Answer after this long in any case.
    pub wait_max_ms: u32,
}

/// Handles one request; other requests of the connection are read while it waits.
///
/// # Errors
/// When the connection takes no more replies.
pub async fn handle<D: Disk>(
    shard: &Rc<Shard<D>>,
    outbox: &Outbox,
    correlation: u32,
    wanted: Wanted,
    arrival: Arrival,
) -> Result<(), End> {
    let bytes_max = (wanted.bytes_max as usize).min(FRAME_BYTES_MAX / 2);
    let slot = outbox.slot(bytes_max.min(RESERVED_BYTES_MAX)).await?;
    let from = FetchFrom {
        at: TopicPartition { topic: wanted.topic, partition: wanted.partition },
        offset: wanted.offset,
        epoch: None,
        last_epoch: None,
        isolation: Isolation::ReadUncommitted,
        bytes_max,
        reach: Reach::Leader,
    };
    let limits = FetchLimits {
        bytes_min: wanted.bytes_min as usize,
        bytes_max,
        wait: Duration::from_millis(wanted.wait_max_ms.into()),
    };
    let shard = shard.clone();
    shard.clone().queues.spawn(Queue::Hot, async move {
        let (mut results, times) = shard.fetch(vec![from], limits).await;
        match results.pop() {
            Some(Ok(fetched)) => {
                let answer = Reply::Fetch { committed: fetched.committed, start: fetched.start };
                let watch = shard.metrics.stages.fetched(arrival, &times);
                slot.fill_watched(reply::frame_with(correlation, &answer, fetched.batches), watch);
            }
            Some(Err(error)) => slot.fill(reply::refusal(correlation, &error)),
            None => unreachable!("a fetch answers for each partition asked for"),
        }
    });
    Ok(())
}
