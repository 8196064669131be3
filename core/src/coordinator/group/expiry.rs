//! The regular search for what is past its retention: offsets, groups without any, producers.

use std::{ops::Bound, time::Duration};

use super::{coordinator::GroupCoordinator, deadlines::Timer, effects::Output, ids::GroupId};

/// Most records that one search writes before it lets requests pass: about 100 KiB.
pub const RECORDS_MAX: usize = 1_000;

impl GroupCoordinator {
    /// Looks at groups from where the last search stopped, and goes on at once when there was too much to do.
    pub(super) fn expire(&mut self, output: &mut Output) {
        let start = self.expiry_cursor.take().map_or(Bound::Unbounded, Bound::Included);
        let ids: Vec<GroupId> =
            self.groups.range((start, Bound::Unbounded)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            let room = RECORDS_MAX.saturating_sub(output.record_count());
            let is_over = self.with_group(&id, output, |group, cx| {
                let expired_count = group.expire_offsets(cx, room);
                let is_over = expired_count < room && group.is_forgettable();
                if is_over {
                    group.delete(cx);
                }
                is_over
            });
            if is_over == Some(true) {
                self.groups.remove(&id);
            }
            if output.record_count() >= RECORDS_MAX {
                self.expiry_cursor = Some(id);
                self.deadlines.schedule(Timer::ExpireOffsets, self.now);
                return;
            }
        }
        self.expire_producers(output, RECORDS_MAX);
        let next = self.config.offsets_check_interval.max(Duration::from_millis(1));
        self.deadlines.schedule(Timer::ExpireOffsets, self.now.plus(next));
    }
}
