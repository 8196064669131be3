//! What groups have committed, and where partitions begin and end.

use heddle_client::router::Located;
use heddle_client::{PartitionIndex, StartFrom};
use heddle_net::kafka::ApiKey;
use heddle_net::kafka::messages::{
    OffsetFetchRequest, OffsetFetchResponse, offset_fetch_request::OffsetFetchRequestGroup,
};

use super::group_id;
use crate::cli::CliError;
use crate::cli::kafka::KafkaSession;
use crate::cli::session::Session;

/// How far a group has read one partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Committed {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The next record to read.
    pub offset: i64,
}

/// Everything that a group has committed, in the order of the topics.
pub async fn committed(kafka: &mut KafkaSession, group: &str) -> Result<Vec<Committed>, CliError> {
    let asked = OffsetFetchRequestGroup::default().with_group_id(group_id(group)).with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(vec![asked]);
    let error_of = |reply: &OffsetFetchResponse| reply.groups.first().map_or(0, |group| group.error_code);
    let reply = kafka.ask_coordinator(group, (ApiKey::OffsetFetch, 8), &request, error_of).await?;
    let topics = reply.groups.into_iter().flat_map(|group| group.topics);
    let offsets = topics.flat_map(|topic| {
        let name = topic.name.to_string();
        topic.partitions.into_iter().map(move |found| Committed {
            topic: name.clone(),
            partition: found.partition_index as u32,
            offset: found.committed_offset,
        })
    });
    let mut offsets: Vec<Committed> = offsets.filter(|found| found.offset >= 0).collect();
    offsets.sort();
    Ok(offsets)
}

/// Where a place in a partition is; -1 when no record is that young.
pub async fn resolve(session: &Session, topic: &str, partition: u32, at: StartFrom) -> Result<i64, CliError> {
    let ask = |owner: &Located| owner.client.list_offsets(owner.topic, owner.partition, at);
    let listed = session.router().at_owner(topic, PartitionIndex::new(partition), ask).await;
    let listed = listed
        .map_err(|error| session.failed(&format!("partition {partition} of topic `{topic}`"), error))?;
    Ok(listed.offset.get())
}
