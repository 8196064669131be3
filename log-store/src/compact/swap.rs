//! Puts a compacted segment in the place of those it was made of, in one step as far as a crash can see.
//!
//! `<base>-<end>.cleaned` is being written and worth nothing. Renamed to `<base>-<end>.swap` it counts: whoever finds it
//! finishes what is left to do, which is removing the old segments and giving it the name of the first of them.

use std::path::Path;
use std::rc::Rc;

use heddle_proto::ids::Offset;

use super::writer::Made;
use crate::disk::{DirEntry, Disk};
use crate::error::{IoContext, StorageError};
use crate::layout;
use crate::log::inner::LogInner;
use crate::segment::Segment;
use crate::segment::SegmentRef;
use crate::segment::reader::Stop;
use crate::store::retention::remove_if_there;
use crate::store::shared::Store;

impl<D: Disk> Store<D> {
    /// Replaces `group` by what was made of it. Readers of the old files notice and look again.
    pub(crate) async fn take_place(
        &self,
        log: &Rc<LogInner>,
        group: &[SegmentRef],
        made: Made<D::File>,
    ) -> Result<(), Stop> {
        let _guard = log.maintenance.acquire().await;
        if log.deleted.get() || !self.replace_in_memory(log, group, &made) {
            remove_if_there(&self.disk, &made.path).await?;
            return Err(Stop::Gone);
        }
        log.swapping.set(true);
        let (base, end) = (made.index.base, made.index.end);
        let dir = self.partition_dir(log);
        let swap = layout::swap_file(&dir, base, end);
        self.disk.rename(&made.path, &swap).await.context("rename", &made.path)?;
        self.disk.sync_dir(&dir).await.context("sync", &dir)?;
        let old: Vec<Offset> = group.iter().map(|segment| segment.base).collect();
        finish_swap(&self.disk, &dir, &swap, base, &old).await?;
        let path = self.index_path(log, base);
        self.write_index(log, &path, &made.index).await;
        log.swapping.set(false);
        self.check_free();
        Ok(())
    }

    /// From here on readers use the new file, which is open, and nothing that was in memory of the old ones.
    fn replace_in_memory(&self, log: &LogInner, group: &[SegmentRef], made: &Made<D::File>) -> bool {
        let Some(first) = group.first() else { return false };
        let mut segment = Segment::sealed(first.base, made.index.end, made.index.data_bytes, self.disk.now());
        segment.version = first.version + 1;
        segment.max_timestamp = Some(made.index.max_timestamp);
        segment.tombstones_due = made.tombstones_due;
        let key = (log.id, segment.base, segment.version);
        if !log.segments.borrow_mut().replace(group, segment) {
            return false;
        }
        for old in group {
            self.segment_files.remove((log.id, old.base, old.version));
            self.indexes.remove((log.id, old.base, old.version));
        }
        self.cursors.remove_log(log.id);
        self.drop_cached(log, made.index.end);
        self.segment_files.insert(key, made.file.clone());
        self.indexes.insert(key, Rc::new(made.index.clone()));
        true
    }

    /// Removes or finishes what a crash left in a partition's directory. Before its segments are listed.
    pub(crate) async fn finish_compaction(&self, dir: &Path) -> Result<(), StorageError> {
        let entries = self.disk.list(dir).await.context("list", dir)?;
        for entry in entries.iter().filter(|entry| layout::is_cleaned(&entry.name)) {
            remove_if_there(&self.disk, &dir.join(&entry.name)).await?;
        }
        for entry in &entries {
            let Some((base, end)) = layout::parse_swap_file(&entry.name) else { continue };
            let old = bases_within(&entries, base, end);
            finish_swap(&self.disk, dir, &dir.join(&entry.name), base, &old).await?;
        }
        Ok(())
    }
}

/// Segments and indexes whose offsets the new file covers.
fn bases_within(entries: &[DirEntry], base: Offset, end: Offset) -> Vec<Offset> {
    let mut bases: Vec<Offset> = entries
        .iter()
        .filter_map(|entry| {
            layout::parse_segment_file(&entry.name).or_else(|| layout::parse_index_file(&entry.name))
        })
        .filter(|found| (base..end).contains(found))
        .collect();
    bases.sort_unstable();
    bases.dedup();
    bases
}

/// What is left to do once the `.swap` file is durable. Each step is durable before the next: an old segment must never
/// stand beside the new one, nor an old index.
async fn finish_swap<D: Disk>(
    disk: &D,
    dir: &Path,
    swap: &Path,
    base: Offset,
    old: &[Offset],
) -> Result<(), StorageError> {
    for &each in old {
        remove_if_there(disk, &layout::index_file(dir, each)).await?;
        if each != base {
            remove_if_there(disk, &layout::segment_file(dir, each)).await?;
        }
    }
    disk.sync_dir(dir).await.context("sync", dir)?;
    let path = layout::segment_file(dir, base);
    disk.rename(swap, &path).await.context("rename", swap)?;
    disk.sync_dir(dir).await.context("sync", dir)
}
