//! The settings a topic may have: their names, types, defaults and what each means.

use std::{collections::BTreeMap, time::Duration};

use heddle_log_store::{LogConfig, SyncMode};

pub use crate::config::Durability;

/// Who sets a record's timestamp (Kafka's `message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer.
    CreateTime,
    /// The broker, when it appends the batch.
    LogAppendTime,
}

/// One setting as documented to users: shown by DescribeConfigs and in the configuration reference.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The setting's name, Kafka's where Kafka has it.
    pub name: &'static str,
    /// `long`, `int`, `string` or `list`.
    pub kind: &'static str,
    /// The value used when the topic does not set it.
    pub default: &'static str,
    /// What values are allowed, in words.
    pub range: &'static str,
    /// What it does.
    pub doc: &'static str,
}

/// Every setting a topic may have, in the order in which they are listed.
pub fn entries() -> &'static [Entry] {
    ENTRIES
}

const ENTRIES: &[Entry] = &[
    Entry {
        name: "durability",
        kind: "string",
        default: "fsync",
        range: "fsync, replicated or async",
        doc: "What an acknowledgement promises: on stable storage of the commit quorum, in memory of the commit quorum, or in memory of the primary.",
    },
    Entry {
        name: "cleanup.policy",
        kind: "list",
        default: "delete",
        range: "delete",
        doc: "How old data leaves the topic: by retention time and size.",
    },
    Entry {
        name: "compression.type",
        kind: "string",
        default: "producer",
        range: "producer",
        doc: "Batches are kept as the producer compressed them.",
    },
    Entry {
        name: "flush.bytes",
        kind: "long",
        default: "4194304",
        range: "at least 1",
        doc: "For topics that are not fsync: this many unflushed bytes of a partition are flushed without waiting for flush.ms.",
    },
    Entry {
        name: "flush.ms",
        kind: "long",
        default: "1000",
        range: "1 to 3600000",
        doc: "For topics that are not fsync: the longest time a record stays in memory only.",
    },
    Entry {
        name: "max.message.bytes",
        kind: "int",
        default: "1048588",
        range: "1 to 16777216",
        doc: "The largest record batch accepted, as sent (after compression).",
    },
    Entry {
        name: "message.timestamp.type",
        kind: "string",
        default: "CreateTime",
        range: "CreateTime or LogAppendTime",
        doc: "Whether records keep the producer's timestamp or get the time of the append.",
    },
    Entry {
        name: "min.insync.replicas",
        kind: "int",
        default: "1",
        range: "1 up to the replication factor",
        doc: "The commit quorum: how many in-sync replicas hold a record before it is acknowledged with acks=all.",
    },
    Entry {
        name: "retention.bytes",
        kind: "long",
        default: "-1",
        range: "-1 (no limit) or at least 0",
        doc: "A partition larger than this loses its oldest segments.",
    },
    Entry {
        name: "retention.ms",
        kind: "long",
        default: "604800000",
        range: "-1 (no limit) or at least 0",
        doc: "Segments whose newest record is older than this are deleted.",
    },
    Entry {
        name: "segment.bytes",
        kind: "int",
        default: "134217728",
        range: "1048576 to 1073741824",
        doc: "A segment file is closed and a new one begun at this size; retention works on whole segments.",
    },
    Entry {
        name: "segment.ms",
        kind: "long",
        default: "604800000",
        range: "at least 1000",
        doc: "A segment file is closed at this age even when it is not full, so that retention can delete it.",
    },
];

/// A topic's settings, parsed and with defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// What an ack promises.
    pub durability: Durability,
    /// The largest batch accepted, in bytes.
    pub batch_bytes_max: usize,
    /// Who sets timestamps.
    pub timestamp_type: TimestampType,
    /// The commit quorum (`min.insync.replicas`).
    pub commit_quorum: u16,
    /// What the log of each partition is told.
    pub log: LogConfig,
}

impl Default for TopicConfig {
    fn default() -> Self {
        TopicConfig::parse(&BTreeMap::new()).expect("the built-in defaults are within their own ranges")
    }
}

impl TopicConfig {
    /// Parses the settings a topic overrides; everything else takes its default.
    ///
    /// # Errors
    /// A sentence naming the setting, its value and what is allowed.
    pub fn parse(overrides: &BTreeMap<String, String>) -> Result<TopicConfig, String> {
        for name in overrides.keys() {
            if find(name).is_none() {
                return Err(unknown(name));
            }
        }
        let settings = Settings(overrides);
        let text = settings.text("durability");
        let durability: Durability = text.parse().map_err(|()| invalid("durability", text))?;
        let timestamp_type = match settings.text("message.timestamp.type") {
            "CreateTime" => TimestampType::CreateTime,
            "LogAppendTime" => TimestampType::LogAppendTime,
            other => return Err(invalid("message.timestamp.type", other)),
        };
        settings.only("cleanup.policy", "delete")?;
        settings.only("compression.type", "producer")?;
        let flush_after = millis(settings.integer("flush.ms", 1, 3_600_000)?);
        let flush_bytes = settings.integer("flush.bytes", 1, i64::MAX)? as u64;
        Ok(TopicConfig {
            durability,
            batch_bytes_max: settings.integer("max.message.bytes", 1, 16 << 20)? as usize,
            timestamp_type,
            commit_quorum: settings.integer("min.insync.replicas", 1, 1000)? as u16,
            log: LogConfig {
                sync: match durability {
                    Durability::Fsync => SyncMode::Wal,
                    Durability::Replicated | Durability::Async => {
                        SyncMode::Flush { after: flush_after, bytes: flush_bytes }
                    }
                },
                segment_bytes: settings.integer("segment.bytes", 1 << 20, 1 << 30)? as u64,
                segment_age_max: millis(settings.integer("segment.ms", 1000, i64::MAX)?),
                retention_bytes: unlimited(settings.integer("retention.bytes", -1, i64::MAX)?),
                retention_age: unlimited(settings.integer("retention.ms", -1, i64::MAX)?)
                    .map(Duration::from_millis),
            },
        })
    }
}

struct Settings<'a>(&'a BTreeMap<String, String>);

impl Settings<'_> {
    fn text(&self, name: &'static str) -> &str {
        let default = || find(name).map_or("", |entry| entry.default);
        self.0.get(name).map_or_else(default, String::as_str)
    }

    fn integer(&self, name: &'static str, min: i64, max: i64) -> Result<i64, String> {
        let text = self.text(name);
        match text.parse::<i64>() {
            Ok(value) if (min..=max).contains(&value) => Ok(value),
            _ => Err(invalid(name, text)),
        }
    }

    fn only(&self, name: &'static str, allowed: &str) -> Result<(), String> {
        let text = self.text(name);
        if text == allowed { Ok(()) } else { Err(invalid(name, text)) }
    }
}

/// The documented entry of a setting.
pub fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name)
}

fn invalid(name: &'static str, value: &str) -> String {
    let range = find(name).map_or("", |entry| entry.range);
    format!("{name}={value} is not allowed: {range}")
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = ENTRIES.iter().map(|entry| entry.name).collect();
    format!("there is no topic setting '{name}'; known are {}", names.join(", "))
}

fn millis(value: i64) -> Duration {
    Duration::from_millis(value.unsigned_abs())
}

fn unlimited(value: i64) -> Option<u64> {
    u64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> Result<TopicConfig, String> {
        TopicConfig::parse(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn every_default_parses_when_set_explicitly() {
        for entry in entries() {
            assert_eq!(with(entry.name, entry.default), Ok(TopicConfig::default()), "{}", entry.name);
        }
    }

    #[test]
    fn errors_name_the_setting_and_the_range() {
        let error = with("durability", "maybe").expect_err("not a durability");
        assert!(
            error.contains("durability=maybe") && error.contains("fsync, replicated or async"),
            "{error}"
        );
        let error = with("retention", "1").expect_err("not a setting");
        assert!(error.contains("'retention'") && error.contains("retention.ms"), "{error}");
        assert!(with("max.message.bytes", "0").is_err());
        assert!(with("max.message.bytes", "x").is_err());
        assert!(with("segment.bytes", "10").is_err());
    }

    #[test]
    fn minus_one_means_no_limit() {
        assert_eq!(with("retention.ms", "-1").expect("legal").log.retention_age, None);
        assert_eq!(with("retention.bytes", "5").expect("legal").log.retention_bytes, Some(5));
    }
}
