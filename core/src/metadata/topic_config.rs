//! The settings of a topic, parsed and checked, as the partitions and their logs work by them.

use std::{collections::BTreeMap, time::Duration};

use heddle_log_store::{Compaction, LogConfig, SyncMode};
use heddle_proto::batch::Compression;

use super::topic_entries::ENTRIES;
pub use super::topic_entries::Entry;
pub use crate::config::Durability;

/// Who sets a record's timestamp (Kafka's `message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer.
    CreateTime,
    /// The broker, when it appends the batch.
    LogAppendTime,
}

/// What becomes of the codec of a batch (Kafka's `compression.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    /// The producer's stays.
    Producer,
    /// A batch in another one is compressed anew.
    Codec {
        /// The codec to keep batches in.
        codec: Compression,
        /// At which level, where the codec has levels and one is set.
        level: Option<i32>,
    },
}

/// Every setting a topic may have, in the order in which they are listed.
pub fn entries() -> &'static [Entry] {
    ENTRIES
}

/// A topic's settings, parsed and with defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// What an ack promises.
    pub durability: Durability,
    /// The largest batch accepted, in bytes.
    pub batch_bytes_max: usize,
    /// Who sets timestamps.
    pub timestamp_type: TimestampType,
    /// How far a producer's timestamp may lie ahead of the broker's clock.
    pub timestamp_after_max: Duration,
    /// How far it may lie behind; `None`: any.
    pub timestamp_before_max: Option<Duration>,
    /// What becomes of the codec of a batch.
    pub compression: CompressionType,
    /// Whether old records leave by retention, and may be deleted by request.
    pub deletes: bool,
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
        let cleanup = settings.cleanup()?;
        settings.check_without_effect()?;
        let compaction = settings.compaction()?;
        let retention_bytes = unlimited(settings.integer("retention.bytes", -1, i64::MAX)?);
        let retention_ms = unlimited(settings.integer("retention.ms", -1, i64::MAX)?);
        let before_max = settings.integer("message.timestamp.before.max.ms", 0, i64::MAX)?;
        Ok(TopicConfig {
            durability,
            batch_bytes_max: settings.integer("max.message.bytes", 1, 16 << 20)? as usize,
            timestamp_type,
            timestamp_after_max: millis(settings.integer("message.timestamp.after.max.ms", 0, i64::MAX)?),
            timestamp_before_max: Some(before_max).filter(|max| *max < i64::MAX).map(millis),
            compression: settings.compression()?,
            deletes: cleanup.deletes,
            commit_quorum: settings.integer("min.insync.replicas", 1, 1000)? as u16,
            log: LogConfig {
                sync: settings.sync(durability)?,
                segment_bytes: settings.segment_bytes()?,
                segment_age_max: millis(settings.integer("segment.ms", 1, i64::MAX)?.max(SEGMENT_MS_MIN)),
                retention_bytes: retention_bytes.filter(|_| cleanup.deletes),
                retention_age: retention_ms.filter(|_| cleanup.deletes).map(Duration::from_millis),
                compaction: Some(compaction).filter(|_| cleanup.compacts),
            },
        })
    }

    /// Whether only the newest record of each key is kept, so that every record needs one.
    pub fn compacts(&self) -> bool {
        self.log.compaction.is_some()
    }
}

/// A segment younger than this is not closed for its age.
const SEGMENT_MS_MIN: i64 = 100;
/// Longer than this nothing stays in memory only.
const FLUSH_MS_MAX: i64 = 3_600_000;
/// Smaller segments would be mostly files, larger ones hold back retention and compaction for too long.
const SEGMENT_BYTES: std::ops::RangeInclusive<i64> = 64 << 10..=1 << 30;

/// What `cleanup.policy` names.
struct Cleanup {
    deletes: bool,
    compacts: bool,
}

struct Settings<'a>(&'a BTreeMap<String, String>);

impl Settings<'_> {
    fn text(&self, name: &'static str) -> &str {
        let default = || find(name).map_or("", |entry| entry.default);
        self.0.get(name).map_or_else(default, String::as_str)
    }

    fn integer(&self, name: &'static str, min: i64, max: i64) -> Result<i64, String> {
        let text = self.text(name);
        match text.trim().parse::<i64>() {
            Ok(value) if (min..=max).contains(&value) => Ok(value),
            _ => Err(invalid(name, text)),
        }
    }

    fn boolean(&self, name: &'static str) -> Result<bool, String> {
        match self.text(name) {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(invalid(name, other)),
        }
    }

    fn cleanup(&self) -> Result<Cleanup, String> {
        let text = self.text("cleanup.policy");
        let mut cleanup = Cleanup { deletes: false, compacts: false };
        for word in text.split(',').map(str::trim) {
            match word {
                "delete" => cleanup.deletes = true,
                "compact" => cleanup.compacts = true,
                _ => return Err(invalid("cleanup.policy", text)),
            }
        }
        Ok(cleanup)
    }

    fn compaction(&self) -> Result<Compaction, String> {
        let lag_min = self.integer("min.compaction.lag.ms", 0, i64::MAX)?;
        let lag_max = self.integer("max.compaction.lag.ms", 1, i64::MAX)?;
        if lag_min > lag_max {
            return Err(invalid("min.compaction.lag.ms", self.text("min.compaction.lag.ms")));
        }
        let ratio = self.text("min.cleanable.dirty.ratio");
        let permille = match ratio.trim().parse::<f64>() {
            Ok(value) if (0.0..=1.0).contains(&value) => (value * 1000.0).round() as u16,
            _ => return Err(invalid("min.cleanable.dirty.ratio", ratio)),
        };
        Ok(Compaction {
            dirty_permille_min: permille,
            lag_min: millis(lag_min),
            lag_max: Some(lag_max).filter(|max| *max < i64::MAX).map(millis),
            tombstone_retention: millis(self.integer("delete.retention.ms", 0, i64::MAX)?),
        })
    }

    fn compression(&self) -> Result<CompressionType, String> {
        let gzip = self.integer("compression.gzip.level", -1, 9)?;
        if gzip == 0 {
            return Err(invalid("compression.gzip.level", "0"));
        }
        self.integer("compression.lz4.level", 1, 17)?;
        let zstd = self.integer("compression.zstd.level", -131_072, 22)?;
        let codec = match self.text("compression.type") {
            "producer" => return Ok(CompressionType::Producer),
            "uncompressed" => Compression::None,
            name => Compression::ALL
                .into_iter()
                .find(|codec| *codec != Compression::None && codec.name() == name)
                .ok_or_else(|| invalid("compression.type", name))?,
        };
        let level = match codec {
            Compression::Gzip => Some(gzip as i32).filter(|level| *level > 0),
            Compression::Zstd => Some(zstd as i32),
            _ => None,
        };
        Ok(CompressionType::Codec { codec, level })
    }

    fn sync(&self, durability: Durability) -> Result<SyncMode, String> {
        let after = millis(self.integer("flush.ms", 1, i64::MAX)?.min(FLUSH_MS_MAX));
        let bytes = self.integer("flush.bytes", 1, i64::MAX)? as u64;
        Ok(match durability {
            Durability::Fsync => SyncMode::Wal,
            Durability::Replicated | Durability::Async => SyncMode::Flush { after, bytes },
        })
    }

    fn segment_bytes(&self) -> Result<u64, String> {
        let bytes = self.integer("segment.bytes", 14, i64::from(i32::MAX))?;
        Ok(bytes.clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end()) as u64)
    }

    /// What is accepted for the sake of clients is at least what it claims to be.
    fn check_without_effect(&self) -> Result<(), String> {
        for (name, min) in [
            ("file.delete.delay.ms", 0),
            ("flush.messages", 1),
            ("index.interval.bytes", 0),
            ("local.retention.bytes", -2),
            ("local.retention.ms", -2),
            ("segment.index.bytes", 4),
            ("segment.jitter.ms", 0),
        ] {
            self.integer(name, min, i64::MAX)?;
        }
        for name in ["preallocate", "unclean.leader.election.enable"] {
            self.boolean(name)?;
        }
        for name in ["remote.log.copy.disable", "remote.log.delete.on.disable", "remote.storage.enable"] {
            if self.boolean(name)? {
                return Err(invalid(name, "true"));
            }
        }
        Ok(())
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
        for (name, value) in [
            ("cleanup.policy", "compact,forget"),
            ("cleanup.policy", ""),
            ("compression.type", "none"),
            ("compression.gzip.level", "0"),
            ("min.cleanable.dirty.ratio", "1.01"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("remote.storage.enable", "true"),
            ("preallocate", "yes"),
            ("segment.jitter.ms", "-1"),
            ("max.compaction.lag.ms", "0"),
        ] {
            let error = with(name, value).expect_err(name);
            assert!(error.starts_with(&format!("{name}={value} ")), "{error}");
        }
        let lags = [("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "9")];
        let lags = lags.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert!(TopicConfig::parse(&lags.into()).is_err());
    }

    #[test]
    fn each_cleanup_policy_is_what_it_says() {
        let limits = |value| {
            let config = with("cleanup.policy", value).expect("legal");
            (config.log.retention_age.is_some(), config.deletes, config.compacts())
        };
        assert_eq!(limits("delete"), (true, true, false));
        assert_eq!(limits("compact"), (false, false, true));
        assert_eq!(limits("compact, delete"), (true, true, true));
        let compaction = with("min.cleanable.dirty.ratio", "0.123").expect("legal").log.compaction;
        assert_eq!(compaction, None, "the topic is not compacted");
    }

    #[test]
    fn kafka_s_own_extremes_are_taken_within_bounds() {
        let log = |name, value| with(name, value).expect("legal").log;
        assert_eq!(log("segment.bytes", "14").segment_bytes, 64 << 10);
        assert_eq!(log("segment.bytes", "2147483647").segment_bytes, 1 << 30);
        assert_eq!(log("segment.ms", "1").segment_age_max, Duration::from_millis(100));
        assert_eq!(with("flush.ms", "9223372036854775807").expect("legal"), TopicConfig::default());
        let zstd = with("compression.type", "zstd").expect("legal").compression;
        assert_eq!(zstd, CompressionType::Codec { codec: Compression::Zstd, level: Some(3) });
    }

    #[test]
    fn minus_one_means_no_limit() {
        assert_eq!(with("retention.ms", "-1").expect("legal").log.retention_age, None);
        assert_eq!(with("retention.bytes", "5").expect("legal").log.retention_bytes, Some(5));
    }
}
