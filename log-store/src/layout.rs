//! Names of the files and directories of a data directory.

use std::path::{Path, PathBuf};

use heddle_proto::ids::{Offset, PartitionIndex, TopicId, TopicPartition};

const OFFSET_DIGITS: usize = 20;
const TRASH_SUFFIX: &str = ".deleted";
const CLEANED_SUFFIX: &str = ".cleaned";
const VOID_SUFFIX: &str = ".void";
const SWAP_SUFFIX: &str = ".swap";

pub(crate) fn wal_root(dir: &Path) -> PathBuf {
    dir.join("wal")
}

pub(crate) fn wal_dir(dir: &Path, core: u16) -> PathBuf {
    wal_root(dir).join(core.to_string())
}

pub(crate) fn wal_file(wal_dir: &Path, generation: u64) -> PathBuf {
    wal_dir.join(format!("{generation:020}.wal"))
}

/// The generation in a WAL file's name; `None` for any other file.
pub(crate) fn parse_wal_file(name: &str) -> Option<u64> {
    parse_number(name.strip_suffix(".wal")?)
}

/// An empty file: no WAL file of a generation before this one counts any more.
pub(crate) fn void_file(wal_dir: &Path, generation: u64) -> PathBuf {
    wal_dir.join(format!("{generation:020}{VOID_SUFFIX}"))
}

/// The generation in the name of a [`void_file`]; `None` for any other file.
pub(crate) fn parse_void_file(name: &str) -> Option<u64> {
    parse_number(name.strip_suffix(VOID_SUFFIX)?)
}

pub(crate) fn topics_root(dir: &Path) -> PathBuf {
    dir.join("topics")
}

pub(crate) fn topic_dir(dir: &Path, topic: TopicId) -> PathBuf {
    topics_root(dir).join(topic.to_string())
}

pub(crate) fn partition_dir(dir: &Path, partition: TopicPartition) -> PathBuf {
    topic_dir(dir, partition.topic).join(partition.partition.to_string())
}

/// Where a partition's directory is moved before its files are removed one by one.
pub(crate) fn trash_dir(dir: &Path, partition: TopicPartition) -> PathBuf {
    topic_dir(dir, partition.topic).join(format!("{}{TRASH_SUFFIX}", partition.partition))
}

pub(crate) fn is_trash(name: &str) -> bool {
    name.ends_with(TRASH_SUFFIX)
}

pub(crate) fn parse_topic_dir(name: &str) -> Option<TopicId> {
    name.parse().ok()
}

pub(crate) fn parse_partition_dir(name: &str) -> Option<PartitionIndex> {
    let index: u32 = name.parse().ok()?;
    (index.to_string() == name).then_some(PartitionIndex::new(index))
}

pub(crate) fn segment_file(partition_dir: &Path, base: Offset) -> PathBuf {
    partition_dir.join(format!("{:0OFFSET_DIGITS$}.log", base.get()))
}

pub(crate) fn index_file(partition_dir: &Path, base: Offset) -> PathBuf {
    partition_dir.join(format!("{:0OFFSET_DIGITS$}.index", base.get()))
}

/// A compacted segment being written, for offsets from `base` up to before `end`.
pub(crate) fn cleaned_file(partition_dir: &Path, base: Offset, end: Offset) -> PathBuf {
    partition_dir.join(format!("{}{CLEANED_SUFFIX}", range(base, end)))
}

pub(crate) fn is_cleaned(name: &str) -> bool {
    name.ends_with(CLEANED_SUFFIX)
}

/// A compacted segment that is complete, about to take the place of those it was made of.
pub(crate) fn swap_file(partition_dir: &Path, base: Offset, end: Offset) -> PathBuf {
    partition_dir.join(format!("{}{SWAP_SUFFIX}", range(base, end)))
}

/// The offsets in the name of a compacted segment; `None` for any other file.
pub(crate) fn parse_swap_file(name: &str) -> Option<(Offset, Offset)> {
    let (base, end) = name.strip_suffix(SWAP_SUFFIX)?.split_once('-')?;
    Some((parse_offset(base)?, parse_offset(end)?))
}

fn range(base: Offset, end: Offset) -> String {
    format!("{:0OFFSET_DIGITS$}-{:0OFFSET_DIGITS$}", base.get(), end.get())
}

/// The first offset in an index file's name; `None` for any other file.
pub(crate) fn parse_index_file(name: &str) -> Option<Offset> {
    parse_offset(name.strip_suffix(".index")?)
}

fn parse_offset(digits: &str) -> Option<Offset> {
    parse_number(digits).and_then(|offset| i64::try_from(offset).ok()).map(Offset::new)
}

/// The first offset in a segment file's name; `None` for any other file.
pub(crate) fn parse_segment_file(name: &str) -> Option<Offset> {
    parse_offset(name.strip_suffix(".log")?)
}

fn parse_number(digits: &str) -> Option<u64> {
    let all_digits = digits.len() == OFFSET_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_strangers_are_ignored() {
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let dir = Path::new("/data");
        assert_eq!(parse_wal_file(&name(wal_file(dir, 7))), Some(7));
        assert_eq!(parse_segment_file(&name(segment_file(dir, Offset::new(1234)))), Some(Offset::new(1234)));
        let (base, end) = (Offset::new(5), Offset::new(90));
        assert_eq!(parse_swap_file(&name(swap_file(dir, base, end))), Some((base, end)));
        assert_eq!(parse_swap_file(&name(cleaned_file(dir, base, end))), None);
        assert!(is_cleaned(&name(cleaned_file(dir, base, end))));
        assert_eq!(parse_index_file(&name(index_file(dir, base))), Some(base));
        for stranger in ["7.wal", "x.log", "0000000000000000000a.log", "+0000000000000000001.log", ".log"] {
            assert_eq!(parse_segment_file(stranger), None);
            assert_eq!(parse_wal_file(stranger), None);
        }
        assert_eq!(parse_partition_dir("12"), Some(PartitionIndex::new(12)));
        assert_eq!(parse_partition_dir("012"), None);
        assert_eq!(parse_partition_dir("12.deleted"), None);
    }
}
