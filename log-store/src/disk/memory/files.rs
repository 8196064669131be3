//! Content of one file of the in-memory disk: what reads see, and what survives a crash for sure.

use std::collections::BTreeSet;

/// Smallest unit a drive writes whole.
pub(super) const SECTOR_BYTES: usize = 512;

/// One file's bytes, twice: `live` is what reads return, `durable` what a crash leaves at least.
#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) live: Vec<u8>,
    durable: Vec<u8>,
    dirty_sectors: BTreeSet<usize>,
    /// Shortest length since the last sync, if the file was cut.
    cut: Option<usize>,
}

/// What a sync that began now will have made durable when it ends.
pub(super) struct SyncPoint {
    sectors: Vec<(usize, Vec<u8>)>,
    size: usize,
    cut: Option<usize>,
}

impl Content {
    pub(super) fn write(&mut self, position: usize, bytes: &[u8], durable: bool) {
        let end = position + bytes.len();
        if self.live.len() < end {
            self.live.resize(end, 0);
        }
        self.live[position..end].copy_from_slice(bytes);
        if durable {
            self.store_durably(position, bytes);
        } else {
            self.dirty_sectors.extend(position / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
        }
    }

    fn store_durably(&mut self, position: usize, bytes: &[u8]) {
        let end = position + bytes.len();
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[position..end].copy_from_slice(bytes);
    }

    pub(super) fn resize(&mut self, bytes: usize) {
        self.live.resize(bytes, 0);
    }

    pub(super) fn truncate(&mut self, bytes: usize) {
        self.live.truncate(bytes);
        self.cut = Some(self.cut.map_or(bytes, |cut| cut.min(bytes)));
        self.dirty_sectors.retain(|sector| sector * SECTOR_BYTES < bytes);
    }

    pub(super) fn sync_point(&self) -> SyncPoint {
        let sectors =
            self.dirty_sectors.iter().map(|&sector| (sector, self.sector(sector).to_vec())).collect();
        SyncPoint { sectors, size: self.live.len(), cut: self.cut }
    }

    pub(super) fn sync(&mut self, point: SyncPoint) {
        if let Some(cut) = point.cut {
            self.durable.truncate(cut);
            self.cut = None;
        }
        self.durable.resize(point.size, 0);
        for (sector, bytes) in point.sectors {
            if sector * SECTOR_BYTES + bytes.len() > self.durable.len() {
                continue;
            }
            self.store_durably(sector * SECTOR_BYTES, &bytes);
            if self.sector(sector) == bytes {
                self.dirty_sectors.remove(&sector);
            }
        }
    }

    fn sector(&self, sector: usize) -> &[u8] {
        let start = (sector * SECTOR_BYTES).min(self.live.len());
        &self.live[start..(start + SECTOR_BYTES).min(self.live.len())]
    }

    /// The content after a power cut; `survives` decides for each unsynced sector and for the unsynced size.
    pub(super) fn crash(&mut self, mut survives: impl FnMut() -> bool) {
        let size = if survives() { self.live.len() } else { self.durable.len() };
        let mut after = std::mem::take(&mut self.durable);
        after.resize(size.max(after.len().min(size)), 0);
        for &sector in &self.dirty_sectors {
            let bytes = self.sector(sector);
            let start = sector * SECTOR_BYTES;
            if survives() && start + bytes.len() <= after.len() {
                after[start..start + bytes.len()].copy_from_slice(bytes);
            }
        }
        self.dirty_sectors.clear();
        self.cut = None;
        self.live.clone_from(&after);
        self.durable = after;
    }

    pub(super) fn flip(&mut self, position: usize, bit: u8) -> bool {
        let mask = 1 << (bit % 8);
        if let Some(byte) = self.durable.get_mut(position) {
            *byte ^= mask;
        }
        self.live.get_mut(position).is_some_and(|byte| {
            *byte ^= mask;
            true
        })
    }
}
