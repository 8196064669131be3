//! Decides who leads what: a pure state machine, run by whoever leads the metadata and made anew with each term.
//!
//! It hears who lives and who has sealed, sees the newest image, and gives commands. Nothing in it is durable: an election
//! that its predecessor began goes on with the answers that are sent again. Its rules are those of
//! [`heddle_replication::leadership`]; what is left to it is when, and among equals whom.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ahash::{AHashMap, AHashSet};
use heddle_proto::ids::{Epoch, NodeId, PartitionIndex, TopicPartition};
use heddle_replication::leadership::SealAnswer;

use super::message::Tell;
use crate::metadata::{
    ClusterImage, Command, PartitionImage,
    elections::{Elected, Election},
};

/// How often a node says that it lives.
pub const HEARTBEAT: Duration = Duration::from_millis(100);

/// Who was not heard for so long counts as dead: several heartbeats, and half of what a failover may take.
pub const DEAD_AFTER: Duration = Duration::from_millis(600);

/// How long an election waits for those that seem to live, once enough have answered.
const PATIENCE: Duration = Duration::from_millis(300);

/// How long the preferred leader must have been in sync and alive before it is given its partitions back.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// The most partitions that go back to their preferred leaders at once: each is without a leader for a moment.
const RETURNS_AT_ONCE_MAX: usize = 100;

/// See the module. Times are of one monotonic clock.
pub struct Controller {
    began: Duration,
    /// Who led the metadata before: most likely it is gone.
    suspect: Option<u32>,
    nodes: BTreeMap<u32, Heard>,
    elections: AHashMap<TopicPartition, Gathered>,
    wishes: AHashSet<(TopicPartition, i32)>,
    /// Elections in which the leader so far is not to win if others can.
    hand_overs: AHashSet<(TopicPartition, i32)>,
    returned_at: Duration,
}

struct Heard {
    at: Duration,
    life: u32,
    is_leaving: bool,
    /// Since when it has been heard without a gap.
    since: Duration,
}

/// Answers to one seal.
struct Gathered {
    epoch: i32,
    since: Duration,
    answers: BTreeMap<u32, SealAnswer>,
}

impl Controller {
    /// One that knows nothing yet: everybody gets the time to be heard, and who led the metadata before a short one.
    pub fn new(now: Duration, suspect: Option<u32>) -> Self {
        Controller {
            began: now,
            suspect,
            nodes: BTreeMap::new(),
            elections: AHashMap::new(),
            wishes: AHashSet::new(),
            hand_overs: AHashSet::new(),
            returned_at: now,
        }
    }

    /// A node says that it lives, and what else it has to say. Returns whether something should be decided at once.
    pub fn hear(&mut self, now: Duration, tell: Tell) -> bool {
        let heard = self.nodes.entry(tell.node).or_insert(Heard {
            at: now,
            life: tell.life,
            is_leaving: false,
            since: now,
        });
        if tell.life < heard.life {
            return false;
        }
        let is_new = tell.life > heard.life || now.saturating_sub(heard.at) >= DEAD_AFTER;
        let leaves = tell.is_leaving && !heard.is_leaving;
        *heard = Heard {
            at: now,
            life: tell.life,
            is_leaving: tell.is_leaving,
            since: if is_new { now } else { heard.since },
        };
        let is_urgent = leaves || is_new || !tell.sealed.is_empty() || !tell.wishes.is_empty();
        for sealed in tell.sealed {
            let gathered =
                self.elections.entry(sealed.at).or_insert_with(|| Gathered::new(sealed.epoch, now));
            if gathered.epoch < sealed.epoch {
                *gathered = Gathered::new(sealed.epoch, now);
            }
            if gathered.epoch == sealed.epoch {
                gathered.answers.insert(tell.node, sealed.answer);
            }
        }
        self.wishes.extend(tell.wishes.into_iter().map(|wish| (wish.at, wish.epoch)));
        is_urgent
    }

    /// Whether a node was heard lately; in the beginning everybody counts as alive.
    pub fn is_alive(&self, now: Duration, node: u32) -> bool {
        let silence = self.silence(now, node);
        match self.suspect {
            Some(suspect) if suspect == node && !self.nodes.contains_key(&node) => silence < HEARTBEAT * 2,
            _ => silence < DEAD_AFTER,
        }
    }

    /// How long ago a node was heard, or the controller began.
    pub fn silence(&self, now: Duration, node: u32) -> Duration {
        now.saturating_sub(self.nodes.get(&node).map_or(self.began, |heard| heard.at))
    }

    /// A client or an operator wants that somebody else leads a partition, the preferred replica if it can.
    pub fn hand_over(&mut self, at: TopicPartition, epoch: i32) {
        self.wishes.insert((at, epoch));
        self.hand_overs.insert((at, epoch + 1));
    }

    /// What the clock and what was heard make due.
    pub fn decide(&mut self, now: Duration, image: &ClusterImage) -> Vec<Command> {
        let (mut begin, mut end) = (Vec::new(), Vec::new());
        let mut returns = if now.saturating_sub(self.returned_at) >= SETTLED_AFTER {
            self.returned_at = now;
            RETURNS_AT_ONCE_MAX
        } else {
            0
        };
        for topic in image.topics.values() {
            for (index, partition) in topic.partitions.iter().enumerate().filter(|(_, it)| it.is_replicated())
            {
                let at = TopicPartition::new(topic.id, PartitionIndex::new(index as u32));
                if let Some(epoch) = partition.electing() {
                    end.extend(self.end(now, at, partition, epoch));
                    continue;
                }
                self.elections.remove(&at);
                let mut is_due = self.needs_election(now, image, at, partition);
                if !is_due && returns > 0 && self.is_to_return(now, image, partition) {
                    returns -= 1;
                    self.hand_overs.insert((at, partition.epoch + 1));
                    is_due = true;
                }
                if is_due {
                    let after = partition.newest_epoch().get();
                    begin.push(Election { topic: topic.id, partition: index as u32, after });
                }
            }
        }
        self.forget(image);
        let mut commands = Vec::new();
        if !begin.is_empty() {
            commands.push(Command::BeginElections { elections: begin });
        }
        if !end.is_empty() {
            commands.push(Command::EndElections { elected: end });
        }
        commands
    }

    fn needs_election(
        &self,
        now: Duration,
        image: &ClusterImage,
        at: TopicPartition,
        partition: &PartitionImage,
    ) -> bool {
        let leader = partition.leader;
        let lives_on = image.nodes.get(&leader).is_some_and(|node| node.life == partition.leader_life);
        !lives_on
            || !self.is_alive(now, leader)
            || self.is_leaving(leader) && partition.isr.iter().any(|node| self.can_lead(now, *node))
            || self.wishes.contains(&(at, partition.epoch))
    }

    fn is_leaving(&self, node: u32) -> bool {
        self.nodes.get(&node).is_some_and(|heard| heard.is_leaving)
    }

    fn can_lead(&self, now: Duration, node: u32) -> bool {
        self.is_alive(now, node) && !self.is_leaving(node)
    }

    /// Whether another replica leads although the preferred one could, and has been able to for a while.
    fn is_to_return(&self, now: Duration, image: &ClusterImage, partition: &PartitionImage) -> bool {
        let preferred = partition.replicas[0].node;
        let is_settled = self.nodes.get(&preferred).is_some_and(|heard| {
            now.saturating_sub(heard.since) >= SETTLED_AFTER
                && image.nodes.get(&preferred).is_some_and(|node| node.life == heard.life)
        });
        partition.leader != preferred
            && partition.isr.contains(&preferred)
            && partition.isr.len() == partition.replicas.len()
            && self.can_lead(now, preferred)
            && is_settled
    }

    fn end(
        &mut self,
        now: Duration,
        at: TopicPartition,
        partition: &PartitionImage,
        epoch: Epoch,
    ) -> Option<Elected> {
        let gathered = self.elections.entry(at).or_insert_with(|| Gathered::new(epoch.get(), now));
        if gathered.epoch < epoch.get() {
            *gathered = Gathered::new(epoch.get(), now);
        }
        let gathered = self.elections.get(&at).filter(|gathered| gathered.epoch == epoch.get())?;
        let hands_over = self.hand_overs.contains(&(at, epoch.get()));
        let yields = |node: u32| self.is_leaving(node) || hands_over && node == partition.leader;
        let alive = partition.isr.iter().filter(|node| self.is_alive(now, **node));
        let all_answered = alive.clone().all(|node| gathered.answers.contains_key(node));
        let all_stayers_answered =
            alive.filter(|node| !yields(**node)).all(|node| gathered.answers.contains_key(node));
        let is_patient = now.saturating_sub(gathered.since) < PATIENCE;
        if !all_stayers_answered && is_patient {
            return None;
        }
        let stayers = gathered.answers.iter().filter(|(node, _)| !yields(**node));
        if let Some(elected) = elect(at, partition, epoch, stayers.map(|(node, answer)| (*node, *answer))) {
            return Some(elected);
        }
        if !all_answered && is_patient {
            return None;
        }
        elect(at, partition, epoch, gathered.answers.iter().map(|(node, answer)| (*node, *answer)))
    }

    /// Drops what is said of partitions and epochs that are gone.
    fn forget(&mut self, image: &ClusterImage) {
        let newest = |at: &TopicPartition| {
            let topic = image.topic_by_id(at.topic)?;
            topic.partition(at.partition).map(|partition| partition.newest_epoch().get())
        };
        self.elections.retain(|at, _| newest(at).is_some());
        self.wishes.retain(|(at, epoch)| newest(at).is_some_and(|newest| newest <= *epoch));
        self.hand_overs.retain(|(at, epoch)| newest(at).is_some_and(|newest| newest <= *epoch));
        self.nodes.retain(|node, _| image.nodes.contains_key(node));
    }
}

impl Gathered {
    fn new(epoch: i32, since: Duration) -> Self {
        Gathered { epoch, since, answers: BTreeMap::new() }
    }
}

/// Ends an election with these answers if they are enough. Among equals the preferred replica wins.
fn elect(
    at: TopicPartition,
    partition: &PartitionImage,
    epoch: Epoch,
    answers: impl Iterator<Item = (u32, SealAnswer)>,
) -> Option<Elected> {
    let answers: BTreeMap<u32, SealAnswer> =
        answers.filter(|(node, _)| partition.isr.contains(node)).collect();
    let mut leadership = partition.leadership();
    for (node, answer) in &answers {
        leadership.answer(NodeId::new(*node), epoch, *answer);
    }
    let is_lossy = leadership.elect().is_err();
    if is_lossy {
        leadership.elect_lossy().ok()?;
    }
    let (winner, life) = leadership.grant().primary?;
    let (mut leader, mut life) = (winner.get(), life.0);
    let preferred = partition.replicas[0].node;
    if let (Some(best), Some(own)) = (answers.get(&leader), answers.get(&preferred))
        && !is_lossy
        && !own.forgot
        && (own.accepted, own.end) == (best.accepted, best.end)
    {
        (leader, life) = (preferred, own.life.0);
    }
    Some(Elected {
        topic: at.topic,
        partition: at.partition.get(),
        epoch: epoch.get(),
        leader,
        life,
        is_lossy,
    })
}

/// The nodes that were heard lately, for whoever shows them.
impl Controller {
    /// Every node that counts as alive.
    pub fn alive(&self, now: Duration, image: &ClusterImage) -> BTreeSet<u32> {
        image.nodes.keys().copied().filter(|node| self.is_alive(now, *node)).collect()
    }
}
