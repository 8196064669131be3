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
        fetch::{AbortedTransaction, EpochEnd, FetchPartitionReply, FetchTopicReply},
    },
    outbox::Outbox,
};
use heddle_proto::{
    error::ErrorCode,
    ids::{Offset, TopicPartition},
};

use super::{code_for, connection::End, epoch, leaders::Leaders, locate_topic};
use crate::{
    admin::stages::{Arrival, FetchTimes},
    partition::{fetch::Fetched, transactions::Isolation},
    runtime::Queue,
    shard::{Shard, fetch::FetchLimits, request::FetchFrom},
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
                at: locate_topic(&image, &topic.topic, partition.index),
                offset: Offset::new(partition.fetch_offset),
                epoch: epoch(partition.current_leader_epoch),
                last_epoch: epoch(partition.last_fetched_epoch),
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
    let places: Vec<TopicPartition> = partitions.iter().map(|from| from.at).collect();
    let (results, times) = shard.fetch(partitions, limits).await;
    let mut results = places.into_iter().zip(results);
    let image = shard.image();
    let mut leaders = Leaders::new(&image);
    let topics = request.topics.into_iter().map(|topic| FetchTopicReply {
        partitions: topic
            .partitions
            .iter()
            .zip(results.by_ref())
            .map(|(partition, (at, result))| match result {
                Ok(fetched) => read_reply(partition.index, fetched, isolation),
                Err(error) => FetchPartitionReply {
                    current_leader: leaders.tell(at, error.code),
                    ..FetchPartitionReply::refused(
                        partition.index,
                        code_for(&image, &topic.topic, error.code),
                    )
                },
            })
            .collect(),
        topic: topic.topic,
    });
    let topics = topics.collect();
    (FetchReply { topics, endpoints: leaders.into_endpoints(), ..FetchReply::default() }, times)
}

fn read_reply(index: i32, fetched: Fetched, isolation: Isolation) -> FetchPartitionReply {
    let diverging =
        fetched.diverging.map(|(epoch, end)| EpochEnd { epoch: epoch.get(), end_offset: end.get() });
    let aborted = (isolation == Isolation::ReadCommitted).then(|| {
        let transaction = |aborted: &Aborted| AbortedTransaction {
            producer_id: aborted.producer.get(),
            first_offset: aborted.first.get(),
        };
        fetched.aborted.iter().map(transaction).collect()
    });
    let (committed, start) = (fetched.committed.get(), fetched.start.get());
    FetchPartitionReply {
        last_stable_offset: fetched.stable.get(),
        aborted,
        diverging,
        ..FetchPartitionReply::read(index, committed, start, fetched.batches)
    }
}

fn clamp(bytes: i32) -> usize {
    usize::try_from(bytes).unwrap_or(0).min(REPLY_BYTES_MAX)
}
