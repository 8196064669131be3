//! Server-side assignors (KIP-848): pure functions from who subscribes to what, to who gets what.

mod range;
#[cfg(test)]
mod tests;
mod uniform;

use std::rc::Rc;

use heddle_proto::ids::{PartitionIndex, TopicId, TopicPartition};

use super::{
    ids::{InstanceId, MemberId},
    message::Assignment,
};

/// Which assignor.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum AssignorName {
    /// Everybody as many as the others, moving as little as possible.
    #[default]
    Uniform,
    /// Of each topic a range to each; equal numbers of different topics to the same member.
    Range,
}

impl AssignorName {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The assignor with this name on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Uniform, Self::Range].into_iter().find(|assignor| assignor.name() == name)
    }
}

/// A topic to divide.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Topic {
    /// Which.
    pub id: TopicId,
    /// Into how many.
    pub partition_count: u32,
}

impl Topic {
    fn partitions(self) -> impl Iterator<Item = TopicPartition> {
        (0..self.partition_count).map(move |index| TopicPartition::new(self.id, PartitionIndex::new(index)))
    }
}

/// A member to give partitions to.
#[derive(Clone, Debug)]
pub struct Subscriber<'a> {
    /// Its name.
    pub member: &'a MemberId,
    /// Its name if it is static.
    pub instance: Option<&'a InstanceId>,
    /// What it subscribes to and exists, sorted by id. Members with equal subscriptions may share it.
    pub topics: Rc<[Topic]>,
    /// What it was to have until now.
    pub current: &'a Assignment,
}

/// Divides all partitions that somebody subscribes to; the result is in the order of `members`, each partition given to
/// exactly one.
pub fn assign(assignor: AssignorName, members: &[Subscriber<'_>]) -> Vec<Assignment> {
    match assignor {
        AssignorName::Uniform => uniform::assign(members),
        AssignorName::Range => range::assign(members),
    }
}
