//! One Kafka connection: requests in, replies out, in the same order.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use heddle_log_store::Disk;
use heddle_net::{
    frame::{FrameError, FrameReader},
    kafka::{
        ApiKey, ControlReply, ControlRequest, DecodeError, RequestHeader, decode_control, decode_header,
        encode_reply, refuse_header, unsupported_reply, versions::is_served,
    },
    outbox::{Closed, Outbox},
};

use heddle_proto::error::ErrorCode;

use super::{
    add_offsets_to_txn, add_partitions_to_txn, alter_configs, api_versions, client_quotas, create_partitions,
    create_topics, delete_records, delete_topics, describe_cluster, describe_configs, describe_log_dirs,
    describe_producers, describe_topic_partitions, describe_transactions, elect_leaders, end_txn, fetch,
    find_coordinator, groups, init_producer_id, list_offsets, list_transactions, metadata,
    offset_for_leader_epoch, produce, reassignments, txn_offset_commit, write_txn_markers,
};
use crate::{
    metadata::quota::Limited,
    runtime::{event::Waiters, time::timed},
    shard::{Shard, quotas::Mute},
};

/// The other side of a connection.
pub struct Peer {
    /// Its address, as Kafka writes it for operators.
    pub host: Arc<str>,
    /// Who waits on its behalf and stops when it goes.
    pub gone: Waiters,
}

impl Peer {
    /// The client at `address`, as far as that is known.
    pub fn new(address: Option<SocketAddr>) -> Peer {
        let host = address.map(|address| format!("/{}", address.ip())).unwrap_or_default();
        Peer { host: host.into(), gone: Waiters::default() }
    }
}

/// Why a connection ends other than by its client's wish.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The bytes are no frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A request cannot be read, and no reply fits it.
    #[error("a request cannot be answered: {0}")]
    Request(#[from] DecodeError),
    /// Sending failed or was given up.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Serves requests until the client ends the connection.
///
/// # Errors
/// What ended it otherwise; what was appended stays.
pub async fn serve<D: Disk>(
    shard: &Rc<Shard<D>>,
    frames: &mut FrameReader,
    outbox: &Outbox,
    peer: &Peer,
) -> Result<(), End> {
    let ended = serve_requests(shard, frames, outbox, peer).await;
    peer.gone.fire();
    ended
}

async fn serve_requests<D: Disk>(
    shard: &Rc<Shard<D>>,
    frames: &mut FrameReader,
    outbox: &Outbox,
    peer: &Peer,
) -> Result<(), End> {
    let mut scratch = BytesMut::new();
    let mute = Rc::new(Mute::default());
    while let Some(bytes) = frames.peek_length().await? {
        shard.wait_for_quota(&mute).await;
        let readable = Instant::now();
        shard.wait_for_room(bytes).await;
        let Some(mut frame) = frames.next().await? else { return Ok(()) };
        let received = Instant::now();
        shard.metrics.kafka_requests.add(1);
        let header = decode_header(&mut frame)?;
        if groups::is_group_api(header.api) && is_served(header.api, header.version) {
            groups::handle(shard, outbox, peer, &header, frame).await?;
        } else {
            handle(shard, (outbox, &mute), header, frame, &mut scratch, (readable, received)).await?;
        }
        if shard.is_stopping() {
            return Ok(());
        }
    }
    Ok(())
}

async fn handle<D: Disk>(
    shard: &Rc<Shard<D>>,
    (outbox, mute): (&Outbox, &Rc<Mute>),
    header: RequestHeader,
    body: BytesMut,
    scratch: &mut BytesMut,
    (readable, received): (Instant, Instant),
) -> Result<(), End> {
    match header.api {
        ApiKey::Produce if is_served(header.api, header.version) => {
            produce::handle(shard, (outbox, mute), &header, body, readable, received).await
        }
        ApiKey::Fetch if is_served(header.api, header.version) => {
            fetch::handle(shard, (outbox, mute), &header, body, received).await
        }
        _ => handle_control(shard, (outbox, mute), header, body, scratch).await,
    }
}

async fn handle_control<D: Disk>(
    shard: &Rc<Shard<D>>,
    (outbox, mute): (&Outbox, &Rc<Mute>),
    header: RequestHeader,
    body: BytesMut,
    scratch: &mut BytesMut,
) -> Result<(), End> {
    let slot = outbox.slot(0).await?;
    let reply = if is_served(header.api, header.version) {
        reply_to_control(shard, mute, &header, body, scratch).await?
    } else {
        shard.metrics.requests_unsupported.add(1);
        unsupported_reply(&header, body, scratch)
    };
    match reply {
        Some(bytes) => slot.fill(bytes),
        None => {
            return Err(DecodeError::UnsupportedVersion { api: header.api, version: header.version }.into());
        }
    }
    Ok(())
}

/// Decodes, answers and encodes a request of a served kind; `None` when no reply can be built.
async fn reply_to_control<D: Disk>(
    shard: &Rc<Shard<D>>,
    mute: &Mute,
    header: &RequestHeader,
    body: BytesMut,
    scratch: &mut BytesMut,
) -> Result<Option<Bytes>, End> {
    let request = match decode_control(header, body.freeze()) {
        Ok(request) => request,
        Err(error) => {
            let refusal = refuse_header(header.reply(), error.code(), scratch);
            return refusal.map(Some).ok_or_else(|| error.into());
        }
    };
    let reply = if shard.quotas.is_set() {
        let (mut reply, spent) = timed(answer(shard, header, request)).await;
        let client = header.client_id.as_deref();
        let throttle = shard.charge(Limited::RequestTime, client, spent.as_secs_f64()).await;
        reply.set_throttle(mute.extend(throttle));
        reply
    } else {
        answer(shard, header, request).await
    };
    Ok(match encode_reply(header.reply(), reply, scratch) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            tracing::error!(api = ?header.api, version = header.version, %error, "a reply could not be encoded");
            refuse_header(header.reply(), ErrorCode::UnknownServerError, scratch)
        }
    })
}

async fn answer<D: Disk>(
    shard: &Rc<Shard<D>>,
    header: &RequestHeader,
    request: ControlRequest,
) -> ControlReply {
    let version = header.version;
    match request {
        ControlRequest::ApiVersions(request) => api_versions::answer(&request, version).into(),
        ControlRequest::Metadata(request) => metadata::answer(shard, request, version).await.into(),
        ControlRequest::ListOffsets(request) => list_offsets::answer(shard, request, version).await.into(),
        ControlRequest::CreateTopics(request) => create_topics::answer(shard, request).await.into(),
        ControlRequest::DeleteTopics(request) => delete_topics::answer(shard, request).await.into(),
        ControlRequest::CreatePartitions(request) => create_partitions::answer(shard, request).await.into(),
        ControlRequest::DescribeConfigs(request) => describe_configs::answer(shard, request).into(),
        ControlRequest::IncrementalAlterConfigs(request) => {
            alter_configs::answer(shard, request).await.into()
        }
        ControlRequest::InitProducerId(request) => {
            init_producer_id::answer(shard, request, version).await.into()
        }
        ControlRequest::AddPartitionsToTxn(request) => {
            add_partitions_to_txn::answer(shard, request, version).await.into()
        }
        ControlRequest::AddOffsetsToTxn(request) => {
            add_offsets_to_txn::answer(shard, request, version).await.into()
        }
        ControlRequest::EndTxn(request) => end_txn::answer(shard, request, version).await.into(),
        ControlRequest::TxnOffsetCommit(request) => txn_offset_commit::answer(shard, request, version).await,
        ControlRequest::WriteTxnMarkers(request) => write_txn_markers::answer(shard, request).await.into(),
        ControlRequest::DescribeProducers(request) => describe_producers::answer(shard, request).await.into(),
        ControlRequest::DescribeTransactions(request) => {
            describe_transactions::answer(shard, request).await.into()
        }
        ControlRequest::ListTransactions(request) => list_transactions::answer(shard, request).await.into(),
        ControlRequest::FindCoordinator(request) => find_coordinator::answer(shard, request).await.into(),
        ControlRequest::DescribeCluster(request) => describe_cluster::answer(shard, &request).into(),
        ControlRequest::DeleteRecords(request) => delete_records::answer(shard, request).await.into(),
        ControlRequest::OffsetForLeaderEpoch(request) => {
            offset_for_leader_epoch::answer(shard, request).await.into()
        }
        ControlRequest::AlterConfigs(request) => alter_configs::replace(shard, request).await.into(),
        ControlRequest::DescribeLogDirs(request) => describe_log_dirs::answer(shard, request).await.into(),
        ControlRequest::ElectLeaders(request) => elect_leaders::answer(shard, request).await.into(),
        ControlRequest::AlterPartitionReassignments(request) => {
            reassignments::alter(shard, request).await.into()
        }
        ControlRequest::ListPartitionReassignments(request) => reassignments::list(shard, request).into(),
        ControlRequest::DescribeClientQuotas(request) => client_quotas::describe(shard, &request).into(),
        ControlRequest::AlterClientQuotas(request) => client_quotas::alter(shard, request).await.into(),
        ControlRequest::DescribeTopicPartitions(request) => {
            describe_topic_partitions::answer(shard, &request).into()
        }
        other => unreachable!("{:?} is handled where requests come in", other.api()),
    }
}
