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
    /// The file as it would be if no fault had harmed it. There since the first that did.
    wanted: Option<Box<Content>>,
}

/// What a sync that began now will have made durable when it ends.
pub(super) struct SyncPoint {
    sectors: Vec<(usize, Vec<u8>)>,
    size: usize,
    cut: Option<usize>,
    /// Of the file as it would be without faults.
    wanted: Option<Box<SyncPoint>>,
}

impl Content {
    pub(super) fn write(&mut self, position: usize, bytes: &[u8], durable: bool) {
        if let Some(wanted) = &mut self.wanted {
            wanted.write(position, bytes, durable);
        }
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

    /// A write that is reported and stores nothing.
    pub(super) fn lose(&mut self, position: usize, bytes: &[u8], durable: bool) {
        self.wanted().write(position, bytes, durable);
    }

    fn wanted(&mut self) -> &mut Content {
        let known = self.wanted.take().unwrap_or_else(|| Box::new(self.clone()));
        self.wanted.insert(known)
    }

    /// Whether a fault has left something else here than what was written, and nothing has mended it since.
    pub(super) fn is_harmed(&self) -> bool {
        let differs = |wanted: &Content| wanted.live != self.live || wanted.durable != self.durable;
        self.wanted.as_deref().is_some_and(differs)
    }

    fn store_durably(&mut self, position: usize, bytes: &[u8]) {
        let end = position + bytes.len();
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[position..end].copy_from_slice(bytes);
    }

    /// Makes it at least `bytes` long.
    pub(super) fn grow(&mut self, bytes: usize) {
        if let Some(wanted) = &mut self.wanted {
            wanted.grow(bytes);
        }
        if self.live.len() < bytes {
            self.live.resize(bytes, 0);
        }
    }

    pub(super) fn truncate(&mut self, bytes: usize) {
        if let Some(wanted) = &mut self.wanted {
            wanted.truncate(bytes);
        }
        self.live.truncate(bytes);
        self.cut = Some(self.cut.map_or(bytes, |cut| cut.min(bytes)));
        self.dirty_sectors.retain(|sector| sector * SECTOR_BYTES < bytes);
    }

    pub(super) fn sync_point(&self) -> SyncPoint {
        let sectors =
            self.dirty_sectors.iter().map(|&sector| (sector, self.sector(sector).to_vec())).collect();
        let wanted = self.wanted.as_ref().map(|wanted| Box::new(wanted.sync_point()));
        SyncPoint { sectors, size: self.live.len(), cut: self.cut, wanted }
    }

    pub(super) fn sync(&mut self, point: &SyncPoint) {
        if let Some(wanted) = &mut self.wanted {
            wanted.sync(point.wanted.as_deref().unwrap_or(point));
        }
        if let Some(cut) = point.cut {
            self.durable.truncate(cut);
            self.cut = None;
        }
        self.durable.resize(point.size, 0);
        for (sector, bytes) in &point.sectors {
            if sector * SECTOR_BYTES + bytes.len() > self.durable.len() {
                continue;
            }
            self.store_durably(sector * SECTOR_BYTES, bytes);
            if self.sector(*sector) == bytes {
                self.dirty_sectors.remove(sector);
            }
        }
    }

    fn sector(&self, sector: usize) -> &[u8] {
        let start = (sector * SECTOR_BYTES).min(self.live.len());
        &self.live[start..(start + SECTOR_BYTES).min(self.live.len())]
    }

    /// The content after a power cut; `survives` decides for the unsynced size and for each unsynced sector.
    pub(super) fn crash(&mut self, mut survives: impl FnMut() -> bool) {
        let keeps_size = survives();
        let kept = self.dirty_sectors.iter().copied().filter(|_| survives()).collect();
        self.keep(keeps_size, &kept);
    }

    fn keep(&mut self, keeps_size: bool, kept: &BTreeSet<usize>) {
        if let Some(wanted) = &mut self.wanted {
            wanted.keep(keeps_size, kept);
        }
        let size = if keeps_size { self.live.len() } else { self.durable.len() };
        let mut after = std::mem::take(&mut self.durable);
        after.resize(size, 0);
        for &sector in self.dirty_sectors.intersection(kept) {
            let bytes = self.sector(sector);
            let start = sector * SECTOR_BYTES;
            if start + bytes.len() <= after.len() {
                after[start..start + bytes.len()].copy_from_slice(bytes);
            }
        }
        self.dirty_sectors.clear();
        self.cut = None;
        self.live.clone_from(&after);
        self.durable = after;
    }

    pub(super) fn flip(&mut self, position: usize, bit: u8) -> bool {
        self.wanted();
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
