//! Decides who leads what: a pure state machine, run by whoever leads the metadata and made anew with each term.
//!
//! It hears who lives and who has sealed, sees the newest image, and gives commands. Nothing in it is durable: an election
//! that its predecessor began goes on with the answers that are sent again. Its rules are those of
//! [`heddle_replication::leadership`]; what is left to it is when, and among equals whom.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ahash::{AHashMap, AHashSet};
use heddle_proto::ids::{Epoch, NodeId, Offset, PartitionIndex, TopicPartition};
use heddle_replication::leadership::SealAnswer;

use super::{drain, fill, message::Tell};
use crate::metadata::{
    ClusterImage, Command, PartitionImage,
    elections::{Elected, Election},
    reassign::Finished,
};

/// How often a node says that it lives.
pub const HEARTBEAT: Duration = Duration::from_millis(100);

/// Who was not heard for so long counts as dead: several heartbeats, and half of what a failover may take.
pub const DEAD_AFTER: Duration = Duration::from_millis(600);

/// How long an election waits for those that seem to live, once enough have answered.
const PATIENCE: Duration = Duration::from_millis(300);

/// How long the preferred leader must have been in sync and alive before it is given its partitions back, and a node that came
/// alive before it is given its share.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// How long a leader that is to give a partition up is left alone after that has failed.
const YIELDS_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How often nodes that are drained or filled are looked at.
const MOVES_EVERY: Duration = Duration::from_secs(1);

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
    /// When leaders were last asked to give up what others are to lead.
    yielded: AHashMap<TopicPartition, Duration>,
    moved_at: Duration,
    fills: bool,
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
            yielded: AHashMap::new(),
            moved_at: now,
            fills: true,
        }
    }

    /// Whether it gives nodes that came their share. It does, unless told otherwise.
    #[must_use]
    pub fn filling(mut self, fills: bool) -> Self {
        self.fills = fills;
        self
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
        let (mut begin, mut end, mut finished) = (Vec::new(), Vec::new(), Vec::new());
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
                    end.extend(self.end(now, image, at, partition, epoch));
                    continue;
                }
                // Looking into an empty table is free, taking out of it is not.
                if !self.elections.is_empty() {
                    self.elections.remove(&at);
                }
                let mut is_due = self.needs_election(now, image, at, partition);
                if !self.yielded.is_empty() && !yields(image, partition, partition.leader) {
                    self.yielded.remove(&at);
                }
                if !is_due && self.is_to_yield(now, image, at, partition) {
                    self.yielded.insert(at, now);
                    is_due = true;
                } else if !is_due && partition.has_moved() && !partition.must_yield(partition.leader) {
                    let target = partition.target.iter().map(|replica| replica.node).collect();
                    finished.push(Finished { topic: topic.id, partition: index as u32, target });
                }
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
        if !finished.is_empty() {
            commands.push(Command::FinishReassign { finished });
        }
        commands.extend(self.next_moves(now, image));
        commands
    }

    /// What is to move away from nodes that are drained; when nothing is, to nodes that came.
    fn next_moves(&mut self, now: Duration, image: &ClusterImage) -> Option<Command> {
        let is_due = !image.draining.is_empty() || self.fills && !image.filling.is_empty();
        if !is_due || now.saturating_sub(self.moved_at) < MOVES_EVERY {
            return None;
        }
        self.moved_at = now;
        let is_alive = |node| self.is_alive(now, node);
        let drained = drain::next_moves(image, is_alive);
        if drained.is_some() || !self.fills {
            return drained;
        }
        fill::next(image, is_alive, |node| self.has_settled(now, image, node))
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

    /// Whether the leader is one that is to lead no more, and another can.
    fn is_to_yield(
        &self,
        now: Duration,
        image: &ClusterImage,
        at: TopicPartition,
        partition: &PartitionImage,
    ) -> bool {
        let yields = |node: u32| yields(image, partition, node);
        // Who is only drained leads rather than who has to go: otherwise a move would wait for the end of the drain.
        let goes = |node: u32| partition.must_yield(node);
        let others = || partition.isr.iter().copied().filter(|node| self.can_lead(now, *node));
        (yields(partition.leader) && others().any(|node| !yields(node))
            || goes(partition.leader) && others().any(|node| !goes(node)))
            && self.yielded.get(&at).is_none_or(|tried| now.saturating_sub(*tried) >= YIELDS_AGAIN_AFTER)
    }

    fn is_leaving(&self, node: u32) -> bool {
        self.nodes.get(&node).is_some_and(|heard| heard.is_leaving)
    }

    fn can_lead(&self, now: Duration, node: u32) -> bool {
        self.is_alive(now, node) && !self.is_leaving(node)
    }

    /// Whether another replica leads although the preferred one could, and has been able to for a while.
    fn is_to_return(&self, now: Duration, image: &ClusterImage, partition: &PartitionImage) -> bool {
        let preferred = partition.wanted()[0].node;
        partition.leader != preferred
            && partition.isr.contains(&preferred)
            && !yields(image, partition, preferred)
            && partition.isr.len() == partition.replicas.len()
            && self.can_lead(now, preferred)
            && self.has_settled(now, image, preferred)
    }

    /// Whether a node has lived for a while, in the life that the metadata knows.
    fn has_settled(&self, now: Duration, image: &ClusterImage, node: u32) -> bool {
        self.is_alive(now, node)
            && self.nodes.get(&node).is_some_and(|heard| {
                now.saturating_sub(heard.since) >= SETTLED_AFTER
                    && image.nodes.get(&node).is_some_and(|node| node.life == heard.life)
            })
    }

    fn end(
        &mut self,
        now: Duration,
        image: &ClusterImage,
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
        let yields = |node: u32| {
            self.is_leaving(node) || hands_over && node == partition.leader || yields(image, partition, node)
        };
        let alive = partition.isr.iter().filter(|node| self.is_alive(now, **node));
        let all_answered = alive.clone().all(|node| gathered.answers.contains_key(node));
        let all_stayers_answered =
            alive.filter(|node| !yields(**node)).all(|node| gathered.answers.contains_key(node));
        let is_patient = now.saturating_sub(gathered.since) < PATIENCE;
        if !all_stayers_answered && is_patient {
            return None;
        }
        let preferred = partition.wanted()[0].node;
        let is_not_preferred = |node: u32| node != preferred || yields(node);
        let by_preference = hands_over
            .then(|| elect_stayer(at, partition, epoch, &gathered.answers, is_not_preferred))
            .flatten();
        let goes = |node: u32| self.is_leaving(node) || partition.must_yield(node);
        let elected = by_preference
            .or_else(|| elect_stayer(at, partition, epoch, &gathered.answers, yields))
            .or_else(|| elect_stayer(at, partition, epoch, &gathered.answers, goes));
        if elected.is_some() {
            return elected;
        }
        if !all_answered && is_patient {
            return None;
        }
        elect(at, partition, epoch, &gathered.answers)
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
        self.yielded.retain(|at, _| newest(at).is_some());
        self.nodes.retain(|node, _| image.nodes.contains_key(node));
    }
}

impl Gathered {
    fn new(epoch: i32, since: Duration) -> Self {
        Gathered { epoch, since, answers: BTreeMap::new() }
    }
}

/// Whether a node is to lead a partition no more, as far as the metadata says.
fn yields(image: &ClusterImage, partition: &PartitionImage, node: u32) -> bool {
    image.draining.contains(&node) || partition.must_yield(node)
}

/// Ends an election with one of those that do not yield as the winner, if that loses nothing: to be the best of enough
/// answers is enough, whatever else was answered.
fn elect_stayer(
    at: TopicPartition,
    partition: &PartitionImage,
    epoch: Epoch,
    answers: &BTreeMap<u32, SealAnswer>,
    yields: impl Fn(u32) -> bool,
) -> Option<Elected> {
    let stays = |node: &u32| !yields(*node) && partition.isr.contains(node);
    let stayers = answers.iter().filter(|(node, answer)| stays(node) && !answer.forgot);
    let preferred = partition.wanted()[0].node;
    let (leader, best) =
        stayers.max_by_key(|(node, answer)| (rank(answer), **node == preferred, Reverse(**node)))?;
    let mut leadership = partition.leadership();
    for (node, answer) in answers.iter().filter(|(_, answer)| rank(answer) <= rank(best)) {
        leadership.answer(NodeId::new(*node), epoch, *answer);
    }
    leadership.elect().ok()?;
    Some(elected(at, epoch, (*leader, best.life.0), false))
}

/// Ends an election with these answers if they are enough. Among equals the preferred replica wins.
fn elect(
    at: TopicPartition,
    partition: &PartitionImage,
    epoch: Epoch,
    answers: &BTreeMap<u32, SealAnswer>,
) -> Option<Elected> {
    if let Some(elected) = elect_stayer(at, partition, epoch, answers, |_| false) {
        return Some(elected);
    }
    let mut leadership = partition.leadership();
    for (node, answer) in answers {
        leadership.answer(NodeId::new(*node), epoch, *answer);
    }
    leadership.elect_lossy().ok()?;
    let (winner, life) = leadership.grant().primary?;
    Some(elected(at, epoch, (winner.get(), life.0), true))
}

/// How much a log has.
fn rank(answer: &SealAnswer) -> (Epoch, Offset) {
    (answer.accepted, answer.end)
}

fn elected(at: TopicPartition, epoch: Epoch, (leader, life): (u32, u32), is_lossy: bool) -> Elected {
    let (topic, partition) = (at.topic, at.partition.get());
    Elected { topic, partition, epoch: epoch.get(), leader, life, is_lossy }
}

/// The nodes that were heard lately, for whoever shows them.
impl Controller {
    /// Every node that counts as alive.
    pub fn alive(&self, now: Duration, image: &ClusterImage) -> BTreeSet<u32> {
        image.nodes.keys().copied().filter(|node| self.is_alive(now, *node)).collect()
    }
}

#[cfg(test)]
#[path = "controller_tests.rs"]
mod tests;
