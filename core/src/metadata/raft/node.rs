//! One node's part in the metadata's quorum: propose, read, take in messages, change who votes.
//!
//! Lives on core 0. A node that is alone is a quorum of one. A command whose outcome came back is on stable storage of
//! a majority of the voters and will be applied by every node at the same place; one that is [`ProposeError::Unknown`]
//! may be or not, and is never proposed again from here.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use heddle_log_store::Disk;
use heddle_proto::ids::NodeId;
use openraft::{
    BasicNode, ChangeMembers, Raft, ServerState,
    error::{ClientWriteError, InitializeError, InstallSnapshotError, RaftError},
    storage::{RaftLogStorage, RaftStateMachine},
};

use super::{
    elections::spread,
    log_store::LogStore,
    message::{COMMAND_BYTES_MAX, Reply, Request},
    network::{Network, Peer, Transport, TransportError},
    options::{Options, OptionsError},
    runtime::{Executor, within},
    state_machine::{ImageReader, StateMachine},
    types::{Answer, Id, Types},
};
use crate::{
    fields::{DecodeError, Field},
    metadata::{
        command::{Command, MetadataError, Outcome},
        frame::MetadataLogError,
        image::ClusterImage,
        service::Publish,
    },
};

/// How long a proposal waits before it looks again who leads.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Why the library did not change the members.
type WriteError = RaftError<Id, ClientWriteError<Id, BasicNode>>;

/// A running node.
pub struct Node<E: Executor, D: Disk, T> {
    id: Id,
    raft: Raft<Types<E>>,
    images: ImageReader<D>,
    transport: Rc<T>,
    patience: Duration,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The options contradict each other.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The log or a snapshot cannot be read.
    #[error(transparent)]
    Log(#[from] MetadataLogError),
    /// The consensus library refuses what it read.
    #[error("the metadata log cannot be taken up: {0}")]
    Refused(String),
}

/// Why a proposal has no outcome.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The command was refused; nothing changed.
    #[error(transparent)]
    Refused(#[from] MetadataError),
    /// No leader was found in time; nothing changed.
    #[error("the cluster's metadata has no leader; try again")]
    NoLeader,
    /// Whether it took effect is not known.
    #[error("the leader of the cluster's metadata did not answer; the change may have taken effect")]
    Unknown,
    /// This node has stopped or failed.
    #[error("the node takes part in the cluster's metadata no more")]
    Stopped,
}

/// Why the members were not changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Another node leads, or none; only the leader changes the members.
    #[error("only the leader changes who votes; it is {}", leader.map_or_else(|| "not known".to_owned(), |id| id.to_string()))]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// The change is impossible, or another one is under way.
    #[error("{0}")]
    Refused(String),
    /// It was begun, and whether it ended is not known.
    #[error("the change was begun, and no quorum has agreed to it in time")]
    Unknown,
    /// This node has stopped or failed.
    #[error("the node takes part in the cluster's metadata no more")]
    Stopped,
}

/// Who takes part, as this node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Who leads.
    pub leader: Option<NodeId>,
    /// The term of that.
    pub term: u64,
    /// Who votes; while one set replaces another, both.
    pub voters: BTreeSet<NodeId>,
    /// Who only learns.
    pub learners: BTreeSet<NodeId>,
}

/// How far this node's log of the metadata is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// Index of the newest entry; it may not be committed.
    pub appended: u64,
    /// Index of the newest entry that was applied.
    pub applied: u64,
}

impl<E: Executor, D: Disk, T: Transport> Node<E, D, T> {
    /// Takes up what is in `dir`, or begins with nothing: then it waits until [`Node::found`] is called here, or until
    /// the leader of a cluster takes it in as a learner.
    ///
    /// # Errors
    /// When what is there cannot be trusted.
    pub async fn start(
        id: NodeId,
        options: &Options,
        (disk, dir): (D, &Path),
        transport: Rc<T>,
        publish: Publish,
    ) -> Result<Rc<Self>, StartError> {
        let machine = StateMachine::open(disk.clone(), dir.to_owned(), publish).await?;
        let mut log = LogStore::<E, D>::open(disk, dir, machine.snapshots()).await?;
        if let Some(applied) = machine.applied() {
            log.catch_up_with(applied).await?;
        }
        let images = machine.reader();
        Self::assemble(id, options, (log, machine), images, transport).await
    }

    /// The same over a log and a state machine of the caller's choice.
    pub(super) async fn assemble(
        id: NodeId,
        options: &Options,
        (log, machine): (impl RaftLogStorage<Types<E>>, impl RaftStateMachine<Types<E>>),
        images: ImageReader<D>,
        transport: Rc<T>,
    ) -> Result<Rc<Self>, StartError> {
        let config = Arc::new(options.to_config()?);
        let network = Network::new(transport.clone());
        let id = Id::from(id.get());
        let raft = Raft::new(id, config, network, log, machine).await;
        let raft = raft.map_err(|error| StartError::Refused(error.to_string()))?;
        E::spawn(spread(raft.clone(), options.election));
        Ok(Rc::new(Node { id, raft, images, transport, patience: options.patience }))
    }

    /// Makes this node a cluster of its own, reached at `address`. Does nothing where it is in one already.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn found(&self, address: &str) -> Result<(), ChangeError> {
        if self.raft.is_initialized().await.map_err(|_| ChangeError::Stopped)? {
            return Ok(());
        }
        let alone = BTreeMap::from([(self.id, BasicNode::new(address))]);
        match self.raft.initialize(alone).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(RaftError::APIError(InitializeError::NotInMembers(error))) => {
                Err(ChangeError::Refused(error.to_string()))
            }
            Err(RaftError::Fatal(_)) => Err(ChangeError::Stopped),
        }
    }

    /// The newest image this node has. It may lag behind the leader's.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.images.image()
    }

    /// The image with everything in it that was answered anywhere before this call. Only the leader can tell.
    ///
    /// # Errors
    /// When this node does not lead, or no quorum says in time that it still does.
    pub async fn read(&self) -> Result<Arc<ClusterImage>, ProposeError> {
        match within::<E, _>(self.patience, self.raft.ensure_linearizable()).await {
            Some(Ok(_)) => Ok(self.image()),
            Some(Err(RaftError::Fatal(_))) => Err(ProposeError::Stopped),
            Some(Err(RaftError::APIError(_))) | None => Err(ProposeError::NoLeader),
        }
    }

    /// Proposes a change through whoever leads, and waits for its outcome.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        let mut bytes = Vec::new();
        command.put(&mut bytes);
        if bytes.len() > COMMAND_BYTES_MAX {
            let why = format!("a command of {} bytes is too large", bytes.len());
            return Err(MetadataError::InvalidRequest(why).into());
        }
        let deadline = E::now() + self.patience;
        loop {
            let left = deadline.saturating_sub(E::now());
            match self.propose_once(&command, left).await {
                Err(ProposeError::NoLeader) if !left.is_zero() => E::sleep(LOOK_AGAIN.min(left)).await,
                result => return result,
            }
        }
    }

    async fn propose_once(&self, command: &Command, left: Duration) -> Result<Outcome, ProposeError> {
        let Some((leader, address)) = self.leader() else { return Err(ProposeError::NoLeader) };
        let reply = if leader == self.id {
            within::<E, _>(left, self.lead(command.clone())).await.unwrap_or(Reply::Unknown)
        } else {
            let peer = Peer::new(self.transport.clone(), leader, address);
            match within::<E, _>(left, peer.call(Request::<E>::Propose(command.clone()).encode())).await {
                Some(Ok(reply)) => reply,
                Some(Err(TransportError::Unreachable(_) | TransportError::Stopped)) => Reply::NotLeader,
                Some(Err(TransportError::Lost(_))) | None => Reply::Unknown,
            }
        };
        match reply {
            Reply::Answer { index, answer } => {
                self.reach(index, left).await;
                Ok(answer?)
            }
            Reply::NotLeader => Err(ProposeError::NoLeader),
            Reply::Stopped => Err(ProposeError::Stopped),
            _ => Err(ProposeError::Unknown),
        }
    }

    /// Waits until this node has applied what its caller has just changed, so that it reads what it wrote; for a while only,
    /// since the change is made whether this node keeps up or not.
    async fn reach(&self, index: u64, patience: Duration) {
        let mut metrics = self.raft.metrics();
        let reached = async {
            while metrics.borrow_and_update().last_applied.is_none_or(|applied| applied.index < index) {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        within::<E, _>(patience, reached).await;
    }

    /// Has a command committed by this node.
    async fn lead(&self, command: Command) -> Reply {
        match self.raft.client_write(command).await {
            Ok(response) => Reply::Answer { index: response.log_id.index, answer: response.data },
            Err(RaftError::Fatal(_)) => Reply::Stopped,
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Reply::NotLeader,
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => {
                let answer = Answer::Err(MetadataError::InvalidRequest(error.to_string()));
                Reply::Answer { index: 0, answer }
            }
        }
    }

    /// Who leads and where it is reached, as far as this node knows.
    fn leader(&self) -> Option<(Id, String)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let leader = metrics.current_leader?;
        let node = metrics.membership_config.membership().get_node(&leader)?;
        Some((leader, node.addr.clone()))
    }

    /// Takes in a message of another node and gives the reply.
    ///
    /// # Errors
    /// When it is no message: the connection should be closed.
    pub async fn take(&self, message: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let reply = match Request::<E>::decode(message)? {
            Request::Append(append) => {
                self.raft.append_entries(append).await.map_or(Reply::Stopped, Reply::Append)
            }
            Request::Vote(ballot) => self.raft.vote(ballot).await.map_or(Reply::Stopped, Reply::Vote),
            Request::Install(install) => match self.raft.install_snapshot(install).await {
                Ok(reply) => Reply::Install(reply),
                Err(RaftError::APIError(InstallSnapshotError::SnapshotMismatch(error))) => {
                    Reply::Mismatch(error)
                }
                Err(RaftError::Fatal(_)) => Reply::Stopped,
            },
            Request::Propose(command) => match within::<E, _>(self.patience, self.lead(command)).await {
                Some(reply) => reply,
                None => Reply::Unknown,
            },
        };
        Ok(reply.encode())
    }

    /// Takes a node in that learns and does not vote; returns when it lacks no more than the entries between two
    /// snapshots, so that as a voter it has caught up in a moment. A node that is in already gets the new address.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn add_learner(&self, node: NodeId, address: &str) -> Result<(), ChangeError> {
        let (id, place) = (Id::from(node.get()), BasicNode::new(address));
        let known = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            metrics.membership_config.membership().get_node(&id).cloned()
        };
        let change = async {
            if known.is_some_and(|known| known != place) {
                let moved = ChangeMembers::SetNodes(BTreeMap::from([(id, place.clone())]));
                self.raft.change_membership(moved, true).await?;
            }
            self.raft.add_learner(id, place, true).await
        };
        self.changed(within::<E, _>(self.patience, change).await)
    }

    /// Takes a node in that learns and does not vote, or gives it a new address, and does not wait until it has heard of it.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn admit(&self, node: NodeId, address: &str) -> Result<(), ChangeError> {
        let nodes = BTreeMap::from([(Id::from(node.get()), BasicNode::new(address))]);
        let is_known = self.address_of(node).is_some();
        let change = if is_known { ChangeMembers::SetNodes(nodes) } else { ChangeMembers::AddNodes(nodes) };
        self.changed(within::<E, _>(self.patience, self.raft.change_membership(change, true)).await)
    }

    /// Has a node take part no more. What it had agreed to counts no more.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn expel(&self, node: NodeId) -> Result<(), ChangeError> {
        let id = Id::from(node.get());
        let members = self.members();
        if members.voters.contains(&node) {
            let rest = members.voters.into_iter().filter(|voter| *voter != node).collect();
            self.choose_voters(&rest).await?;
        }
        if self.address_of(node).is_none() {
            return Ok(());
        }
        let change = self.raft.change_membership(ChangeMembers::RemoveNodes(BTreeSet::from([id])), true);
        self.changed(within::<E, _>(self.patience, change).await)
    }

    /// Where a node is reached, if it takes part.
    pub fn address_of(&self, node: NodeId) -> Option<String> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        membership.get_node(&Id::from(node.get())).map(|node| node.addr.clone())
    }

    /// Makes just these nodes the voters, and has those that voted learn from now on.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn choose_voters(&self, voters: &BTreeSet<NodeId>) -> Result<(), ChangeError> {
        let ids: BTreeSet<Id> = voters.iter().map(|node| Id::from(node.get())).collect();
        self.changed(within::<E, _>(self.patience, self.raft.change_membership(ids, true)).await)
    }

    /// Makes just these nodes the voters, each of which must be in the cluster. Voters that are not among them leave.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn change_voters(&self, voters: &BTreeSet<NodeId>) -> Result<(), ChangeError> {
        let ids: BTreeSet<Id> = voters.iter().map(|node| Id::from(node.get())).collect();
        let change = self.raft.change_membership(ids, false);
        self.changed(within::<E, _>(self.patience, change).await)
    }

    fn changed<R>(&self, result: Option<Result<R, WriteError>>) -> Result<(), ChangeError> {
        match result {
            Some(Ok(_)) => Ok(()),
            Some(Err(RaftError::Fatal(_))) => Err(ChangeError::Stopped),
            Some(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => {
                Err(ChangeError::NotLeader { leader: forward.leader_id.map(to_node_id) })
            }
            Some(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => {
                Err(ChangeError::Refused(error.to_string()))
            }
            None => Err(ChangeError::Unknown),
        }
    }

    /// Who takes part.
    pub fn members(&self) -> Members {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        Members {
            leader: metrics.current_leader.map(to_node_id),
            term: metrics.current_term,
            voters: membership.voter_ids().map(to_node_id).collect(),
            learners: membership.learner_ids().map(to_node_id).collect(),
        }
    }

    /// How far its log is.
    pub fn positions(&self) -> Positions {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        Positions {
            appended: metrics.last_log_index.unwrap_or(0),
            applied: metrics.last_applied.map_or(0, |applied| applied.index),
        }
    }

    /// The term in which this node leads, if it does.
    pub fn leads(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        (metrics.state == ServerState::Leader).then_some(metrics.current_term)
    }

    /// Waits until this node can take part no more, and says why: the process must stop then.
    pub async fn failed(&self) -> String {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(error) = &metrics.borrow_and_update().running_state {
                return error.to_string();
            }
            if metrics.changed().await.is_err() {
                return "the node was stopped".to_owned();
            }
        }
    }

    /// Ends its part in good order.
    pub async fn stop(&self) {
        if self.raft.shutdown().await.is_err() {
            tracing::warn!("the node's part in the cluster's metadata ended before it was told to");
        }
    }
}

fn to_node_id(id: Id) -> NodeId {
    NodeId::new(u32::try_from(id).expect("ids are those of nodes"))
}
