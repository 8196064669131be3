//! Writes a compacted segment beside the old ones: drains of what stays, holes where whole batches went.

use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use heddle_proto::batch::{self, BATCH_HEADER_BYTES, BatchHeader};
use heddle_proto::ids::{Epoch, Offset, Timestamp};

use crate::codec::align_up;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{CREATE, IoContext, RESERVE};
use crate::layout;
use crate::log::inner::LogInner;
use crate::segment::drain_header::{DRAIN_HEADER_BYTES, DrainHeader};
use crate::segment::index::{Index, IndexEntry};
use crate::segment::markers::PlacedMarker;
use crate::segment::reader::Stop;
use crate::store::retention::remove_if_there;
use crate::store::shared::Store;
use crate::store::stats::add;

/// A finished file, synced, under its temporary name.
pub(crate) struct Made<F> {
    pub(crate) file: Rc<F>,
    pub(crate) path: PathBuf,
    pub(crate) index: Index,
    pub(crate) tombstones_due: Option<Timestamp>,
}

/// See the module.
pub(crate) struct SegmentWriter<'a, D: Disk> {
    store: &'a Rc<Store<D>>,
    log: &'a LogInner,
    file: Rc<D::File>,
    path: PathBuf,
    base: Offset,
    /// Up to here the newest record of each key was known.
    compacted_upto: Offset,
    /// The offset that comes next.
    next: Offset,
    position: u64,
    allocated_bytes: u64,
    index: Index,
    tombstones_due: Option<Timestamp>,
    begun: Timestamp,
    drain: Drain,
}

/// Batches of one epoch that will be written together.
#[derive(Default)]
struct Drain {
    epoch: Option<Epoch>,
    batches: Vec<(BatchHeader, Bytes)>,
    data_bytes: usize,
}

/// The file grows on disk by so many writes at a time.
const WRITES_RESERVED: u64 = 16;

impl<'a, D: Disk> SegmentWriter<'a, D> {
    /// Begins the file for offsets from `base` up to before `end`.
    pub(crate) async fn create(
        store: &'a Rc<Store<D>>,
        log: &'a LogInner,
        base: Offset,
        end: Offset,
        compacted_upto: Offset,
    ) -> Result<Self, Stop> {
        let path = layout::cleaned_file(&store.partition_dir(log), base, end);
        remove_if_there(&store.disk, &path).await?;
        let file = store.disk.open(&path, OpenMode::NEW).await.context(CREATE, &path)?;
        Ok(Self {
            store,
            log,
            file: Rc::new(file),
            path,
            base,
            compacted_upto,
            next: base,
            position: 0,
            allocated_bytes: 0,
            index: Index::new(base),
            tombstones_due: None,
            begun: store.disk.wall(),
            drain: Drain::default(),
        })
    }

    /// Where the file is, to be removed if it is not finished.
    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Adds a batch that stays; what lies between it and the one before becomes a hole. Keeps the slice handed in.
    pub(crate) async fn push(&mut self, bytes: Bytes) -> Result<(), Stop> {
        let header = BatchHeader::parse(&bytes).expect("it was verified or made by us");
        self.fill_hole(header.base_offset, header.epoch).await?;
        self.append(header, bytes).await
    }

    /// Completes the file up to before `end` and makes it durable.
    pub(crate) async fn finish(mut self, end: Offset, epoch: Epoch) -> Result<Made<D::File>, Stop> {
        self.fill_hole(end, epoch).await?;
        self.flush().await?;
        if self.allocated_bytes > self.position {
            self.file.truncate(self.position).await.context("truncate", &self.path)?;
        }
        self.file.sync().await.context("sync", &self.path)?;
        Ok(Made { file: self.file, path: self.path, index: self.index, tombstones_due: self.tombstones_due })
    }

    async fn fill_hole(&mut self, upto: Offset, epoch: Epoch) -> Result<(), Stop> {
        if self.next == upto {
            return Ok(());
        }
        let bytes = batch::hole(self.next, upto, self.drain.epoch.unwrap_or(epoch)).freeze();
        let header = BatchHeader::parse(&bytes).expect("a hole is a batch");
        self.append(header, bytes).await
    }

    async fn append(&mut self, header: BatchHeader, bytes: Bytes) -> Result<(), Stop> {
        let is_other_epoch = self.drain.epoch.is_some_and(|epoch| epoch != header.epoch);
        let room = self.store.options.compaction_io_bytes - DRAIN_HEADER_BYTES;
        let is_full = self.drain.data_bytes > 0 && self.drain.data_bytes + bytes.len() > room;
        if is_other_epoch || is_full {
            self.flush().await?;
        }
        self.next = header.next_offset();
        // What is due and still there could not be removed; trying again would not help.
        self.tombstones_due =
            self.tombstones_due.max(header.delete_horizon().filter(|due| *due > self.begun));
        self.drain.epoch = Some(header.epoch);
        self.drain.data_bytes += bytes.len();
        self.drain.batches.push((header, bytes));
        Ok(())
    }

    /// Writes what has gathered as one drain.
    async fn flush(&mut self) -> Result<(), Stop> {
        let drain = std::mem::take(&mut self.drain);
        let (Some(epoch), Some((first, _))) = (drain.epoch, drain.batches.first()) else { return Ok(()) };
        let header = DrainHeader {
            position: self.position,
            segment_base: self.base,
            first: first.base_offset,
            next: self.next,
            epoch,
            data_bytes: drain.data_bytes as u32,
            owner: self.log.owner,
            compacted_upto: self.compacted_upto,
        };
        let padded = align_up((DRAIN_HEADER_BYTES + drain.data_bytes) as u64);
        self.reserve(self.position + padded).await?;
        self.note_batches(&drain.batches);
        let pieces = std::iter::once(Bytes::copy_from_slice(&header.encode()))
            .chain(drain.batches.into_iter().map(|(_, bytes)| bytes));
        let range = (self.position, padded);
        self.store.write_pieces(&self.file, range, pieces, &self.path, || false).await?;
        self.position += padded;
        self.index.data_bytes = self.position;
        add(&self.store.counters.compaction_written_bytes, padded);
        self.store.compaction_pacer.pay(padded as usize, &self.store.disk).await;
        Ok(())
    }

    fn note_batches(&mut self, batches: &[(BatchHeader, Bytes)]) {
        let mut at = self.position + DRAIN_HEADER_BYTES as u64;
        for (header, bytes) in batches {
            let entry = IndexEntry {
                offset: header.base_offset,
                position: at,
                epoch: header.epoch,
                // No record has the time of a batch without records.
                max_timestamp: if header.record_count > 0 { header.max_timestamp } else { Timestamp::NONE },
            };
            self.index.add(entry, header.next_offset(), self.store.options.index_interval_bytes);
            self.index.markers.extend(PlacedMarker::of(header, bytes));
            at += bytes.len() as u64;
        }
    }

    async fn reserve(&mut self, need_bytes: u64) -> Result<(), Stop> {
        if need_bytes <= self.allocated_bytes {
            return Ok(());
        }
        let generous = need_bytes + WRITES_RESERVED * self.store.options.compaction_io_bytes as u64;
        let target = match self.file.preallocate(generous).await {
            Ok(()) => generous,
            Err(_) => {
                self.file.preallocate(need_bytes).await.context(RESERVE, &self.path)?;
                need_bytes
            }
        };
        self.store.spend(target - self.allocated_bytes);
        self.allocated_bytes = target;
        Ok(())
    }
}

const _: () = assert!(BATCH_HEADER_BYTES + DRAIN_HEADER_BYTES <= crate::codec::BLOCK_BYTES);
