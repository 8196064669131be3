//! How the replicas of a node follow the metadata that it has seen: hosted, told, given up and deleted as the broker says.

use std::collections::BTreeSet;
use std::time::Duration;

use heddle_core::metadata::{PartitionImage, TopicImage};
use heddle_core::shard::news::{self, News};
use heddle_proto::ids::{CoreId, NodeId, TopicPartition};

use crate::node::{Up, log_config};
use crate::plan::{Bug, Plan};

/// A backup further behind than this many records catches up within the budget for that.
const CATCH_UP_RECORDS_MAX: i64 = 40;

/// As long as the broker's backups go on taking records before they promise, where the primary alone commits.
const SEALS_AFTER: Duration = Duration::from_millis(150);

impl Up {
    /// Opens the replicas that this node has, tells them what is new, and gives those up that are gone.
    pub fn follow(&mut self, clock: Duration, node: NodeId, plan: &Plan) {
        let image = self.session.seen().clone();
        let mut here = BTreeSet::new();
        for (topic, at, partition) in news::replicas_on(&image, (node, CoreId::new(0))) {
            if self.deleting.contains(&at) {
                continue;
            }
            here.insert(at);
            let before = self.told.get(&at);
            if before != Some(partition) {
                let told = if plan.bug == Some(Bug::TwoPrimaries) {
                    &self.leads_itself(node, partition)
                } else {
                    partition
                };
                let news = News::of(&image, (node, self.life), topic, told, before);
                if before.is_none() {
                    self.host(clock, plan, (topic, at), &news);
                }
                if let Some(epoch) = news.seal.filter(|_| news.seals_late) {
                    self.late_seals.push((clock + SEALS_AFTER, at, epoch));
                }
                news.tell(clock, at, &mut self.driver.borrow_mut());
                self.told.insert(at, partition.clone());
            }
        }
        let gone: Vec<TopicPartition> = self.told.keys().filter(|at| !here.contains(at)).copied().collect();
        for at in &gone {
            self.told.remove(at);
            self.driver.borrow_mut().remove(*at);
        }
        self.delete_moved(node, gone);
    }

    /// Promises what is due by now, as far as that election is still under way.
    pub fn seal_late(&mut self, clock: Duration) {
        let due: Vec<_> = self.late_seals.extract_if(.., |(at, ..)| *at <= clock).collect();
        for (_, at, epoch) in due {
            if self.told.get(&at).is_some_and(|told| told.electing() == Some(epoch)) {
                self.driver.borrow_mut().seal(clock, at, epoch);
            }
        }
    }

    /// Deletes the logs of those of these partitions that have no replica here any more.
    pub fn delete_moved(&mut self, node: NodeId, logs: Vec<TopicPartition>) {
        let image = self.session.seen().clone();
        for at in logs.into_iter().filter(|at| news::is_elsewhere(&image, (node, CoreId::new(0)), *at)) {
            if self.deleting.insert(at) {
                self.delete(at);
            }
        }
    }

    fn host(&self, clock: Duration, plan: &Plan, (topic, at): (&TopicImage, TopicPartition), news: &News) {
        let log = self.store.log(at, log_config(plan));
        let end = self.damaged.get(&at).copied().unwrap_or(log.positions().written);
        let history = self.keep_history(&log, end);
        let is_damaged = log.damage().is_some();
        let mut placement = news.placement(&self.at_start, topic, at, (history, is_damaged));
        placement.config.catch_up_records_max = CATCH_UP_RECORDS_MAX;
        self.driver.borrow_mut().add(clock, placement, log);
    }

    /// A mistake planted on purpose: whoever leads, the replica is told that it is this one.
    fn leads_itself(&self, node: NodeId, partition: &PartitionImage) -> PartitionImage {
        let mut told = partition.clone();
        if told.grant().primary.is_some() {
            (told.leader, told.leader_life) = (node.get(), self.life.0);
        }
        told
    }
}
