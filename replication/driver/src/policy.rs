//! What the clock alone makes due: saying again what may be lost, and who is to be in the in-sync set.

use std::ops::Bound;
use std::time::Duration;

use heddle_log_store::Disk;
use heddle_proto::ids::{NodeId, TopicPartition};
use heddle_replication::io::Input;

use crate::connection::Peer;
use crate::driver::Driver;
use crate::hosted::Watch;

/// A replica that holds within this time what was written before is near enough to be in sync. Where the primary alone
/// commits, one that is written all the time is always ahead by what is on its way.
const NEAR: Duration = Duration::from_millis(500);

/// All partitions are looked at once in so many ticks: within a second or two.
const TICKS_OF_A_SWEEP: usize = 40;

impl<D: Disk> Driver<D> {
    /// To be called every 50 ms or so. Looks at the partitions that wait for something, and at some of all others, so that
    /// those that nobody uses cost little.
    pub fn tick(&mut self, now: Duration) {
        self.reconnect_stuck(now);
        let restless = std::mem::take(&mut self.restless);
        let swept = self.next_swept();
        for partition in restless.into_iter().chain(swept) {
            let Some(hosted) = self.hosted.get_mut(&partition) else { continue };
            hosted.is_restless = true; // what happens to it now is seen to below
            self.resend(now, partition);
            self.keep_in_sync(now, partition);
            self.look_for_damage(partition);
            let Some(hosted) = self.hosted.get_mut(&partition) else { continue };
            hosted.is_restless = !hosted.is_at_rest(self.me);
            if hosted.is_restless {
                self.restless.push(partition);
            }
        }
    }

    /// Partitions at rest whose turn it is; none twice before all others were.
    pub(crate) fn next_swept(&mut self) -> Vec<TopicPartition> {
        let count = self.hosted.len().div_ceil(TICKS_OF_A_SWEEP);
        let after = self.swept.map_or(Bound::Unbounded, Bound::Excluded);
        let turn: Vec<(TopicPartition, bool)> = self
            .hosted
            .range((after, Bound::Unbounded))
            .take(count)
            .map(|(partition, hosted)| (*partition, hosted.is_restless))
            .collect();
        let last = turn.last().map(|(last, _)| *last);
        let is_followed = |last: &TopicPartition| {
            self.hosted.range((Bound::Excluded(*last), Bound::Unbounded)).next().is_some()
        };
        self.swept = last.filter(is_followed);
        turn.into_iter().filter(|(_, is_restless)| !is_restless).map(|(partition, _)| partition).collect()
    }

    fn reconnect_stuck(&mut self, now: Duration) {
        let after = self.options.stuck_after;
        let stuck: Vec<Peer> = self
            .connections
            .iter_mut()
            .filter_map(|(peer, connection)| connection.is_stuck(now, after).then_some(*peer))
            .collect();
        for peer in stuck {
            self.connected(now, peer);
        }
    }

    /// The connection to a peer has been made anew: whatever was under way is said again.
    pub fn connected(&mut self, now: Duration, peer: Peer) {
        let number = self.next_connection_number();
        self.connection(now, peer).reconnect(number, now);
        for partition in self.partitions() {
            if self.hosted.get(&partition).is_some_and(|hosted| hosted.peer(peer.node) == Some(peer)) {
                self.take(now, partition, Input::Resend(peer.node), &[]);
            }
        }
    }

    /// What a peer does not answer may be lost: it may not have known yet what role its replica has, or have had no room.
    fn resend(&mut self, now: Duration, partition: TopicPartition) {
        let after = self.options.resend_after;
        let Some(hosted) = self.hosted.get_mut(&partition) else { return };
        if now.saturating_sub(hosted.resent_at) < hosted.resend_pause(after) {
            return;
        }
        hosted.resent_at = now;
        let behind = hosted.awaited(self.me);
        let mut is_said = false;
        for peer in behind {
            let known = self.hosted.get(&partition).and_then(|hosted| hosted.peer(peer));
            let connection = known.and_then(|peer| self.connections.get(&peer));
            if connection.is_none_or(|connection| connection.outbound.is_quiet(partition)) {
                self.take(now, partition, Input::Resend(peer), &[]);
                is_said = true;
            }
        }
        if let Some(hosted) = self.hosted.get_mut(&partition).filter(|_| is_said) {
            hosted.resend_count += 1;
        }
    }

    /// Who has just acknowledged may be as far as what is committed, if only for a moment: then it can come back.
    pub(crate) fn welcome_back(&mut self, now: Duration, partition: TopicPartition, peer: NodeId) {
        let comes_back = self.hosted.get(&partition).is_some_and(|hosted| {
            let primary = hosted.replica.primary().filter(|primary| !primary.members().contains(&peer));
            hosted.replicas.contains(&peer)
                && primary.is_some_and(|primary| primary.held(peer) >= Some(hosted.replica.committed()))
        });
        if comes_back {
            self.take(now, partition, Input::Grow(peer), &[]);
        }
    }

    /// Who has not caught up for long leaves the in-sync set; who has caught up comes back. With that the commit quorum
    /// becomes what it is to be.
    fn keep_in_sync(&mut self, now: Duration, partition: TopicPartition) {
        let (me, lag_max) = (self.me, self.options.lag_max);
        let Some(hosted) = self.hosted.get_mut(&partition) else { return };
        let Some(primary) = hosted.replica.primary() else {
            hosted.watches.clear();
            return;
        };
        let end = hosted.replica.log().written;
        let mut wishes = Vec::new();
        for peer in hosted.replicas.iter().copied().filter(|peer| *peer != me) {
            let watch = hosted.watches.entry(peer).or_insert(Watch { mark: end, caught_at: now });
            let held = primary.held(peer);
            let mut is_near = false;
            if held.is_some_and(|held| held >= watch.mark) {
                is_near = now.saturating_sub(watch.caught_at) <= NEAR;
                *watch = Watch { mark: end, caught_at: now };
            }
            let is_member = primary.members().contains(&peer);
            // Who came back with little, as with a new disk, has long to go: it counts for no commit and must not lead meanwhile.
            let is_filling = primary
                .filling(peer)
                .is_some_and(|written| hosted.replica.is_far_behind(written, hosted.replica.committed()));
            let patience = if is_filling { NEAR } else { lag_max };
            if is_member && now.saturating_sub(watch.caught_at) >= patience {
                wishes.push(Input::Shrink(peer));
            } else if held.is_some() && (!is_member && is_near || primary.is_changing()) {
                wishes.push(Input::Grow(peer));
            }
        }
        // Who is to have no replica here any more leaves when the others have come.
        let leaving = primary.members().iter().find(|peer| **peer != me && !hosted.replicas.contains(*peer));
        let all_came = hosted.replicas.iter().all(|peer| primary.members().contains(peer));
        wishes.extend(leaving.filter(|_| all_came).map(|peer| Input::Shrink(*peer)));
        let required = hosted.required.filter(|required| *required != primary.quorum());
        wishes.extend(required.map(Input::Require));
        for wish in wishes {
            self.take(now, partition, wish, &[]);
        }
    }
}
