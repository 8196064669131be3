//! What one core asks another: every cause of work that comes over the mesh, listed as a type.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use heddle_proto::{
    error::ErrorCode,
    ids::{CoreId, Epoch, NodeId, Offset, ProducerEpoch, ProducerId, Timestamp, TopicId, TopicPartition},
    native::StartFrom,
};

use crate::{
    admin::{metrics::CoreReport, stages::AppendTimes},
    cluster::{self, message::Reply as NodeReply, note::Note, remote::Ask},
    coordinator::group::{
        Call,
        message::{ListGroups, ListedGroup},
    },
    coordinator::transaction,
    metadata::{ClusterImage, Command, MetadataError, Outcome},
    partition::{
        fetch::Fetched,
        produce::Acks,
        producers::ProducerFacts,
        transactions::{EndTransaction, Isolation, Permit, Standing},
        validate::RecordFault,
    },
    shard::{groups::GroupResult, transactional::TransactionResult},
};

/// A refusal, as it will be shown to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct OpError {
    /// The error on the wire.
    pub code: ErrorCode,
    /// What was wrong, where.
    pub message: String,
    /// The records of a batch that are to blame.
    pub faults: Vec<RecordFault>,
}

impl OpError {
    /// Makes one.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> OpError {
        OpError { code, message: message.into(), faults: Vec::new() }
    }
}

/// The answer to an append that is as safe as was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// Where the first record went.
    pub base_offset: Offset,
    /// The broker's timestamp when the topic uses it, else [`Timestamp::NONE`].
    pub append_time: Timestamp,
    /// The first offset of the partition.
    pub start: Offset,
    /// When that happened, for the histograms.
    pub times: AppendTimes,
}

/// One partition of a fetch.
#[derive(Clone, Copy, Debug)]
pub struct FetchFrom {
    /// Which partition.
    pub at: TopicPartition,
    /// From where.
    pub offset: Offset,
    /// The client's idea of the epoch, if it has one.
    pub epoch: Option<Epoch>,
    /// The epoch of the last record the client has, if it wants that checked.
    pub last_epoch: Option<Epoch>,
    /// What the reader may see.
    pub isolation: Isolation,
    /// At most this much of this partition (but at least one batch).
    pub bytes_max: usize,
    /// Which replicas may answer.
    pub reach: Reach,
}

/// Which replicas may answer a fetch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// The leader alone.
    #[default]
    Leader,
    /// Any that is in sync: the client reads from the replica that is near it (KIP-392).
    InSync {
        /// The node whose replica is near the client, where the leader is not: the leader sends it there.
        nearer: Option<NodeId>,
    },
}

/// What is known about a partition.
#[derive(Clone, Copy, Debug)]
pub struct PartitionFacts {
    /// The generation of its leadership.
    pub epoch: Epoch,
    /// The first offset there is.
    pub start: Offset,
    /// The end of what may be read.
    pub committed: Offset,
    /// Bytes in segments and memory.
    pub size_bytes: u64,
}

/// A question to the history of a partition's epochs.
#[derive(Clone, Copy, Debug)]
pub enum AskEpochs {
    /// Where an epoch ends.
    EndOf(Epoch),
    /// In which epoch a record was written, and where that ends.
    Holding(Offset),
}

/// A request between cores.
pub enum CoreRequest {
    /// Append batches to a partition.
    Produce {
        /// Which partition.
        at: TopicPartition,
        /// Whole batches.
        records: BytesMut,
        /// The client's idea of the epoch, if it has one.
        epoch: Option<Epoch>,
        /// When to answer.
        acks: Acks,
        /// Lets the batch begin a transaction in the partition.
        permit: Option<Permit>,
    },
    /// Read from partitions, without waiting; stops when `bytes_max` is reached.
    Fetch {
        /// Which, in the order of preference.
        partitions: Vec<FetchFrom>,
        /// At most this much altogether.
        bytes_max: usize,
        /// Except that the first batch is given whatever its size.
        at_least_one: bool,
    },
    /// Answer when one of the partitions has more than the offset given, or after `timeout`.
    Wait {
        /// Which, and what the asker has seen.
        partitions: Vec<(TopicPartition, Offset)>,
        /// How long at most.
        timeout: Duration,
    },
    /// Ask another node; to core 0.
    AskNode(u32, Ask),
    /// Whether the node is in touch with whoever leads the metadata.
    Touch(bool),
    /// What replicas have to say; to core 0.
    Note(Vec<Note>),
    /// Find an offset.
    FindOffset {
        /// In which partition.
        at: TopicPartition,
        /// Which.
        from: StartFrom,
        /// What the reader may see.
        isolation: Isolation,
    },
    /// Find the record with the largest timestamp.
    FindMaxTimestamp {
        /// In which partition.
        at: TopicPartition,
    },
    /// What the history of a partition's epochs says.
    Epochs {
        /// Of which partition.
        at: TopicPartition,
        /// What is asked.
        ask: AskEpochs,
    },
    /// Delete records before an offset.
    DeleteRecords {
        /// In which partition.
        at: TopicPartition,
        /// Up to where; `None` for all that is committed.
        before: Option<Offset>,
    },
    /// What is known about partitions.
    Describe {
        /// Which.
        partitions: Vec<TopicPartition>,
    },
    /// Whether a producer's transaction is open in a partition.
    Standing {
        /// In which partition.
        at: TopicPartition,
        /// Whose.
        producer: ProducerId,
        /// Its epoch.
        epoch: ProducerEpoch,
    },
    /// End a producer's transaction in a partition.
    EndTransaction {
        /// In which partition.
        at: TopicPartition,
        /// Whose, and how.
        end: EndTransaction,
    },
    /// The producers that a partition knows.
    Producers {
        /// Which partition.
        at: TopicPartition,
    },
    /// New metadata to work by.
    Apply(Arc<ClusterImage>),
    /// Delete the files of a deleted topic.
    Purge(TopicId),
    /// A change of metadata; answered by core 0.
    Propose(Command),
    /// A question to whoever leads the metadata; answered by core 0.
    AskLeader(cluster::message::Request),
    /// A connection that belongs to this core.
    Adopt(crate::shard::handoff::Handoff),
    /// A call to the coordinator of a group; its result comes back as a [`CoreRequest::GroupReply`].
    Group {
        /// Who asks.
        from: CoreId,
        /// The call's name at the asker.
        id: u64,
        /// The partition of the internal topic that has the group.
        at: TopicPartition,
        /// What is asked.
        call: Box<Call>,
    },
    /// The result of a [`CoreRequest::Group`].
    GroupReply {
        /// The call's name, as given.
        id: u64,
        /// The result.
        result: Box<GroupResult>,
    },
    /// The groups whose coordinator is the core that is asked.
    ListGroups(ListGroups),
    /// A request to the coordinator of a transactional id; its result comes back as a [`CoreRequest::TransactionReply`].
    Transaction {
        /// Who asks.
        from: CoreId,
        /// The request's name at the asker.
        id: u64,
        /// The partition of the internal topic that has the id.
        at: TopicPartition,
        /// What is asked.
        request: Box<transaction::Request>,
    },
    /// The result of a [`CoreRequest::Transaction`].
    TransactionReply {
        /// The request's name, as given.
        id: u64,
        /// The result.
        result: Box<TransactionResult>,
    },
    /// The transactional ids whose coordinator is the core that is asked.
    ListTransactions(transaction::ListTransactions),
    /// Count what a client used of a quota.
    Charge(super::quotas::Charge),
    /// Counters and histograms.
    Report,
}

/// The reply to a [`CoreRequest`], of the same name.
pub enum CoreReply {
    /// To [`CoreRequest::AskNode`]; `None` when no reply came.
    Asked(Option<NodeReply>),
    /// To `Produce`.
    Produced(Result<Produced, OpError>),
    /// To `Fetch`, in the order of the request.
    Fetched(Vec<Result<Fetched, OpError>>),
    /// To `Wait`, `Apply`, `Purge`, `Adopt`, `Group`, `GroupReply`, `Transaction` and `TransactionReply`.
    Done,
    /// To `FindOffset` and `FindMaxTimestamp`: `None` when no record is that young.
    Offset(Result<Option<(Offset, Timestamp)>, OpError>),
    /// To `Epochs`: an epoch and the offset after it, if there is one.
    Epochs(Result<Option<(Epoch, Offset)>, OpError>),
    /// To `DeleteRecords`: the new first offset.
    Start(Result<Offset, OpError>),
    /// To `Describe`, in the order of the request.
    Facts(Vec<Result<PartitionFacts, OpError>>),
    /// To `Standing`.
    Standing(Result<Standing, OpError>),
    /// To `EndTransaction`: durable.
    Ended(Result<(), OpError>),
    /// To `Producers`.
    Producers(Result<Vec<ProducerFacts>, OpError>),
    /// To `Propose`.
    Proposed(Result<Outcome, MetadataError>),
    /// To `AskLeader`.
    LeaderSays(cluster::message::Reply),
    /// To `ListGroups`.
    GroupsListed(Result<Vec<ListedGroup>, ErrorCode>),
    /// To `ListTransactions`.
    TransactionsListed(Result<Vec<transaction::Listed>, ErrorCode>),
    /// To `Charge`: how long the client is to be held back.
    Throttle(Duration),
    /// To `Report`.
    Report(Box<CoreReport>),
}
