//! OffsetForLeaderEpoch: where an epoch ended, so that a client finds out whether its log parted from this one (KIP-101).

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::messages::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
};
use heddle_proto::ids::{Epoch, Offset, TopicPartition};

use super::{check_epoch, locate};
use crate::shard::{
    Shard,
    request::{AskEpochs, OpError},
};

/// Answers one request. An epoch that has not begun ends at -1, which is no error.
pub async fn answer<D: Disk>(
    shard: &Rc<Shard<D>>,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let at = locate(&shard.image(), &topic.topic, asked.partition);
            let reply = EpochEndOffset::default().with_partition(asked.partition);
            partitions.push(match find(shard, at, asked.current_leader_epoch, asked.leader_epoch).await {
                Ok(Some((epoch, end))) => reply.with_leader_epoch(epoch.get()).with_end_offset(end.get()),
                Ok(None) => reply,
                Err(error) => reply.with_error_code(error.code.code()),
            });
        }
        topics
            .push(OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions));
    }
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}

async fn find<D: Disk>(
    shard: &Rc<Shard<D>>,
    at: TopicPartition,
    believed: i32,
    epoch: i32,
) -> Result<Option<(Epoch, Offset)>, OpError> {
    check_epoch(shard, at, believed)?;
    if epoch < 0 {
        return Ok(None);
    }
    shard.epochs(at, AskEpochs::EndOf(Epoch::new(epoch))).await
}
