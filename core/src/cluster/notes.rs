//! What the replicas of a node have said and the metadata does not show yet: kept, and said again, until it does.
//!
//! A pure state machine, which the simulator uses as the broker does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use heddle_proto::ids::{NodeId, PartitionIndex, TopicId, TopicPartition};

use super::{
    message::Tell,
    note::{Note, Sealed, Wish},
};
use crate::metadata::{
    ClusterImage, Command, PartitionImage,
    elections::{InSyncChange, QuorumChange},
};

/// How often what was said and has shown no effect is said again.
pub const SAY_AGAIN: Duration = Duration::from_millis(500);

/// See the module. Times are of one monotonic clock.
#[derive(Default)]
pub struct Notes {
    sealed: BTreeMap<TopicPartition, Sealed>,
    wishes: BTreeMap<TopicPartition, Wish>,
    changes: BTreeMap<TopicPartition, InSyncChange>,
    quorum_changes: BTreeMap<TopicPartition, QuorumChange>,
    /// What has not been said since it came, or since the leader changed.
    unsaid: BTreeSet<TopicPartition>,
    said_to: Option<NodeId>,
    said_all_at: Duration,
}

/// How a node begins a [`Tell`].
#[derive(Copy, Clone, Debug)]
pub struct Teller {
    /// Who.
    pub node: u32,
    /// In which life.
    pub life: u32,
    /// Whether it is about to stop.
    pub is_leaving: bool,
}

impl Notes {
    /// A replica has something to say. Returns whether it is a wish for another in-sync set or quorum, which the node
    /// proposes itself; all else goes to whoever leads the metadata.
    pub fn take(&mut self, note: Note) -> bool {
        match note {
            Note::Sealed(sealed) => {
                self.unsaid.insert(sealed.at);
                self.sealed.insert(sealed.at, sealed);
            }
            Note::NeedsElection(wish) => {
                self.unsaid.insert(wish.at);
                self.wishes.insert(wish.at, wish);
            }
            Note::Change(change) => {
                self.changes.insert(place(change.topic, change.partition), change);
                return true;
            }
            Note::ChangeQuorum(change) => {
                self.quorum_changes.insert(place(change.topic, change.partition), change);
                return true;
            }
        }
        false
    }

    /// What is to be said now to whoever leads the metadata.
    pub fn tell(&mut self, now: Duration, image: &ClusterImage, leader: NodeId, teller: Teller) -> Tell {
        self.forget(image);
        if self.said_to != Some(leader) || now.saturating_sub(self.said_all_at) >= SAY_AGAIN {
            self.said_to = Some(leader);
            self.said_all_at = now;
            self.unsaid.extend(self.sealed.keys().chain(self.wishes.keys()));
        }
        let unsaid = std::mem::take(&mut self.unsaid);
        Tell {
            node: teller.node,
            life: teller.life,
            is_leaving: teller.is_leaving,
            sealed: unsaid.iter().filter_map(|at| self.sealed.get(at)).cloned().collect(),
            wishes: unsaid.iter().filter_map(|at| self.wishes.get(at)).cloned().collect(),
        }
    }

    /// What was said of these partitions may not have been heard.
    pub fn unheard(&mut self, said: impl IntoIterator<Item = TopicPartition>) {
        self.unsaid.extend(said);
    }

    /// The changes of in-sync sets and quorums that are to be proposed.
    pub fn changes(&mut self, image: &ClusterImage) -> Vec<Command> {
        self.forget(image);
        let changes: Vec<InSyncChange> = self.changes.values().cloned().collect();
        let quorums: Vec<QuorumChange> = self.quorum_changes.values().cloned().collect();
        let in_sync = (!changes.is_empty()).then_some(Command::ChangeInSync { changes });
        let quorums = (!quorums.is_empty()).then_some(Command::ChangeQuorum { changes: quorums });
        in_sync.into_iter().chain(quorums).collect()
    }

    /// Drops what the metadata shows to be done or over.
    fn forget(&mut self, image: &ClusterImage) {
        let find = |at: &TopicPartition| -> Option<&PartitionImage> {
            image.topic_by_id(at.topic)?.partition(at.partition)
        };
        self.sealed.retain(|at, sealed| {
            find(at).is_none_or(|it| it.newest_epoch().get() <= sealed.epoch && it.epoch < sealed.epoch)
        });
        self.wishes.retain(|at, wish| find(at).is_none_or(|it| it.epoch <= wish.epoch && it.electing == 0));
        let is_due = |at: &TopicPartition, epoch: i32, version: u32| {
            find(at).is_some_and(|it| it.epoch == epoch && it.isr_version == version)
        };
        self.changes.retain(|at, change| is_due(at, change.epoch, change.version));
        self.quorum_changes.retain(|at, change| is_due(at, change.epoch, change.version));
    }
}

fn place(topic: TopicId, partition: u32) -> TopicPartition {
    TopicPartition::new(topic, PartitionIndex::new(partition))
}

/// Whether a node that is about to stop leads something that another member of its in-sync set could lead.
pub fn leads_what_others_could(image: &ClusterImage, node: u32) -> bool {
    image.topics.values().flat_map(|topic| &topic.partitions).any(|partition| {
        partition.is_replicated() && partition.leader == node && partition.has_others_in_sync(node)
    })
}

#[cfg(test)]
mod tests {
    use heddle_proto::ids::{Epoch, Offset, TopicId};
    use heddle_replication::{leadership::SealAnswer, message::Life};

    use super::*;
    use crate::metadata::ReplicaSlot;

    const AT: TopicPartition = TopicPartition::new(TopicId::new([9; 16]), PartitionIndex::new(0));

    #[test]
    fn an_answer_is_said_again_until_the_metadata_shows_that_it_was_heard() {
        let mut notes = Notes::default();
        let answer = SealAnswer {
            life: Life(1),
            accepted: Epoch::new(0),
            end: Offset::ZERO,
            last_epoch: Epoch::new(0),
            forgot: false,
        };
        assert!(!notes.take(Note::Sealed(Sealed { at: AT, epoch: 1, answer })));
        let unknown = ClusterImage::default();
        let said = |notes: &mut Notes, millis, leader, image: &ClusterImage| {
            let teller = Teller { node: 1, life: 1, is_leaving: false };
            let now = Duration::from_secs(1) + Duration::from_millis(millis);
            notes.tell(now, image, NodeId::new(leader), teller).sealed.len()
        };
        assert_eq!(said(&mut notes, 0, 1, &unknown), 1);
        assert_eq!(said(&mut notes, 100, 1, &unknown), 0);
        notes.unheard([AT]);
        assert_eq!(said(&mut notes, 200, 1, &unknown), 1);
        assert_eq!(said(&mut notes, 300, 2, &unknown), 1, "another leads");
        assert_eq!(said(&mut notes, 900, 2, &unknown), 1, "so much later");
        let mut partition = PartitionImage::new(vec![ReplicaSlot { node: 1, slot: 0 }; 2], 1);
        (partition.epoch, partition.electing) = (1, 0);
        let topic = std::sync::Arc::new(crate::metadata::TopicImage {
            name: "t".into(),
            id: AT.topic,
            overrides: BTreeMap::new(),
            config: crate::metadata::TopicConfig::parse(&BTreeMap::new()).expect("the defaults are valid"),
            partitions: vec![partition],
        });
        let mut shown = ClusterImage::default();
        shown.topics_by_id.insert(AT.topic, topic);
        assert_eq!(said(&mut notes, 2000, 2, &shown), 0);
    }
}
