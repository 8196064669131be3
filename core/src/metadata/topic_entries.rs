//! The table of the settings a topic may have: name, type, default, what is allowed, and what it does here.

/// One setting as documented to users: shown by DescribeConfigs and in the configuration reference.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The setting's name, Kafka's where Kafka has it.
    pub name: &'static str,
    /// `boolean`, `double`, `int`, `list`, `long` or `string`.
    pub kind: &'static str,
    /// The value used when the topic does not set it.
    pub default: &'static str,
    /// What values are allowed, in words.
    pub range: &'static str,
    /// What it does.
    pub doc: &'static str,
}

const fn entry(
    name: &'static str,
    kind: &'static str,
    default: &'static str,
    range: &'static str,
    doc: &'static str,
) -> Entry {
    Entry { name, kind, default, range, doc }
}

/// The largest `long`, where Kafka writes it for "never".
const LONG_MAX: &str = "9223372036854775807";

pub(super) const ENTRIES: &[Entry] = &[
    entry(
        "durability",
        "string",
        "fsync",
        "fsync, replicated or async",
        "What an acknowledgement promises: on stable storage of the commit quorum, in memory of the commit quorum, or in memory of the primary.",
    ),
    entry(
        "cleanup.policy",
        "list",
        "delete",
        "delete, compact or both",
        "How old data leaves the topic: by retention time and size (delete), or when a newer record of the same key is there (compact).",
    ),
    entry(
        "compression.gzip.level",
        "int",
        "-1",
        "-1 (the codec's default) or 1 to 9",
        "The level when the broker compresses with gzip, which it does only if compression.type says so.",
    ),
    entry(
        "compression.lz4.level",
        "int",
        "9",
        "1 to 17",
        "Accepted, without effect: the broker compresses LZ4 at one level.",
    ),
    entry(
        "compression.type",
        "string",
        "producer",
        "producer, uncompressed, gzip, snappy, lz4 or zstd",
        "With producer, batches are kept as they were sent. With a codec, a batch that was sent in another one is compressed anew, on the core of its partition; that costs more time than everything else of a produce request.",
    ),
    entry(
        "compression.zstd.level",
        "int",
        "3",
        "-131072 to 22",
        "The level when the broker compresses with zstd, which it does only if compression.type says so.",
    ),
    entry(
        "delete.retention.ms",
        "long",
        "86400000",
        "at least 0",
        "For compacted topics: how long a tombstone stays after compaction met it first, so that readers under way see it.",
    ),
    entry(
        "file.delete.delay.ms",
        "long",
        "60000",
        "at least 0",
        "Accepted, without effect: files of deleted segments are removed at once; readers that have one open finish with it.",
    ),
    entry(
        "flush.bytes",
        "long",
        "4194304",
        "at least 1",
        "For topics that are not fsync: this many unflushed bytes of a partition are flushed without waiting for flush.ms.",
    ),
    entry(
        "flush.messages",
        "long",
        LONG_MAX,
        "at least 1",
        "Accepted, without effect: durability, flush.bytes and flush.ms say when records reach the disk.",
    ),
    entry(
        "flush.ms",
        "long",
        "1000",
        "at least 1; above 3600000 counts as 3600000",
        "For topics that are not fsync: the longest time a record stays in memory only.",
    ),
    entry(
        "follower.replication.throttled.replicas",
        "list",
        "",
        "any",
        "Accepted, without effect in this version.",
    ),
    entry(
        "index.interval.bytes",
        "int",
        "4096",
        "at least 0",
        "Accepted, without effect: every index has an entry per 64 KiB.",
    ),
    entry(
        "leader.replication.throttled.replicas",
        "list",
        "",
        "any",
        "Accepted, without effect in this version.",
    ),
    entry(
        "local.retention.bytes",
        "long",
        "-2",
        "at least -2",
        "Accepted, without effect: there is no tiered storage.",
    ),
    entry(
        "local.retention.ms",
        "long",
        "-2",
        "at least -2",
        "Accepted, without effect: there is no tiered storage.",
    ),
    entry(
        "max.compaction.lag.ms",
        "long",
        LONG_MAX,
        "at least 1",
        "For compacted topics: a record that waits for longer makes compaction begin whatever min.cleanable.dirty.ratio says; segments are closed in time for it.",
    ),
    entry(
        "max.message.bytes",
        "int",
        "1048588",
        "1 to 16777216",
        "The largest record batch accepted, as sent (after compression); with compression.type also as stored.",
    ),
    entry(
        "message.timestamp.after.max.ms",
        "long",
        "3600000",
        "at least 0",
        "With CreateTime: a batch with a timestamp further ahead of the broker's clock is refused.",
    ),
    entry(
        "message.timestamp.before.max.ms",
        "long",
        LONG_MAX,
        "at least 0",
        "With CreateTime: a batch with a timestamp further behind the broker's clock is refused. Any other value than the default makes the broker look at every record.",
    ),
    entry(
        "message.timestamp.type",
        "string",
        "CreateTime",
        "CreateTime or LogAppendTime",
        "Whether records keep the producer's timestamp or get the time of the append.",
    ),
    entry(
        "min.cleanable.dirty.ratio",
        "double",
        "0.5",
        "0 to 1",
        "For compacted topics: compaction begins when this share of the closed segments was not compacted yet.",
    ),
    entry(
        "min.compaction.lag.ms",
        "long",
        "0",
        "at least 0, at most max.compaction.lag.ms",
        "For compacted topics: a segment whose newest record is younger is not touched.",
    ),
    entry(
        "min.insync.replicas",
        "int",
        "1",
        "1 up to the replication factor",
        "The commit quorum: how many in-sync replicas hold a record before it is acknowledged with acks=all.",
    ),
    entry(
        "preallocate",
        "boolean",
        "false",
        "true or false",
        "Accepted, without effect: space of the newest segment is always reserved ahead, step by step.",
    ),
    entry("remote.log.copy.disable", "boolean", "false", "false", "There is no tiered storage."),
    entry("remote.log.delete.on.disable", "boolean", "false", "false", "There is no tiered storage."),
    entry("remote.storage.enable", "boolean", "false", "false", "There is no tiered storage."),
    entry(
        "retention.bytes",
        "long",
        "-1",
        "-1 (no limit) or at least 0",
        "With cleanup.policy delete: a partition larger than this loses its oldest segments.",
    ),
    entry(
        "retention.ms",
        "long",
        "604800000",
        "-1 (no limit) or at least 0",
        "With cleanup.policy delete: segments whose newest record is older than this are deleted.",
    ),
    entry(
        "segment.bytes",
        "int",
        "134217728",
        "14 to 2147483647; below 65536 counts as 65536, above 1073741824 as that",
        "A segment file is closed and a new one begun at this size; retention and compaction work on whole closed segments.",
    ),
    entry(
        "segment.index.bytes",
        "int",
        "10485760",
        "at least 4",
        "Accepted, without effect: indexes are as large as they need to be.",
    ),
    entry(
        "segment.jitter.ms",
        "long",
        "0",
        "at least 0",
        "Accepted, without effect: closing a segment costs next to nothing here.",
    ),
    entry(
        "segment.ms",
        "long",
        "604800000",
        "at least 1; below 100 counts as 100",
        "A segment file is closed at this age even when it is not full, so that retention and compaction can reach it. Looked at every ten seconds where nothing is written.",
    ),
    entry(
        "unclean.leader.election.enable",
        "boolean",
        "false",
        "true or false",
        "Accepted, without effect in this version.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_is_there_once_and_of_a_known_kind() {
        for (index, entry) in ENTRIES.iter().enumerate() {
            let kinds = ["boolean", "double", "int", "list", "long", "string"];
            assert!(kinds.contains(&entry.kind), "{}", entry.name);
            assert!(ENTRIES[..index].iter().all(|other| other.name != entry.name), "{}", entry.name);
            assert!(!entry.doc.is_empty() && !entry.range.is_empty(), "{}", entry.name);
        }
    }
}
