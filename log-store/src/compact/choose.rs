//! Which log is compacted next: the one with the largest dirty share, or one that may not wait any longer.

use std::rc::Rc;
use std::time::Duration;

use heddle_proto::ids::{Offset, Timestamp};

use super::Progress;
use crate::codec::BLOCK_BYTES;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::log::Log;
use crate::log::inner::LogInner;
use crate::segment::SegmentRef;
use crate::segment::drain_header::DrainHeader;
use crate::store::shared::Store;
use crate::types::Compaction;

/// A log to compact, and up to where.
pub(crate) struct Chosen {
    pub(crate) log: Rc<LogInner>,
    pub(crate) rules: Compaction,
    /// End of the last closed segment that may be touched.
    pub(crate) upto: Offset,
}

/// What speaks for compacting a log now.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Need {
    /// A record waits for longer than `max.compaction.lag.ms`.
    is_overdue: bool,
    /// Share of dirty bytes, in thousandths.
    dirty_permille: u64,
    /// Tombstones may go.
    has_due_tombstones: bool,
}

impl Need {
    fn is_enough(self, rules: &Compaction) -> bool {
        let is_dirty = self.dirty_permille > 0 && self.dirty_permille >= u64::from(rules.dirty_permille_min);
        is_dirty || self.is_overdue || self.has_due_tombstones
    }
}

impl<D: Disk> Store<D> {
    /// Looks at every compacted log of the core.
    pub(crate) async fn choose_compaction(self: &Rc<Self>) -> Option<Chosen> {
        let logs: Vec<Rc<LogInner>> = self.logs.borrow().values().cloned().collect();
        let mut best: Option<(Need, Chosen)> = None;
        for log in logs {
            let Some(rules) = log.config().compaction else { continue };
            if !self.may_compact(&log) {
                continue;
            }
            let Some((need, upto)) = self.assess(&log, &rules).await else { continue };
            if need.is_enough(&rules) && best.as_ref().is_none_or(|(known, _)| *known < need) {
                best = Some((need, Chosen { log, rules, upto }));
            }
        }
        best.map(|(_, chosen)| chosen)
    }

    fn may_compact(&self, log: &LogInner) -> bool {
        let waits = log.compaction.get().is_some_and(|known| self.disk.now() < known.not_before);
        !log.deleted.get() && log.damage_offset().is_none() && !waits && log.segments.borrow().len() > 0
    }

    /// Measures the log, and notes what was measured.
    async fn assess(self: &Rc<Self>, log: &Rc<LogInner>, rules: &Compaction) -> Option<(Need, Offset)> {
        let known = self.learn_progress(log).await;
        let segments = self.touchable(log, rules).await;
        let upto = segments.last()?.end;
        let (clean, dirty): (Vec<&SegmentRef>, Vec<&SegmentRef>) =
            segments.iter().partition(|segment| segment.end <= known.clean_upto);
        let bytes = |segments: &[&SegmentRef]| segments.iter().map(|segment| segment.data_bytes).sum();
        let measured = Progress { clean_bytes: bytes(&clean), dirty_bytes: bytes(&dirty), ..known };
        log.compaction.set(Some(measured));
        let now = self.disk.wall();
        let is_due = |segment: &&SegmentRef| segment.tombstones_due.is_some_and(|due| due <= now);
        let need = Need {
            is_overdue: match (dirty.first(), rules.lag_max) {
                (Some(first), Some(lag)) => self.is_older(log, first.base, before(now, lag)).await,
                _ => false,
            },
            dirty_permille: measured.dirty_permille(),
            has_due_tombstones: clean.iter().any(is_due),
        };
        Some((need, upto))
    }

    /// The closed segments that compaction may touch: committed, below what any open transaction began, and old enough.
    async fn touchable(self: &Rc<Self>, log: &Rc<LogInner>, rules: &Compaction) -> Vec<SegmentRef> {
        let upto = self.hooks.compact_upto(log.id).min(log.positions().durable).min(log.drained());
        let mut segments = log.closed_segments(upto);
        if rules.lag_min.is_zero() {
            return segments;
        }
        let handle = Log { store: self.clone(), inner: log.clone() };
        let kept = before(self.disk.wall(), rules.lag_min);
        for index in 0..segments.len() {
            let newest = handle.newest_in(segments[index].base).await;
            if newest.map_or(true, |newest| newest > kept) {
                segments.truncate(index);
                break;
            }
        }
        segments
    }

    async fn is_older(self: &Rc<Self>, log: &Rc<LogInner>, base: Offset, limit: Timestamp) -> bool {
        let handle = Log { store: self.clone(), inner: log.clone() };
        let first = handle.first_timestamp_in(base).await;
        first.is_ok_and(|first| first.is_some_and(|first| first < limit))
    }

    /// How far the log is compacted. After a restart the segments themselves are asked.
    async fn learn_progress(&self, log: &Rc<LogInner>) -> Progress {
        if let Some(known) = log.compaction.get() {
            return known;
        }
        let mut clean_upto = Offset::ZERO;
        for segment in log.closed_segments(log.drained()) {
            let upto = self.compacted_upto(log, segment).await;
            clean_upto = segment.base.max(upto).min(segment.end);
            if upto < segment.end {
                break;
            }
        }
        let learnt = Progress { clean_upto, clean_bytes: 0, dirty_bytes: 0, not_before: Duration::ZERO };
        log.compaction.set(Some(learnt));
        learnt
    }

    /// Up to where the newest record of each key was known when a segment was written; zero if it was not compacted, or
    /// cannot be read.
    pub(crate) async fn compacted_upto(&self, log: &LogInner, segment: SegmentRef) -> Offset {
        let path = self.segment_path(log, segment.base);
        let mode = OpenMode::EXISTING.dsync(self.options.segment_dsync);
        let key = (log.id, segment.base, segment.version);
        let Ok(file) = self.segment_files.get(&self.disk, key, &path, mode).await else {
            return Offset::ZERO;
        };
        let mut block = [0; BLOCK_BYTES];
        let read = file.read_at(0, &mut block).await;
        let header = DrainHeader::decode(&block).filter(|_| read.is_ok());
        header.map_or(Offset::ZERO, |header| header.compacted_upto)
    }
}

fn before(now: Timestamp, age: Duration) -> Timestamp {
    let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    Timestamp::new(now.get().saturating_sub(age_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_overdue_goes_before_what_is_dirty() {
        let need = |is_overdue, dirty_permille, has_due_tombstones| Need {
            is_overdue,
            dirty_permille,
            has_due_tombstones,
        };
        let rules = Compaction { dirty_permille_min: 500, lag_min: Duration::ZERO, ..Compaction::default() };
        assert!(!need(false, 499, false).is_enough(&rules));
        assert!(need(false, 500, false).is_enough(&rules));
        assert!(need(true, 1, false).is_enough(&rules) && need(false, 0, true).is_enough(&rules));
        assert!(need(true, 0, false) > need(false, 1000, true));
        assert!(need(false, 600, false) > need(false, 500, true));
        let eager = Compaction { dirty_permille_min: 0, ..rules };
        assert!(!need(false, 0, false).is_enough(&eager), "nothing is dirty");
    }
}
