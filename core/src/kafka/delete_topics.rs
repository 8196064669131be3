//! DeleteTopics, by name or by id.

use std::{collections::BTreeMap, rc::Rc};

use heddle_log_store::Disk;
use heddle_net::kafka::{
    StrBytes,
    messages::{
        DeleteTopicsRequest, DeleteTopicsResponse, TopicName, delete_topics_request::DeleteTopicState,
        delete_topics_response::DeletableTopicResult,
    },
};
use heddle_proto::{error::ErrorCode, ids::TopicId};

use super::words;
use crate::{
    metadata::{ClusterImage, Command},
    shard::{Shard, request::OpError},
};

/// Answers one request: each topic succeeds or fails for itself.
pub async fn answer<D: Disk>(shard: &Rc<Shard<D>>, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let mut results = Vec::with_capacity(request.topics.len());
    let mut mentions: BTreeMap<Mention, u32> = BTreeMap::new();
    let image = shard.image();
    for topic in &request.topics {
        *mentions.entry(mention(&image, topic)).or_default() += 1;
    }
    for topic in request.topics {
        let result = DeletableTopicResult::default().with_topic_id(topic.topic_id);
        let deleted = match mentions[&mention(&image, &topic)] {
            1 => delete(shard, &topic).await,
            _ => Err(OpError::new(ErrorCode::InvalidRequest, "the request names this topic twice")),
        };
        results.push(match deleted {
            Ok((name, id)) => result
                .with_name(Some(TopicName(StrBytes::from_string(name))))
                .with_topic_id(uuid::Uuid::from_bytes(*id.as_bytes())),
            Err(error) => result
                .with_name(topic.name)
                .with_error_code(error.code.code())
                .with_error_message(Some(words(error.message))),
        });
    }
    DeleteTopicsResponse::default().with_responses(results)
}

/// The topic that is meant, whichever way it is named; what names none is told apart as it is written.
type Mention = (Option<TopicName>, uuid::Uuid);

fn mention(image: &ClusterImage, topic: &DeleteTopicState) -> Mention {
    let named = topic.name.as_ref().filter(|_| topic.topic_id.is_nil());
    match named.and_then(|name| image.topic(name)) {
        Some(found) => (None, uuid::Uuid::from_bytes(*found.id.as_bytes())),
        None => (topic.name.clone(), topic.topic_id),
    }
}

async fn delete<D: Disk>(
    shard: &Rc<Shard<D>>,
    topic: &DeleteTopicState,
) -> Result<(String, TopicId), OpError> {
    let name = match &topic.name {
        Some(_) if !topic.topic_id.is_nil() => {
            let message = "a topic is named by its name or by its id, not by both";
            return Err(OpError::new(ErrorCode::InvalidRequest, message));
        }
        None if topic.topic_id.is_nil() => {
            let message = "neither a name nor an id says which topic";
            return Err(OpError::new(ErrorCode::InvalidRequest, message));
        }
        Some(name) => name.to_string(),
        None => {
            let id = TopicId::from_bytes(*topic.topic_id.as_bytes());
            let image = shard.image();
            let found = image
                .topic_by_id(id)
                .ok_or_else(|| OpError::new(ErrorCode::UnknownTopicId, format!("there is no topic {id}")))?;
            found.name.to_string()
        }
    };
    let id = shard.change_topic(Command::DeleteTopic { name: name.clone() }).await?;
    Ok((name, id))
}
