//! One native connection: requests in, replies out in order, pushes between them.

use std::{rc::Rc, time::Instant};

use bytes::BytesMut;
use heddle_log_store::Disk;
use heddle_net::{
    frame::{FrameError, FrameReader},
    outbox::{Closed, Outbox},
};
use heddle_proto::{
    error::ErrorCode,
    native::{NativeError, Reply, Request, decode_request, split_frame},
};

use super::{control, fetch, produce, reply, subscribe::Subscriptions};
use crate::{
    admin::stages::Arrival,
    shard::{Shard, request::OpError},
};

/// Why a connection ends other than by its client's wish.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The bytes are no frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame is no request.
    #[error(transparent)]
    Request(#[from] NativeError),
    /// Sending failed or was given up.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Serves requests until the client ends the connection; `first` was read already.
///
/// # Errors
/// What ended it otherwise; what was appended stays.
pub async fn serve<D: Disk>(
    shard: &Rc<Shard<D>>,
    frames: &mut FrameReader,
    outbox: &Outbox,
    first: Option<BytesMut>,
) -> Result<(), End> {
    let subscriptions = Subscriptions::new(shard.clone(), outbox.clone());
    if let Some(frame) = first {
        handle(shard, outbox, &subscriptions, frame, Instant::now()).await?;
    }
    while let Some(bytes) = frames.peek_length().await? {
        let readable = Instant::now();
        shard.wait_for_room(bytes).await;
        let Some(frame) = frames.next().await? else { return Ok(()) };
        handle(shard, outbox, &subscriptions, frame, readable).await?;
        if shard.is_stopping() {
            return Ok(());
        }
    }
    Ok(())
}

async fn handle<D: Disk>(
    shard: &Rc<Shard<D>>,
    outbox: &Outbox,
    subscriptions: &Subscriptions<D>,
    frame: BytesMut,
    readable: Instant,
) -> Result<(), End> {
    let received = Instant::now();
    shard.metrics.native_requests.add(1);
    let (header, payload) = split_frame(frame)?;
    let (correlation, request) = match decode_request(&header) {
        Ok(decoded) => decoded,
        Err(error) => return refuse(shard, outbox, error).await,
    };
    let arrival = Arrival { readable, received, decoded: Instant::now() };
    match request {
        Request::Produce { topic, partition, epoch, acks } => {
            let target = produce::Target { topic, partition, epoch, acks };
            produce::handle(shard, outbox, correlation, target, payload, arrival).await
        }
        Request::Fetch { topic, partition, offset, bytes_max, bytes_min, wait_max_ms } => {
            let wanted = fetch::Wanted { topic, partition, offset, bytes_max, bytes_min, wait_max_ms };
            fetch::handle(shard, outbox, correlation, wanted, arrival).await
        }
        Request::Subscribe { subscription, topic, partition, from, credit_bytes } => {
            let slot = outbox.slot(0).await?;
            let at = heddle_proto::ids::TopicPartition { topic, partition };
            subscriptions.open(slot, correlation, subscription, at, from, credit_bytes).await;
            Ok(())
        }
        Request::Credit { subscription, bytes } => {
            subscriptions.credit(subscription, bytes);
            Ok(())
        }
        Request::Unsubscribe { subscription } => {
            let slot = outbox.slot(0).await?;
            subscriptions.close(subscription);
            let (code, message) = (ErrorCode::None, String::new());
            let ended = Reply::SubscriptionEnded { subscription, code, message };
            slot.fill(reply::frame(correlation, &ended));
            Ok(())
        }
        other => {
            let slot = outbox.slot(0).await?;
            slot.fill(match control::answer(shard, other).await {
                Ok(answer) => reply::frame(correlation, &answer),
                Err(error) => {
                    shard.metrics.refused(error.code);
                    reply::refusal(correlation, &error)
                }
            });
            Ok(())
        }
    }
}

/// A message of a kind we do not know is answered; anything else unreadable ends the connection.
async fn refuse<D: Disk>(shard: &Rc<Shard<D>>, outbox: &Outbox, error: NativeError) -> Result<(), End> {
    let Some(correlation) = error.correlation() else { return Err(error.into()) };
    shard.metrics.requests_unsupported.add(1);
    let slot = outbox.slot(0).await?;
    slot.fill(reply::refusal(correlation, &OpError::new(error.code(), error.to_string())));
    Ok(())
}
