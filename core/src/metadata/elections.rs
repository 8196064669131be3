//! Who leads the partitions that have several replicas: the commands on it, and its rules, which are those of
//! [`heddle_replication::leadership`].
//!
//! The answers to a seal are not in the metadata: whoever leads the metadata gathers them, and only what came of them is
//! agreed upon. A command may come too late; what it says of a partition is then passed over.

use std::collections::BTreeSet;

use heddle_proto::ids::{Epoch, NodeId, TopicId};
use heddle_replication::{
    leadership::{Change, Grant, Leadership},
    message::Life,
    quorum::InSync,
    rules::Rules,
};

use super::{
    command::{Outcome, put},
    image::{ClusterImage, NOBODY, PartitionImage, ReplicaSlot, TopicImage},
};

/// A partition whose replicas are to be sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Election {
    /// The topic's id.
    pub topic: TopicId,
    /// The partition's index.
    pub partition: u32,
    /// The newest epoch as the proposer knew it: if it is another by now, somebody else was faster.
    pub after: i32,
}

/// What came of an election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elected {
    /// The topic's id.
    pub topic: TopicId,
    /// The partition's index.
    pub partition: u32,
    /// The epoch that begins.
    pub epoch: i32,
    /// The node that leads in it.
    pub leader: u32,
    /// In this life.
    pub life: u32,
    /// Records that were committed may be lost.
    pub is_lossy: bool,
}

/// A primary's wish for another in-sync set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InSyncChange {
    /// The topic's id.
    pub topic: TopicId,
    /// The partition's index.
    pub partition: u32,
    /// The epoch in which it leads.
    pub epoch: i32,
    /// The version of the set that it knows.
    pub version: u32,
    /// That set.
    pub from: Vec<u32>,
    /// What it is to be.
    pub members: Vec<u32>,
}

/// A primary's wish that another number of the in-sync set holds what is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumChange {
    /// The topic's id.
    pub topic: TopicId,
    /// The partition's index.
    pub partition: u32,
    /// The epoch in which it leads.
    pub epoch: i32,
    /// The version of the set that it knows.
    pub version: u32,
    /// That set.
    pub from: Vec<u32>,
    /// The number.
    pub quorum: u16,
}

impl PartitionImage {
    /// A partition that nobody has written to. Where it has several replicas, its first election is under way.
    pub fn new(replicas: Vec<ReplicaSlot>, quorum: u16) -> PartitionImage {
        let is_replicated = replicas.len() > 1;
        PartitionImage {
            isr: replicas.iter().map(|replica| replica.node).collect(),
            isr_version: 0,
            quorum: quorum.min(replicas.len() as u16),
            leader: if is_replicated { NOBODY } else { replicas[0].node },
            leader_life: 0,
            epoch: 0,
            electing: i32::from(is_replicated),
            lossy: 0,
            target: Vec::new(),
            origin: Vec::new(),
            leaving: Vec::new(),
            replicas,
        }
    }

    /// Whether its leader is found by election: where there are several replicas, or were.
    pub fn is_replicated(&self) -> bool {
        self.replicas.len() > 1 || self.electing != 0 || self.leader == NOBODY || self.leader_life != 0
    }

    /// Whether it has had one replica ever since, on this node.
    pub fn is_led_for_ever_by(&self, node: u32) -> bool {
        !self.is_replicated() && self.leader == node
    }

    /// Whether replicas of other nodes are in sync.
    pub fn has_others_in_sync(&self, node: u32) -> bool {
        self.isr.iter().any(|member| *member != node)
    }

    /// The epoch of the election under way.
    pub fn electing(&self) -> Option<Epoch> {
        (self.electing != 0).then(|| Epoch::new(self.electing))
    }

    /// The newest epoch that any replica can have promised.
    pub fn newest_epoch(&self) -> Epoch {
        self.electing().unwrap_or(self.epoch())
    }

    /// What replicas are told.
    pub fn grant(&self) -> Grant {
        let in_sync = InSync {
            members: nodes(&self.isr),
            quorum: usize::from(self.quorum),
            commit_all: false,
            version: self.isr_version,
        };
        // Who leads without an election leads in any life, and has made no promise to anybody.
        let is_elected = self.leader != NOBODY && self.leader_life != 0;
        let primary = is_elected.then(|| (NodeId::new(self.leader), Life(self.leader_life)));
        Grant { epoch: self.epoch(), primary, in_sync, lossy: Epoch::new(self.lossy) }
    }

    /// The same with the rules by which it changes. No answer to a seal is in it.
    pub fn leadership(&self) -> Leadership {
        Leadership::restore(self.grant(), self.electing(), Rules::default())
    }
}

fn nodes(ids: &[u32]) -> BTreeSet<NodeId> {
    ids.iter().copied().map(NodeId::new).collect()
}

/// Begins elections.
pub(super) fn begin(image: &mut ClusterImage, elections: &[Election]) -> Outcome {
    edit(
        image,
        elections,
        |it| (it.topic, it.partition),
        |partition, election| {
            if partition.is_replicated() && partition.newest_epoch() == Epoch::new(election.after) {
                partition.electing = partition.leadership().begin_election().get();
            }
        },
    )
}

/// Ends elections.
pub(super) fn end(image: &mut ClusterImage, elected: &[Elected]) -> Outcome {
    edit(
        image,
        elected,
        |it| (it.topic, it.partition),
        |partition, elected| {
            let is_due = partition.electing != 0 && partition.electing == elected.epoch;
            if !is_due || !partition.isr.contains(&elected.leader) {
                return;
            }
            partition.electing = 0;
            partition.epoch = elected.epoch;
            partition.leader = elected.leader;
            partition.leader_life = elected.life;
            if elected.is_lossy {
                partition.lossy = elected.epoch;
            }
        },
    )
}

/// Changes in-sync sets.
pub(super) fn change(image: &mut ClusterImage, changes: &[InSyncChange]) -> Outcome {
    edit(
        image,
        changes,
        |it| (it.topic, it.partition),
        |partition, wish| {
            let members = nodes(&wish.members);
            if members.iter().all(|node| partition.has_replica_on(*node)) {
                let quorum = partition.quorum;
                partition.change((wish.epoch, wish.version), &wish.from, members, quorum);
            }
        },
    )
}

/// Changes commit quorums.
pub(super) fn change_quorums(image: &mut ClusterImage, changes: &[QuorumChange]) -> Outcome {
    edit(
        image,
        changes,
        |it| (it.topic, it.partition),
        |partition, wish| {
            partition.change((wish.epoch, wish.version), &wish.from, nodes(&wish.from), wish.quorum);
        },
    )
}

impl PartitionImage {
    /// Takes over another in-sync set or quorum, if the rules allow.
    fn change(&mut self, (epoch, version): (i32, u32), from: &[u32], members: BTreeSet<NodeId>, quorum: u16) {
        let mut leadership = self.leadership();
        let from = InSync { members: nodes(from), version, ..leadership.grant().in_sync.clone() };
        let change = Change { epoch: Epoch::new(epoch), from, members, quorum: usize::from(quorum) };
        if leadership.change(&change).is_err() {
            return;
        }
        let in_sync = &leadership.grant().in_sync;
        self.isr = in_sync.members.iter().map(|node| node.get()).collect();
        self.isr_version = in_sync.version;
        self.quorum = quorum;
        let isr = &self.isr;
        self.leaving.retain(|replica| isr.contains(&replica.node));
    }

    /// So many replicas are to hold what is committed, where the topic says `configured`: never more than there are. While
    /// replicas move it is no more than there were, because those that come may not come to stay.
    pub fn required_quorum(&self, configured: u16) -> u16 {
        let count = match self.is_moving() {
            true => self.origin.len().min(self.target.len()),
            false => self.replicas.len(),
        };
        configured.min(u16::try_from(count).unwrap_or(u16::MAX)).max(1)
    }

    fn has_replica_on(&self, node: NodeId) -> bool {
        self.isr.contains(&node.get()) || self.replicas.iter().any(|replica| replica.node == node.get())
    }
}

/// Edits partitions that are there, each topic copied once for as many of its partitions as come one after the other.
pub(super) fn edit<T>(
    image: &mut ClusterImage,
    items: &[T],
    place: impl Fn(&T) -> (TopicId, u32),
    mut act: impl FnMut(&mut PartitionImage, &T),
) -> Outcome {
    for items in items.chunk_by(|a, b| place(a).0 == place(b).0) {
        let Some(topic) = image.topic_by_id(place(&items[0]).0) else { continue };
        let mut topic = TopicImage::clone(topic);
        for item in items {
            if let Some(partition) = topic.partitions.get_mut(place(item).1 as usize) {
                act(partition, item);
            }
        }
        put(image, topic);
    }
    Outcome::Done
}
