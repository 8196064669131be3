//! Which core of a node has the log of a replica. A move may take a replica away from one core and another may bring it back to
//! a second one, while the first has not heard of that, or is still deleting: the files are at the same place.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
};

use heddle_proto::ids::{CoreId, TopicPartition};

/// Of all cores of one node. It is asked when a replica comes or goes, and never while records flow.
#[derive(Default)]
pub struct Homes(Mutex<BTreeMap<TopicPartition, CoreId>>);

impl Homes {
    /// A core is to have the log; `false` while another one has it.
    pub fn take(&self, at: TopicPartition, core: CoreId) -> bool {
        match self.all().entry(at) {
            Entry::Occupied(has) => *has.get() == core,
            Entry::Vacant(nobody) => {
                nobody.insert(core);
                true
            }
        }
    }

    /// A core has it no more: its files are gone.
    pub fn leave(&self, at: TopicPartition, core: CoreId) {
        if let Entry::Occupied(has) = self.all().entry(at)
            && *has.get() == core
        {
            has.remove();
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, CoreId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use heddle_proto::ids::{PartitionIndex, TopicId};

    use super::*;

    #[test]
    fn a_log_has_one_home_until_it_is_left() {
        let (homes, first, second) = (Homes::default(), CoreId::new(0), CoreId::new(1));
        let at = |index| TopicPartition::new(TopicId::new([1; 16]), PartitionIndex::new(index));
        assert!(homes.take(at(0), first) && homes.take(at(0), first));
        assert!(!homes.take(at(0), second) && homes.take(at(1), second));
        homes.leave(at(0), second);
        assert!(!homes.take(at(0), second), "it was not its own");
        homes.leave(at(0), first);
        assert!(homes.take(at(0), second) && !homes.take(at(0), first));
    }
}
