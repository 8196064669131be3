//! One run over one log: passes of mapping the newest records and writing the segments anew.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use heddle_proto::batch::{self, BatchHeader, Compression};
use heddle_proto::ids::{Epoch, Offset};
use heddle_proto::limits::DECOMPRESSED_BYTES_MAX;

use super::choose::Chosen;
use super::filter::{Filter, Verdict};
use super::offset_map::OffsetMap;
use super::plan;
use super::transactions::Transactions;
use super::writer::{Made, SegmentWriter};
use crate::disk::Disk;
use crate::error::StorageError;
use crate::log::inner::LogInner;
use crate::segment::SegmentRef;
use crate::segment::reader::{BatchReader, Pace, Stop};
use crate::store::shared::Store;
use crate::store::stats::add;
use crate::types::Compaction;

/// How long a log is left alone after a run that the disk did not allow.
const POSTPONED: Duration = Duration::from_secs(60);

struct Run<'a, D: Disk> {
    store: &'a Rc<Store<D>>,
    log: &'a Rc<LogInner>,
    rules: Compaction,
    /// No record at or behind it is judged.
    upto: Offset,
    /// How often the log had been cut when the run began.
    cut_count: u32,
    /// Known from the first transactional batch on.
    transactions: Option<Transactions>,
}

impl<D: Disk> Store<D> {
    /// Compacts the log that needs it most. Returns whether another one may be looked at right away.
    ///
    /// # Errors
    /// If the disk fails to take or keep what is written.
    pub(crate) async fn compact(self: &Rc<Self>) -> Result<bool, StorageError> {
        let Some(chosen) = self.choose_compaction().await else { return Ok(false) };
        let (begun, cut_count) = (self.disk.now(), chosen.log.cut_count.get());
        self.compaction.running.set(true);
        let outcome = Run::new(self, &chosen).run().await;
        let took = self.disk.now().saturating_sub(begun);
        self.compaction.running.set(false);
        self.compaction.took.set(took);
        self.compaction.ended_at.set(u64::try_from(self.disk.wall().get() / 1000).unwrap_or(0));
        add(&self.counters.compactions, 1);
        let log = &chosen.log;
        match outcome {
            Ok(true) => {
                tracing::debug!(partition = %log.partition, took_ms = took.as_millis() as u64, "compacted");
                return Ok(true);
            }
            // An open transaction is in the way.
            Ok(false) => self.postpone(log),
            // What it read was being taken back.
            Err(_) if log.cut_count.get() != cut_count => {}
            // Its directory goes while something is made in it.
            Err(Stop::Gone) => {}
            Err(Stop::Storage(_)) if log.deleted.get() => {}
            Err(Stop::Storage(error)) => return Err(error),
            Err(Stop::Damaged(damage)) => self.note_damage(log, damage),
            Err(Stop::Unreadable(error)) => {
                tracing::warn!(partition = %log.partition, %error, "compaction could not read a segment");
                self.postpone(log);
            }
            Err(Stop::NoSpace) => {
                tracing::warn!(partition = %log.partition, "too little space to compact");
                add(&self.counters.compactions_without_space, 1);
                self.check_free();
                self.postpone(log);
            }
        }
        Ok(false)
    }

    fn postpone(&self, log: &LogInner) {
        if let Some(known) = log.compaction.get() {
            let not_before = self.disk.now() + POSTPONED;
            log.compaction.set(Some(super::Progress { not_before, ..known }));
        }
    }
}

impl<'a, D: Disk> Run<'a, D> {
    fn new(store: &'a Rc<Store<D>>, chosen: &'a Chosen) -> Self {
        let (log, cut_count) = (&chosen.log, chosen.log.cut_count.get());
        Self { store, log, rules: chosen.rules, upto: chosen.upto, cut_count, transactions: None }
    }

    /// Returns whether anything changed.
    async fn run(mut self) -> Result<bool, Stop> {
        self.settle(self.upto).await?;
        let mut changed = false;
        loop {
            let from = self.clean_upto().min(self.upto);
            let map = self.build_map(from).await?;
            if map.end() == from {
                return Ok(self.expire(&map).await? || changed);
            }
            self.rewrite(&map).await?;
            self.set_clean_upto(map.end());
            add(&self.store.counters.compaction_passes, 1);
            changed = true;
            if map.end() >= self.upto {
                return Ok(true);
            }
        }
    }

    fn pace(&self) -> Pace<'a> {
        Pace { pacer: &self.store.compaction_pacer, read_bytes: &self.store.counters.compaction_read_bytes }
    }

    fn clean_upto(&self) -> Offset {
        self.log.compaction.get().map_or(Offset::ZERO, |known| known.clean_upto)
    }

    fn set_clean_upto(&self, clean_upto: Offset) {
        if let Some(known) = self.log.compaction.get() {
            self.log.compaction.set(Some(super::Progress { clean_upto, ..known }));
        }
    }

    /// A start looks at the segment that the newest state record names, at a position in it: no such segment may change.
    async fn settle(&self, upto: Offset) -> Result<(), Stop> {
        loop {
            let progress = self.log.progress.listen();
            self.check_wanted()?;
            if self.log.durable_state.get().segment_base >= upto {
                return Ok(());
            }
            if !self.log.state_due.get() {
                self.store.request_state(self.log);
            }
            progress.await;
        }
    }

    fn check_wanted(&self) -> Result<(), Stop> {
        let is_cut = self.log.cut_count.get() != self.cut_count;
        let is_wanted = !self.log.deleted.get() && !is_cut && self.log.config().compaction.is_some();
        if is_wanted { Ok(()) } else { Err(Stop::Gone) }
    }

    /// Closed segments that begin below `upto`.
    fn segments(&self, upto: Offset) -> Vec<SegmentRef> {
        let mut segments = self.log.closed_segments(self.log.drained());
        segments.retain(|segment| segment.base < upto);
        segments
    }

    /// Where the newest record of each key is, from `from` on as far as the memory goes.
    async fn build_map(&mut self, from: Offset) -> Result<OffsetMap, Stop> {
        let mut segments = self.segments(self.upto);
        segments.retain(|segment| segment.end > from);
        let dirty_bytes: u64 = segments.iter().map(|segment| segment.data_bytes).sum();
        let bytes_max = self.store.options.compaction_map_bytes_max;
        let mut map = OffsetMap::new(bytes_max.min(usize::try_from(dirty_bytes).unwrap_or(bytes_max)), from);
        for segment in segments {
            self.check_wanted()?;
            let mut reader = BatchReader::open(self.store, self.log, segment, self.pace()).await?;
            while let Some((header, bytes)) = reader.next().await? {
                if header.next_offset() <= from {
                    continue;
                }
                if header.is_transactional() && self.transactions.is_none() {
                    self.scan_transactions(from).await?;
                }
                if header.base_offset >= self.upto || !self.map_batch(&mut map, from, &header, &bytes) {
                    return Ok(map);
                }
                if header.compression() != Compression::None {
                    futures_lite::future::yield_now().await; // unpacking took its time
                }
            }
        }
        Ok(map)
    }

    /// Notes the keys of one batch; `false` when the map is full.
    fn map_batch(&self, map: &mut OffsetMap, from: Offset, header: &BatchHeader, bytes: &Bytes) -> bool {
        let is_aborted = header.is_transactional()
            && self.transactions.as_ref().is_some_and(|known| known.is_aborted(header));
        let mut full_at = None;
        if !header.is_control() && header.record_count > 0 && !is_aborted {
            // Records behind one that cannot be read are not seen, and their batch is left as it is.
            let _ = batch::for_each_record(bytes, DECOMPRESSED_BYTES_MAX, |record| {
                let is_new = full_at.is_none() && record.offset >= from && record.offset < self.upto;
                if let Some(key) = record.key.filter(|_| is_new)
                    && !map.put(key, record.offset)
                {
                    full_at = Some(record.offset);
                }
            });
        }
        map.set_end(full_at.unwrap_or(header.next_offset().min(self.upto)));
        full_at.is_none()
    }

    /// Learns which transactions were aborted. What nothing in the closed segments decides is not touched.
    async fn scan_transactions(&mut self, from: Offset) -> Result<(), Stop> {
        let mut transactions = Transactions::default();
        let mut segments = self.segments(self.log.drained());
        segments.retain(|segment| segment.end > from);
        'all: for segment in segments {
            self.check_wanted()?;
            let mut reader = BatchReader::open(self.store, self.log, segment, self.pace()).await?;
            while let Some((header, bytes)) = reader.next().await? {
                transactions.note(&header, &bytes);
                if transactions.memory_bytes() > self.store.options.compaction_map_bytes_max {
                    self.upto = self.upto.min(header.next_offset());
                    break 'all;
                }
            }
        }
        self.upto = transactions.first_open().map_or(self.upto, |open| open.min(self.upto));
        self.transactions = Some(transactions);
        Ok(())
    }

    /// Writes every segment that begins within the map's reach anew.
    async fn rewrite(&self, map: &OffsetMap) -> Result<(), Stop> {
        let none = Transactions::default();
        let transactions = self.transactions.as_ref().unwrap_or(&none);
        let mut filter = self.filter(map, transactions);
        let segments = self.segments(map.end());
        for group in plan::groups(&segments, self.log.config().segment_bytes) {
            if let [only] = group.as_slice()
                && only.end <= self.clean_upto()
                && !self.would_change(*only, &mut filter).await?
            {
                continue;
            }
            self.rewrite_group(&group, &mut filter).await?;
        }
        Ok(())
    }

    /// Removes tombstones whose time has come from segments that are compacted already.
    async fn expire(&self, map: &OffsetMap) -> Result<bool, Stop> {
        let (none, now) = (Transactions::default(), self.store.disk.wall());
        let mut changed = false;
        let mut filter = self.filter(map, &none).without_markers();
        for segment in self.segments(map.end()) {
            if segment.tombstones_due.is_some_and(|due| due <= now) && segment.end <= map.end() {
                self.rewrite_group(&[segment], &mut filter).await?;
                changed = true;
            }
        }
        Ok(changed)
    }

    fn filter<'f>(&self, map: &'f OffsetMap, transactions: &'f Transactions) -> Filter<'f> {
        let retention_ms = i64::try_from(self.rules.tombstone_retention.as_millis()).unwrap_or(i64::MAX);
        Filter::new(map, transactions, self.store.disk.wall(), retention_ms)
    }

    /// Whether anything in a compacted segment would change. Reads no further than to the first such batch; the filter
    /// stands behind the segment only if nothing would.
    async fn would_change(&self, segment: SegmentRef, filter: &mut Filter<'_>) -> Result<bool, Stop> {
        let mut trial = filter.clone();
        let mut reader = BatchReader::open(self.store, self.log, segment, self.pace()).await?;
        while let Some((header, bytes)) = reader.next().await? {
            let verdict = trial.judge(&header, &bytes, || self.is_last(&header));
            if verdict != Verdict::Keep && !header.is_hole() {
                return Ok(true);
            }
        }
        *filter = trial;
        Ok(false)
    }

    fn is_last(&self, header: &BatchHeader) -> bool {
        self.store.hooks.is_last_of_producer(self.log.id, header)
    }

    async fn rewrite_group(&self, group: &[SegmentRef], filter: &mut Filter<'_>) -> Result<(), Stop> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(()) };
        self.check_wanted()?;
        let bytes: u64 = group.iter().map(|segment| segment.data_bytes).sum();
        if !self.store.has_space(bytes) {
            return Err(Stop::NoSpace);
        }
        let upto = filter.reach();
        let writer = SegmentWriter::create(self.store, self.log, first.base, last.end, upto).await?;
        let path = writer.path().clone();
        let made = match self.copy(group, filter, writer).await {
            Ok(made) => made,
            Err(stop) => {
                drop(self.store.disk.remove(&path).await); // at the latest the next start removes it
                return Err(stop);
            }
        };
        self.store.take_place(self.log, group, made).await
    }

    async fn copy(
        &self,
        group: &[SegmentRef],
        filter: &mut Filter<'_>,
        mut writer: SegmentWriter<'_, D>,
    ) -> Result<Made<D::File>, Stop> {
        let (mut epoch, mut end) = (Epoch::new(0), Offset::ZERO);
        for segment in group {
            self.check_wanted()?;
            let mut reader = BatchReader::open(self.store, self.log, *segment, self.pace()).await?;
            while let Some((header, bytes)) = reader.next().await? {
                epoch = header.epoch;
                match filter.judge(&header, &bytes, || self.is_last(&header)) {
                    // A copy, so that one small batch does not keep the whole stretch that was read.
                    Verdict::Keep => writer.push(Bytes::copy_from_slice(&bytes)).await?,
                    Verdict::Drop => self.count_removed(header.record_count),
                    Verdict::Replace(other) => {
                        let left = BatchHeader::parse(&other).map_or(0, |left| left.record_count);
                        self.count_removed(header.record_count.saturating_sub(left));
                        writer.push(other).await?;
                        futures_lite::future::yield_now().await; // packing took its time
                    }
                }
            }
            end = segment.end;
            add(&self.store.counters.compaction_segments, 1);
        }
        writer.finish(end, epoch).await
    }

    fn count_removed(&self, records: u32) {
        add(&self.store.counters.compaction_records_removed, u64::from(records));
    }
}
