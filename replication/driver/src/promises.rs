//! The promises of all replicas of one core on stable storage: one small table, kept in two files.
//!
//! Both are written, one after the other, before anything is reported: a write that a crash tears leaves the other file,
//! and so does damage that comes later. A table that is gone for good is no table: the replicas have then forgotten.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use heddle_log_store::{Disk, DiskFile, OpenMode};
use heddle_proto::crc::crc32c;
use heddle_proto::ids::{Epoch, PartitionIndex, TopicId, TopicPartition};
use heddle_replication::io::Promise;

const MAGIC: [u8; 8] = *b"HDLprm\xff\x01";
const HEADER_BYTES: usize = 24;
const ENTRY_BYTES: usize = 32;
const BLOCK_BYTES: usize = 4096;
/// A table of a million replicas; what is larger is not one.
const FILE_BYTES_MAX: u64 = 32 << 20;
const FILE_NAMES: [&str; 2] = ["promises.0", "promises.1"];

/// What every replica has promised.
pub type Promises = BTreeMap<TopicPartition, Promise>;

/// Adds a promise to a table that may have one of the same replica from another time, and keeps what both allow: promises
/// only grow, and where neither is further only the doubtful one can be trusted.
pub fn merge(into: &mut Promises, partition: TopicPartition, promise: Promise) {
    let kept = into.entry(partition).or_insert(promise);
    let reach = |promise: &Promise| (promise.sealed.max(promise.accepted), promise.accepted);
    kept.intact = match reach(&promise).cmp(&reach(kept)) {
        Ordering::Less => kept.intact,
        Ordering::Equal => kept.intact && promise.intact,
        Ordering::Greater => promise.intact,
    };
    kept.sealed = kept.sealed.max(promise.sealed);
    kept.accepted = kept.accepted.max(promise.accepted);
}

/// These replicas may have lost what they acknowledged. To be on stable storage before anything that tells of it goes, as a cut of the
/// damage in a log does: after a crash in between, a replica that forgot would vote like one that did not.
pub fn doubt(promises: &mut Promises, damaged: impl IntoIterator<Item = TopicPartition>) {
    for partition in damaged {
        if let Some(promise) = promises.get_mut(&partition) {
            promise.intact = false;
        }
    }
}

/// Where the tables are.
pub struct PromiseFiles<D: Disk> {
    disk: D,
    dir: PathBuf,
}

impl<D: Disk> Clone for PromiseFiles<D> {
    fn clone(&self) -> Self {
        Self { disk: self.disk.clone(), dir: self.dir.clone() }
    }
}

impl<D: Disk> PromiseFiles<D> {
    /// Promises in this directory, which is made when they are first written.
    pub fn new(disk: D, dir: PathBuf) -> Self {
        Self { disk, dir }
    }

    /// Reads the newest table and its number; `None` when there is none, or none that is whole.
    ///
    /// # Errors
    /// If the disk refuses.
    pub async fn read(&self) -> io::Result<Option<(Promises, u64)>> {
        let mut newest = None;
        for name in FILE_NAMES {
            let bytes = match self.disk.open(&self.dir.join(name), OpenMode::EXISTING).await {
                Ok(file) => read_whole(&file).await?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let found = decode(&bytes);
            let number = |table: &Option<(Promises, u64)>| table.as_ref().map(|(_, number)| *number);
            if number(&found) > number(&newest) {
                newest = found;
            }
        }
        Ok(newest)
    }

    /// Writes what the replicas of this core have promised, as the table that follows `number`, durably to both files, and
    /// gives the new number.
    ///
    /// # Errors
    /// If the disk refuses.
    pub async fn replace(&self, promises: &Promises, number: u64) -> io::Result<u64> {
        self.write(&encode(promises, number + 1), number + 1).await?;
        Ok(number + 1)
    }

    /// Writes a table durably to both files.
    pub(crate) async fn write(&self, table: &[u8], number: u64) -> io::Result<()> {
        // The older file first: the newest whole table is never touched before another one is whole.
        let first = (number % 2) as usize;
        for name in [FILE_NAMES[first], FILE_NAMES[1 - first]] {
            self.write_file(&self.dir.join(name), table).await?;
        }
        Ok(())
    }

    async fn write_file(&self, path: &Path, table: &[u8]) -> io::Result<()> {
        let file = match self.disk.open(path, OpenMode::EXISTING.dsync(true)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create(path).await?,
            other => other?,
        };
        let mut buffer = self.disk.alloc(table.len());
        buffer.as_mut().copy_from_slice(table);
        if file.size().await? < table.len() as u64 {
            file.preallocate(table.len() as u64).await?;
            file.sync().await?;
        }
        let written = file.write_at(buffer, 0).await?;
        if written == table.len() {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::WriteZero, format!("{written} of {} bytes", table.len())))
    }

    async fn create(&self, path: &Path) -> io::Result<D::File> {
        self.disk.create_dir_all(&self.dir).await?;
        for parent in self.dir.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            self.disk.sync_dir(parent).await?;
        }
        let file = self.disk.open(path, OpenMode::NEW.dsync(true)).await?;
        self.disk.sync_dir(&self.dir).await?;
        Ok(file)
    }
}

async fn read_whole<F: DiskFile>(file: &F) -> io::Result<Vec<u8>> {
    let bytes = file.size().await?.min(FILE_BYTES_MAX) as usize;
    let mut content = vec![0; bytes.next_multiple_of(BLOCK_BYTES)];
    let read = file.read_at(0, &mut content).await?;
    content.truncate(read);
    Ok(content)
}

/// The bytes of a table, padded to whole blocks.
pub(crate) fn encode(promises: &Promises, number: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + promises.len() * ENTRY_BYTES);
    out.extend(MAGIC);
    out.extend(number.to_le_bytes());
    out.extend((promises.len() as u32).to_le_bytes());
    out.extend([0; 4]);
    for (partition, promise) in promises {
        out.extend(partition.topic.as_bytes());
        out.extend(partition.partition.get().to_le_bytes());
        out.extend(promise.sealed.get().to_le_bytes());
        out.extend(promise.accepted.get().to_le_bytes());
        out.extend([u8::from(promise.intact), 0, 0, 0]);
    }
    let crc = crc32c(&out);
    out[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    out.resize(out.len().next_multiple_of(BLOCK_BYTES), 0);
    out
}

/// Reads a table; `None` if these bytes are not a whole one.
pub fn decode(bytes: &[u8]) -> Option<(Promises, u64)> {
    let header = bytes.get(..HEADER_BYTES)?;
    let number = u64::from_le_bytes(header[8..16].try_into().ok()?);
    let count = u32::from_le_bytes(header[16..20].try_into().ok()?) as usize;
    let crc = u32::from_le_bytes(header[20..24].try_into().ok()?);
    let end = HEADER_BYTES.checked_add(count.checked_mul(ENTRY_BYTES)?)?;
    let mut table = bytes.get(..end)?.to_vec();
    table[HEADER_BYTES - 4..HEADER_BYTES].fill(0);
    if !header.starts_with(&MAGIC) || crc32c(&table) != crc {
        return None;
    }
    let mut promises = Promises::new();
    for entry in table[HEADER_BYTES..].chunks_exact(ENTRY_BYTES) {
        let number = |at: usize| i32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
        let topic = TopicId::from_bytes(entry[..16].try_into().ok()?);
        let partition = TopicPartition { topic, partition: PartitionIndex::new(number(16) as u32) };
        let (sealed, accepted) = (Epoch::new(number(20)), Epoch::new(number(24)));
        promises.insert(partition, Promise { sealed, accepted, intact: entry[28] == 1 });
    }
    Some((promises, number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_log_store::MemoryDisk;

    fn promises(sealed: i32) -> Promises {
        let promise = |index| Promise {
            sealed: Epoch::new(sealed),
            accepted: Epoch::new(sealed - 1),
            intact: index % 2 == 0,
        };
        (0..200)
            .map(|index| {
                let partition = TopicPartition::new(TopicId::new([3; 16]), PartitionIndex::new(index));
                (partition, promise(index))
            })
            .collect()
    }

    #[test]
    fn a_table_round_trips_and_no_part_of_it_does() {
        let bytes = encode(&promises(7), 9);
        assert_eq!(decode(&bytes), Some((promises(7), 9)));
        for cut in [0, 7, HEADER_BYTES, HEADER_BYTES + ENTRY_BYTES, HEADER_BYTES + 200 * ENTRY_BYTES - 1] {
            assert_eq!(decode(&bytes[..cut]), None);
        }
        for byte in 0..HEADER_BYTES + 200 * ENTRY_BYTES {
            let mut bad = bytes.clone();
            bad[byte] ^= 4;
            assert_eq!(decode(&bad), None, "byte {byte}");
        }
    }

    #[test]
    fn who_may_have_lost_something_is_doubted_and_nobody_else() {
        let partition = |index| TopicPartition::new(TopicId::new([3; 16]), PartitionIndex::new(index));
        let (before, mut after) = (promises(7), promises(7));
        doubt(&mut after, [partition(4), partition(1000)]);
        assert!(!after[&partition(4)].intact && before[&partition(4)].intact);
        after.remove(&partition(4));
        assert!(after.iter().all(|(at, promise)| before[at] == *promise) && after.len() == 199);
    }

    #[test]
    fn of_two_times_the_later_promise_is_kept_and_the_doubtful_one_of_the_same_time() {
        let promise = |sealed, accepted, intact| Promise {
            sealed: Epoch::new(sealed),
            accepted: Epoch::new(accepted),
            intact,
        };
        for (one, other, kept) in [
            (promise(5, 5, true), promise(7, 5, false), promise(7, 5, false)),
            (promise(5, 5, false), promise(7, 5, true), promise(7, 5, true)),
            (promise(7, 5, true), promise(7, 7, false), promise(7, 7, false)),
            (promise(7, 7, true), promise(7, 7, false), promise(7, 7, false)),
            (promise(0, 9, true), promise(9, 8, false), promise(9, 9, true)),
        ] {
            for (first, second) in [(one, other), (other, one)] {
                let at = TopicPartition::new(TopicId::new([3; 16]), PartitionIndex::new(0));
                let mut table = Promises::from([(at, first)]);
                merge(&mut table, at, second);
                assert_eq!(table[&at], kept, "{first:?} and {second:?}");
            }
        }
    }

    #[test]
    fn what_was_reported_survives_every_crash_and_one_bit() {
        for seed in 0..200 {
            let disk = MemoryDisk::new(seed);
            let files = PromiseFiles::new(disk.clone(), "/data/promises".into());
            disk.run(files.write(&encode(&promises(5), 1), 1)).expect("the disk works");
            let torn =
                async { futures_poll(files.write(&encode(&promises(6), 2), 2), seed as u32 % 12).await };
            disk.run(torn);
            let disk = disk.crash();
            if seed % 12 == 0 {
                disk.flip_bit(Path::new("/data/promises/promises.1"), 100 + seed, 1);
            }
            let files = PromiseFiles::new(disk.clone(), "/data/promises".into());
            let (found, number) = disk.run(files.read()).expect("the disk works").expect("a table");
            assert!(
                (found == promises(5) && number == 1) || (found == promises(6) && number == 2),
                "seed {seed}"
            );
        }
    }

    /// Polls a future so often and then drops it.
    async fn futures_poll(future: impl Future<Output = io::Result<()>>, polls: u32) {
        let mut future = std::pin::pin!(future);
        let mut left = polls;
        std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            left = left.saturating_sub(1);
            let done = left == 0 || future.as_mut().poll(cx).is_ready();
            if done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}
