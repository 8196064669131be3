//! The group apis: one file per request kind below [`super`], and here what they share.
//!
//! A request takes its reply's place in the connection's order, goes to its coordinator at once, and waits there in a task
//! of its own: a member that waits for a rebalance blocks neither the requests behind it nor other connections. When its
//! connection ends, so does the wait.

use std::{rc::Rc, sync::Arc};

use bytes::BytesMut;
use futures_lite::future;
use heddle_log_store::Disk;
use heddle_net::{
    kafka::{
        ApiKey, ControlReply, ControlRequest, ReplyHeader, RequestHeader, StrBytes, decode_control,
        encode_reply, refuse_control, refuse_header,
    },
    outbox::{Outbox, ReplySlot},
};
use heddle_proto::{error::ErrorCode, ids::PartitionIndex};

use super::{
    connection::{End, Peer},
    consumer_group_describe, consumer_group_heartbeat, delete_groups, describe_groups, heartbeat, join_group,
    leave_group, list_groups, offset_commit, offset_delete, offset_fetch, sync_group,
};
use crate::{
    coordinator::group::{Reply, Request, message::Client},
    runtime::{Queue, event::Event, mesh::LocalFuture},
    shard::{Shard, groups::GroupTicket},
};

/// Whether requests of this api go through here.
pub fn is_group_api(api: ApiKey) -> bool {
    matches!(
        api,
        ApiKey::JoinGroup
            | ApiKey::SyncGroup
            | ApiKey::Heartbeat
            | ApiKey::LeaveGroup
            | ApiKey::OffsetCommit
            | ApiKey::OffsetFetch
            | ApiKey::OffsetDelete
            | ApiKey::ListGroups
            | ApiKey::DescribeGroups
            | ApiKey::DeleteGroups
            | ApiKey::ConsumerGroupHeartbeat
            | ApiKey::ConsumerGroupDescribe
    )
}

/// Handles one request of a served version.
///
/// # Errors
/// When it cannot be read, or the connection takes no more replies.
pub async fn handle<D: Disk>(
    shard: &Rc<Shard<D>>,
    outbox: &Outbox,
    peer: &Peer,
    header: &RequestHeader,
    body: BytesMut,
) -> Result<(), End> {
    let slot = outbox.slot(0).await?;
    let reply_header = header.reply();
    let request = match decode_control(header, body.freeze()) {
        Ok(request) => request,
        Err(error) => {
            let refusal = refuse_header(reply_header, error.code(), &mut BytesMut::new());
            slot.fill(refusal.ok_or(error)?);
            return Ok(());
        }
    };
    shard.metrics.group_requests.add(1);
    let waits = matches!(request, ControlRequest::JoinGroup(_) | ControlRequest::SyncGroup(_));
    let reply = begin(shard, peer, header, request).await;
    let gone = Event::new();
    if waits {
        peer.gone.add(&gone);
    }
    shard.queues.spawn(Queue::Control, async move {
        let ended = async {
            gone.wait().await;
            None
        };
        match future::or(async { Some(reply.await) }, ended).await {
            Some(reply) => fill(slot, reply_header, reply),
            // Nobody reads it; but replies before it may still be on their way, and they must go out.
            None => {
                let refusal = refuse_header(reply_header, ErrorCode::NotCoordinator, &mut BytesMut::new());
                slot.fill(refusal.unwrap_or_default());
            }
        }
    });
    Ok(())
}

fn fill(slot: ReplySlot, header: ReplyHeader, reply: ControlReply) {
    let mut scratch = BytesMut::with_capacity(128);
    match encode_reply(header, reply, &mut scratch) {
        Ok(bytes) => slot.fill(bytes),
        Err(error) => {
            tracing::error!(api = ?header.api, version = header.version, %error, "a reply could not be encoded");
            if let Some(bytes) = refuse_header(header, ErrorCode::UnknownServerError, &mut scratch) {
                slot.fill(bytes);
            }
            // Else the slot is dropped unfilled, which closes the connection: the client must not wait for ever.
        }
    }
}

/// Sends a request to its coordinators, in order; what is returned waits for the reply.
async fn begin<D: Disk>(
    shard: &Rc<Shard<D>>,
    peer: &Peer,
    header: &RequestHeader,
    request: ControlRequest,
) -> LocalFuture<ControlReply> {
    let version = header.version;
    if let Err((error, message)) = check_version(&request, version) {
        let refusal = refuse_control(&request, error, Some(message));
        return Box::pin(async move { refusal });
    }
    match &request {
        ControlRequest::JoinGroup(join) => {
            let ask = join_group::request(join, version, client(header, peer));
            one(shard, ask, |reply, _| join_group::reply(reply).into(), request).await
        }
        ControlRequest::SyncGroup(sync) => {
            one(shard, sync_group::request(sync), |reply, _| sync_group::reply(reply).into(), request).await
        }
        ControlRequest::Heartbeat(beat) => {
            one(shard, heartbeat::request(beat), |reply, _| heartbeat::reply(&reply).into(), request).await
        }
        ControlRequest::LeaveGroup(leave) => {
            one(shard, leave_group::request(leave), |reply, _| leave_group::reply(reply).into(), request)
                .await
        }
        ControlRequest::ConsumerGroupHeartbeat(beat) => {
            let ask = consumer_group_heartbeat::request(beat, client(header, peer));
            one(shard, ask, |reply, _| consumer_group_heartbeat::reply(reply).into(), request).await
        }
        ControlRequest::OffsetCommit(commit) => {
            shard.metrics.offset_commits.add(commit.topics.iter().map(|t| t.partitions.len() as u64).sum());
            let ask = offset_commit::request(commit, version);
            one(shard, ask, |reply, request| offset_commit::reply(&reply, request), request).await
        }
        ControlRequest::OffsetDelete(delete) => {
            let ask = offset_delete::request(delete);
            one(shard, ask, |reply, request| offset_delete::reply(&reply, request), request).await
        }
        _ => begin_many(shard, version, request).await,
    }
}

/// The first version in which members of consumer groups choose their own ids.
const OWN_ID_SINCE: i16 = 1;

/// The first version in which SyncGroup says which protocol it is about.
const PROTOCOL_SINCE: i16 = 5;

/// What a field that may be empty in older versions must say.
fn check_version(request: &ControlRequest, version: i16) -> Result<(), (ErrorCode, &'static str)> {
    match request {
        ControlRequest::ConsumerGroupHeartbeat(beat)
            if version >= OWN_ID_SINCE && beat.member_id.is_empty() =>
        {
            Err((ErrorCode::InvalidRequest, "MemberId can't be empty."))
        }
        ControlRequest::SyncGroup(sync)
            if version >= PROTOCOL_SINCE
                && (sync.protocol_type.is_none() || sync.protocol_name.is_none()) =>
        {
            Err((ErrorCode::InconsistentGroupProtocol, "the protocol is not named"))
        }
        _ => Ok(()),
    }
}

/// Requests about any number of groups.
async fn begin_many<D: Disk>(
    shard: &Rc<Shard<D>>,
    version: i16,
    request: ControlRequest,
) -> LocalFuture<ControlReply> {
    match request {
        ControlRequest::OffsetFetch(request) => offset_fetch::begin(shard, request).await,
        ControlRequest::DescribeGroups(request) => describe_groups::begin(shard, request, version).await,
        ControlRequest::DeleteGroups(request) => delete_groups::begin(shard, request).await,
        ControlRequest::ConsumerGroupDescribe(request) => {
            consumer_group_describe::begin(shard, request).await
        }
        ControlRequest::ListGroups(request) => list_groups::begin(shard, request),
        other => unreachable!("{:?} is no group api", other.api()),
    }
}

/// A request about one group.
async fn one<D: Disk>(
    shard: &Rc<Shard<D>>,
    ask: Request,
    encode: fn(Reply, &ControlRequest) -> ControlReply,
    request: ControlRequest,
) -> LocalFuture<ControlReply> {
    let group = group_of(&request).to_owned();
    let ticket = shard.ask_group(&group, ask).await;
    Box::pin(async move {
        match ticket.reply().await {
            Ok(reply) => encode(reply, &request),
            Err(error) => refuse_control(&request, error, None),
        }
    })
}

fn group_of(request: &ControlRequest) -> &str {
    match request {
        ControlRequest::JoinGroup(request) => &request.group_id,
        ControlRequest::SyncGroup(request) => &request.group_id,
        ControlRequest::Heartbeat(request) => &request.group_id,
        ControlRequest::LeaveGroup(request) => &request.group_id,
        ControlRequest::ConsumerGroupHeartbeat(request) => &request.group_id,
        ControlRequest::OffsetCommit(request) => &request.group_id,
        ControlRequest::OffsetDelete(request) => &request.group_id,
        other => unreachable!("{:?} is not about one group", other.api()),
    }
}

/// Waits for the answers about several groups, in their order.
pub async fn each<T, R>(
    tickets: Vec<(T, GroupTicket)>,
    map: impl Fn(T, Result<Reply, ErrorCode>) -> R,
) -> Vec<R> {
    let mut results = Vec::with_capacity(tickets.len());
    for (of, ticket) in tickets {
        results.push(map(of, ticket.reply().await));
    }
    results
}

/// Takes a reply of the kind that the request was of: the coordinator answers no other.
macro_rules! expect_reply {
    ($reply:expr, $kind:ident) => {
        match $reply {
            $crate::coordinator::group::Reply::$kind(answer) => answer,
            other => unreachable!("a {} request was answered with {other:?}", stringify!($kind)),
        }
    };
}
pub(super) use expect_reply;

/// Who a client says it is, and where from as Kafka writes it.
fn client(header: &RequestHeader, peer: &Peer) -> Client {
    Client { id: header.client_id.as_deref().unwrap_or_default().into(), host: peer.host.clone() }
}

/// Text that is kept.
pub fn text(bytes: &StrBytes) -> Arc<str> {
    bytes.as_str().into()
}

/// A partition's number; one that cannot be becomes one that exists nowhere.
pub fn index(raw: i32) -> PartitionIndex {
    PartitionIndex::new(u32::try_from(raw).unwrap_or(u32::MAX))
}
