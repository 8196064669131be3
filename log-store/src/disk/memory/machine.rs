//! The state behind every handle of the in-memory disk: names, files, virtual time, faults and the power supply.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::task::Waker;
use std::time::Duration;

use super::files::{Content, SECTOR_BYTES, SyncPoint};
use super::{DirEntry, Pace};

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Node {
    File(u64),
    Dir,
}

/// A change of names that no directory sync has covered yet.
#[derive(Clone, Debug)]
enum NameChange {
    Add(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl NameChange {
    fn touches(&self, dir: &Path) -> bool {
        match self {
            Self::Add(path, _) | Self::Remove(path) => path.parent() == Some(dir),
            Self::Rename(from, to) => from.parent() == Some(dir) || to.parent() == Some(dir),
        }
    }
}

type Names = BTreeMap<PathBuf, Node>;

fn apply(names: &mut Names, change: &NameChange) {
    match change {
        NameChange::Add(path, node) => drop(names.insert(path.clone(), *node)),
        NameChange::Remove(path) => names.retain(|name, _| !name.starts_with(path)),
        NameChange::Rename(from, to) => {
            let moved: Vec<_> =
                names.iter().filter(|(name, _)| name.starts_with(from)).map(|(n, _)| n.clone()).collect();
            for name in moved {
                let node = names.remove(&name).expect("the name was just listed");
                let rest = name.strip_prefix(from).expect("the name begins with it");
                names.insert(if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) }, node);
            }
        }
    }
}

struct Write {
    node: u64,
    position: usize,
    bytes: Vec<u8>,
    dsync: bool,
    lost: bool,
    /// Whoever began it is gone: it lands when somebody waits for it, or in a crash.
    is_orphan: bool,
}

#[derive(Default)]
pub(super) struct Faults {
    pub(super) lose_write: Option<String>,
    pub(super) fail: Option<String>,
}

impl Faults {
    fn take(slot: &mut Option<String>, path: &Path) -> bool {
        slot.take_if(|part| path.to_string_lossy().contains(part.as_str())).is_some()
    }
}

pub(super) struct Machine {
    random: u64,
    life: u64,
    now: Duration,
    next_id: u64,
    timers: BTreeMap<(Duration, u64), Waker>,
    names: Names,
    durable_names: Names,
    changes: Vec<NameChange>,
    contents: BTreeMap<u64, Content>,
    writes: BTreeMap<u64, Write>,
    pub(super) faults: Faults,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) latency: Option<Range<Duration>>,
}

/// A name is reached through its directory: without that it is gone too.
fn drop_orphans(names: &mut Names) {
    let mut dirs = std::collections::BTreeSet::new();
    names.retain(|path, node| {
        let parent = path.parent().unwrap_or(path);
        let is_reached = parent.parent().is_none() || dirs.contains(parent);
        if is_reached && *node == Node::Dir {
            dirs.insert(path.clone());
        }
        is_reached
    });
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", path.display()))
}

impl Machine {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: seed,
            life: 0,
            now: Duration::ZERO,
            next_id: 1,
            timers: BTreeMap::new(),
            names: Names::new(),
            durable_names: Names::new(),
            changes: Vec::new(),
            contents: BTreeMap::new(),
            writes: BTreeMap::new(),
            faults: Faults::default(),
            capacity_bytes: None,
            latency: None,
        }
    }

    /// SplitMix64: small, and good enough to choose faults.
    pub(super) fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn life(&self) -> u64 {
        self.life
    }

    pub(super) fn now(&self) -> Duration {
        self.now
    }

    pub(super) fn check_life(&self, life: u64, path: &Path) -> io::Result<()> {
        if life == self.life {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::BrokenPipe, format!("{}: the power was cut", path.display())))
    }

    pub(super) fn pace(&mut self) -> Pace {
        let random = self.random();
        match &self.latency {
            None => Pace::Polls((random % 4) as u32),
            Some(range) => {
                let width = (range.end.saturating_sub(range.start).as_nanos() as u64).max(1);
                Pace::Until(self.now + range.start + Duration::from_nanos(random % width))
            }
        }
    }

    pub(super) fn set_timer(
        &mut self,
        old: Option<(Duration, u64)>,
        at: Duration,
        waker: &Waker,
    ) -> (Duration, u64) {
        let key = old.unwrap_or_else(|| (at, self.id()));
        self.timers.insert(key, waker.clone());
        key
    }

    pub(super) fn cancel_timer(&mut self, timer: (Duration, u64)) {
        self.timers.remove(&timer);
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.timers.keys().next().map(|(at, _)| *at)
    }

    pub(super) fn advance_to(&mut self, now: Duration) -> Vec<Waker> {
        self.now = self.now.max(now);
        let later = self.timers.split_off(&(self.now + Duration::from_nanos(1), 0));
        std::mem::replace(&mut self.timers, later).into_values().collect()
    }

    pub(super) fn crash(&mut self) -> Vec<Waker> {
        self.life += 1;
        self.tear_writes();
        let mut contents = std::mem::take(&mut self.contents);
        for content in contents.values_mut() {
            let loses_all = self.random().is_multiple_of(4);
            content.crash(|| !loses_all && self.random().is_multiple_of(2));
        }
        self.contents = contents;
        let kept = (self.random() % (self.changes.len() as u64 + 1)) as usize;
        for change in std::mem::take(&mut self.changes).iter().take(kept) {
            apply(&mut self.durable_names, change);
        }
        drop_orphans(&mut self.durable_names);
        self.names = self.durable_names.clone();
        self.forget_unnamed();
        self.faults = Faults::default();
        std::mem::take(&mut self.timers).into_values().collect()
    }

    /// Every write in flight reaches the medium in part: sector by sector, by chance.
    fn tear_writes(&mut self) {
        for write in std::mem::take(&mut self.writes).into_values().filter(|write| !write.lost) {
            let whole = self.random() % 3;
            for (index, sector) in write.bytes.chunks(SECTOR_BYTES).enumerate() {
                let reaches = whole == 0 || whole == 1 && self.random().is_multiple_of(2);
                if let Some(content) = self.contents.get_mut(&write.node).filter(|_| reaches) {
                    content.write(write.position + index * SECTOR_BYTES, sector, write.dsync);
                }
            }
        }
    }

    fn forget_unnamed(&mut self) {
        let named: Vec<u64> = self
            .names
            .values()
            .filter_map(|node| match node {
                Node::File(id) => Some(*id),
                Node::Dir => None,
            })
            .collect();
        self.contents.retain(|id, _| named.contains(id));
    }

    pub(super) fn flip_bit(&mut self, path: &Path, position: u64, bit: u8) -> bool {
        let Some(Node::File(id)) = self.names.get(path).copied() else { return false };
        self.contents.get_mut(&id).is_some_and(|content| content.flip(position as usize, bit))
    }

    pub(super) fn is_harmed(&self) -> bool {
        let is_harmed = |node: &Node| match node {
            Node::File(id) => self.contents.get(id).is_some_and(Content::is_harmed),
            Node::Dir => false,
        };
        self.faults.lose_write.is_some() || self.names.values().any(is_harmed)
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let size = |node: &Node| match node {
            Node::File(id) => self.contents.get(id).map_or(0, |content| content.live.len() as u64),
            Node::Dir => 0,
        };
        self.names.values().map(size).sum()
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.capacity_bytes.map_or(u64::MAX / 2, |capacity| capacity.saturating_sub(self.used_bytes()))
    }

    pub(super) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let file = |(path, node): (&PathBuf, &Node)| match node {
            Node::File(id) => Some((path.clone(), self.contents.get(id)?.live.clone())),
            Node::Dir => None,
        };
        self.names.iter().filter_map(file).collect()
    }

    fn change(&mut self, change: NameChange) {
        apply(&mut self.names, &change);
        self.changes.push(change);
    }

    fn require_parent(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let exists = parent.parent().is_none() || self.names.get(parent) == Some(&Node::Dir);
        if exists { Ok(()) } else { Err(not_found(parent)) }
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<u64> {
        self.require_parent(path)?;
        if self.names.contains_key(path) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} exists", path.display())));
        }
        let id = self.id();
        self.contents.insert(id, Content::default());
        self.change(NameChange::Add(path.to_owned(), Node::File(id)));
        Ok(id)
    }

    pub(super) fn find_file(&self, path: &Path) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Node::File(id)) => Ok(*id),
            _ => Err(not_found(path)),
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.names.contains_key(from) {
            return Err(not_found(from));
        }
        self.require_parent(to)?;
        self.change(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.find_file(path)?;
        self.change(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut missing: Vec<&Path> = path
            .ancestors()
            .take_while(|dir| dir.parent().is_some() && !self.names.contains_key(*dir))
            .collect();
        missing.reverse();
        for dir in missing {
            self.change(NameChange::Add(dir.to_owned(), Node::Dir));
        }
        Ok(())
    }

    pub(super) fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        if !self.names.contains_key(path) {
            return Err(not_found(path));
        }
        self.change(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> Vec<DirEntry> {
        let entry = |(name, node): (&PathBuf, &Node)| {
            let size = match node {
                Node::File(id) => self.contents.get(id)?.live.len() as u64,
                Node::Dir => 0,
            };
            let name = name.file_name()?.to_str()?.to_owned();
            Some(DirEntry { name, is_dir: *node == Node::Dir, size })
        };
        self.names.iter().filter(|(name, _)| name.parent() == Some(path)).filter_map(entry).collect()
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        if path.parent().is_some() && self.names.get(path) != Some(&Node::Dir) {
            return Err(not_found(path));
        }
        let (covered, open) = std::mem::take(&mut self.changes)
            .into_iter()
            .partition::<Vec<_>, _>(|change| change.touches(path));
        covered.iter().for_each(|change| apply(&mut self.durable_names, change));
        self.changes = open;
        Ok(())
    }

    fn content(&self, node: u64) -> io::Result<&Content> {
        self.contents.get(&node).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn content_mut(&mut self, node: u64) -> io::Result<&mut Content> {
        self.contents.get_mut(&node).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn require_space(&self, node: u64, size: u64) -> io::Result<()> {
        let grows = size.saturating_sub(self.content(node)?.live.len() as u64);
        if grows > self.free_bytes() {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    pub(super) fn start_write(
        &mut self,
        node: u64,
        path: &Path,
        position: u64,
        bytes: Vec<u8>,
        dsync: bool,
    ) -> io::Result<u64> {
        if Faults::take(&mut self.faults.fail, path) {
            return Err(io::Error::other("injected write failure"));
        }
        self.require_space(node, position + bytes.len() as u64)?;
        let lost = Faults::take(&mut self.faults.lose_write, path);
        let id = self.id();
        let write = Write { node, position: position as usize, bytes, dsync, lost, is_orphan: false };
        self.writes.insert(id, write);
        Ok(id)
    }

    /// Whoever began a write does not wait for it any more.
    pub(super) fn abandon_write(&mut self, id: u64) {
        if let Some(write) = self.writes.get_mut(&id) {
            write.is_orphan = true;
        }
    }

    pub(super) fn finish_write(&mut self, id: u64) {
        let write = self.writes.remove(&id).expect("a write finishes once");
        let Some(content) = self.contents.get_mut(&write.node) else { return };
        if write.lost {
            content.lose(write.position, &write.bytes, write.dsync);
        } else {
            content.write(write.position, &write.bytes, write.dsync);
        }
    }

    pub(super) fn read(&self, node: u64, position: u64, into: &mut [u8]) -> io::Result<usize> {
        let live = &self.content(node)?.live;
        let start = live.len().min(position as usize);
        let bytes = (live.len() - start).min(into.len());
        into[..bytes].copy_from_slice(&live[start..start + bytes]);
        Ok(bytes)
    }

    pub(super) fn start_sync(&mut self, node: u64, path: &Path) -> io::Result<(u64, SyncPoint)> {
        if Faults::take(&mut self.faults.fail, path) {
            return Err(io::Error::other("injected sync failure"));
        }
        Ok((node, self.content(node)?.sync_point()))
    }

    pub(super) fn finish_sync(&mut self, (node, point): (u64, SyncPoint)) {
        if let Some(content) = self.contents.get_mut(&node) {
            content.sync(&point);
        }
    }

    pub(super) fn size(&self, node: u64) -> io::Result<u64> {
        Ok(self.content(node)?.live.len() as u64)
    }

    pub(super) fn preallocate(&mut self, node: u64, bytes: u64) -> io::Result<()> {
        let is_late = |write: &Write| write.is_orphan && write.node == node;
        let late: Vec<u64> =
            self.writes.iter().filter(|(_, write)| is_late(write)).map(|(id, _)| *id).collect();
        late.into_iter().for_each(|id| self.finish_write(id));
        self.require_space(node, bytes)?;
        self.content_mut(node)?.grow(bytes as usize);
        Ok(())
    }

    pub(super) fn truncate(&mut self, node: u64, bytes: u64) -> io::Result<()> {
        self.content_mut(node)?.truncate(bytes as usize);
        Ok(())
    }
}
