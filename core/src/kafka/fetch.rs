//! Fetch: reads partitions in the order asked for, and waits as the request says when there is too little.
//!
//! Sessions (KIP-227) are accepted and not kept: the reply names session 0, and the client sends full requests.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use heddle_log_store::{Aborted, Disk};
use heddle_net::{
    kafka::{
        FetchReply, FetchRequest, RequestHeader, decode_fetch, encode_fetch,
        fetch::{AbortedTransaction, FetchPartitionReply, FetchTopicReply},
    },
    outbox::Outbox,
};
use heddle_proto::{error::ErrorCode, ids::Offset};

use super::{connection::End, epoch, locate};
use crate::{
    admin::stages::{Arrival, FetchTimes},
    partition::{fetch::Fetched, transactions::Isolation},
    runtime::Queue,
    shard::{
        Shard,
        fetch::FetchLimits,
        request::{FetchFrom, OpError},
    },
};

/// How much of a connection's room for replies one fetch takes in advance, at most. Kafka serves one request of a
/// connection at a time; here two large ones are under way at once.
const RESERVED_BYTES_MAX: usize = 12 << 20;

/// What one reply carries at most, whatever the client asks, in bytes.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// Handles one request; other requests of the connection are read while it waits.
///
/// # Errors
/// When the request cannot be read or the connection takes no more replies.
pub async fn handle<D: Disk>(
    shard: &Rc<Shard<D>>,
    outbox: &Outbox,
    header: &RequestHeader,
    body: BytesMut,
    received: Instant,
) -> Result<(), End> {
    let request = decode_fetch(header, body)?;
    let arrival = Arrival { readable: received, received, decoded: Instant::now() };
    let reply_header = header.reply();
    let bytes_max = clamp(request.bytes_max);
    let slot = outbox.slot(bytes_max.min(RESERVED_BYTES_MAX)).await?;
    let shard = shard.clone();
    shard.clone().queues.spawn(Queue::Hot, async move {
        // A session that continues cannot be known here: the client begins a new one.
        let (reply, times) = if request.session_id != 0 && request.session_epoch > 0 {
            let refused = FetchReply { error: ErrorCode::FetchSessionIdNotFound, ..FetchReply::default() };
            let now = Instant::now();
            (refused, FetchTimes { looked: now, found: now, waited: false })
        } else {
            read(&shard, request, bytes_max).await
        };
        let mut scratch = BytesMut::with_capacity(256);
        match encode_fetch(reply_header, reply, &mut scratch) {
            Ok(chunks) => slot.fill_watched(chunks, shard.metrics.stages.fetched(arrival, &times)),
            Err(error) => tracing::error!(%error, "a fetch reply could not be encoded"),
        }
    });
    Ok(())
}

async fn read<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: FetchRequest,
    bytes_max: usize,
) -> (FetchReply, FetchTimes) {
    let image = shard.image();
    let isolation = Isolation::from_code(request.isolation_level);
    let mut partitions = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            partitions.push(FetchFrom {
                at: locate(&image, &topic.name, partition.index),
                offset: Offset::new(partition.fetch_offset),
                epoch: epoch(partition.current_leader_epoch),
                isolation,
                bytes_max: clamp(partition.bytes_max),
            });
        }
    }
    let limits = FetchLimits {
        bytes_min: usize::try_from(request.bytes_min).unwrap_or(0),
        bytes_max,
        wait: Duration::from_millis(request.wait_max_ms.max(0).unsigned_abs().into()),
    };
    let (results, times) = shard.fetch(partitions, limits).await;
    let mut results = results.into_iter();
    let topics = request.topics.into_iter().map(|topic| FetchTopicReply {
        partitions: topic
            .partitions
            .iter()
            .zip(results.by_ref())
            .map(|(partition, result)| partition_reply(partition.index, result, isolation))
            .collect(),
        name: topic.name,
    });
    (FetchReply { topics: topics.collect(), ..FetchReply::default() }, times)
}

fn partition_reply(
    index: i32,
    result: Result<Fetched, OpError>,
    isolation: Isolation,
) -> FetchPartitionReply {
    match result {
        Ok(fetched) => {
            let aborted = (isolation == Isolation::ReadCommitted).then(|| {
                let transaction = |aborted: &Aborted| AbortedTransaction {
                    producer_id: aborted.producer.get(),
                    first_offset: aborted.first.get(),
                };
                fetched.aborted.iter().map(transaction).collect()
            });
            FetchPartitionReply {
                last_stable_offset: fetched.stable.get(),
                aborted,
                ..FetchPartitionReply::read(
                    index,
                    fetched.committed.get(),
                    fetched.start.get(),
                    fetched.batches,
                )
            }
        }
        Err(error) => FetchPartitionReply::refused(index, error.code),
    }
}

fn clamp(bytes: i32) -> usize {
    usize::try_from(bytes).unwrap_or(0).min(REPLY_BYTES_MAX)
}
