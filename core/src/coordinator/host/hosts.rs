//! The coordinators of one kind that a core runs, one for each partition of the internal topic that it owns.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use heddle_log_store::Disk;
use heddle_proto::{error::ErrorCode, ids::TopicPartition};

use super::{Host, StateMachine};

/// Lives on one core; follows the metadata.
pub struct Hosts<M: StateMachine, D: Disk> {
    running: RefCell<BTreeMap<TopicPartition, Rc<Host<M, D>>>>,
}

impl<M: StateMachine, D: Disk> Default for Hosts<M, D> {
    fn default() -> Self {
        Self { running: RefCell::default() }
    }
}

impl<M: StateMachine, D: Disk> Hosts<M, D> {
    /// The host of a partition, if this core runs it.
    pub fn get(&self, at: TopicPartition) -> Option<Rc<Host<M, D>>> {
        self.running.borrow().get(&at).cloned()
    }

    /// All hosts, in the order of their partitions.
    pub fn all(&self) -> Vec<Rc<Host<M, D>>> {
        self.running.borrow().values().cloned().collect()
    }

    /// How many of them cannot read their state.
    pub fn unreadable_count(&self) -> usize {
        self.running.borrow().values().filter(|host| host.is_unreadable()).count()
    }

    /// Stops the hosts of partitions that are not among `owned`, and starts those that are missing with `start`, which
    /// gives `None` when a partition is not to be had after all.
    pub fn follow(
        &self,
        owned: &[TopicPartition],
        mut start: impl FnMut(TopicPartition) -> Option<Rc<Host<M, D>>>,
    ) {
        let gone: Vec<_> = {
            let mut running = self.running.borrow_mut();
            let lost: Vec<_> = running.keys().filter(|at| !owned.contains(at)).copied().collect();
            lost.iter().filter_map(|at| running.remove(at)).collect()
        };
        gone.iter().for_each(|host| host.stop(ErrorCode::NotCoordinator));
        for at in owned {
            if self.get(*at).is_none_or(|host| host.is_stopped())
                && let Some(host) = start(*at)
            {
                self.running.borrow_mut().insert(*at, host);
            }
        }
    }

    /// Stops all of them: the core stops.
    pub fn stop(&self, error: ErrorCode) {
        self.all().iter().for_each(|host| host.stop(error));
    }
}
