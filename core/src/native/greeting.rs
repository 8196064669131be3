//! The beginning of a native connection on a single-port node: answered where it landed, until the first request that
//! names a partition says which core it belongs to.

use std::rc::Rc;

use bytes::BytesMut;
use heddle_log_store::Disk;
use heddle_net::{frame::FrameReader, socket::WriteHalf};
use heddle_proto::{
    ids::{CoreId, TopicPartition},
    native::{Request, decode_request, split_frame_ref},
};

use super::{connection::End, control, reply};
use crate::shard::{Shard, request::OpError};

/// How a greeting ended.
pub enum Greeted {
    /// The connection stays on this core; this request was read and not handled.
    Stay(BytesMut),
    /// The connection belongs to another core; this request was read and not handled.
    Move(CoreId, BytesMut),
    /// The client left.
    Gone,
}

/// Answers requests one by one until one names a partition.
///
/// # Errors
/// What ended the connection.
pub async fn greet<D: Disk>(
    shard: &Rc<Shard<D>>,
    frames: &mut FrameReader,
    write: &mut WriteHalf,
) -> Result<Greeted, End> {
    while let Some(frame) = frames.next().await? {
        let decoded = decode_request(split_frame_ref(&frame)?.0);
        if let Some(at) = decoded.as_ref().ok().and_then(|(_, request)| partition_of(request)) {
            return Ok(match shard.owner(at) {
                Ok(core) if core != shard.core() => Greeted::Move(core, frame),
                _ => Greeted::Stay(frame),
            });
        }
        shard.metrics.native_requests.add(1);
        let answer = match decoded {
            Ok((correlation, request)) => match control::answer(shard, request).await {
                Ok(answer) => reply::frame(correlation, &answer),
                Err(error) => reply::refusal(correlation, &error),
            },
            Err(error) => {
                let Some(correlation) = error.correlation() else { return Err(error.into()) };
                reply::refusal(correlation, &OpError::new(error.code(), error.to_string()))
            }
        };
        write.write_all_vectored(&[answer]).await.map_err(heddle_net::frame::FrameError::Io)?;
        if shard.is_stopping() {
            return Ok(Greeted::Gone);
        }
    }
    Ok(Greeted::Gone)
}

fn partition_of(request: &Request) -> Option<TopicPartition> {
    match request {
        Request::Produce { topic, partition, .. }
        | Request::Fetch { topic, partition, .. }
        | Request::Subscribe { topic, partition, .. } => {
            Some(TopicPartition { topic: *topic, partition: *partition })
        }
        _ => None,
    }
}
