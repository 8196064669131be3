//! What a topic's settings demand of the records of a batch: keys, timestamps, codec. The records are looked at only where
//! a setting needs it; a topic with the defaults costs one comparison.

use bytes::BytesMut;
use heddle_proto::{
    batch::{self, BatchError, BatchHeader, RecordView},
    error::ErrorCode,
    ids::Timestamp,
    limits::DECOMPRESSED_BYTES_MAX,
};

use super::produce::ProduceError;
use crate::metadata::{TimestampType, TopicConfig, topic_config::CompressionType};

/// A record that makes its batch be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordFault {
    /// Its place in the batch.
    pub index: u32,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// So many faults of a batch are told; a client that sends more learns of the rest when these are mended.
const FAULTS_MAX: usize = 100;

const NO_KEY: &str = "a compacted topic needs a key";
const TOO_LATE: &str = "the timestamp is too far ahead of the broker's clock";
const TOO_EARLY: &str = "the timestamp is too far behind the broker's clock";

/// Checks the records of a whole batch against the settings.
///
/// # Errors
/// [`ProduceError::Records`] names the records that are wrong, [`ProduceError::Corrupt`] says that they cannot be read.
pub(super) fn check(
    config: &TopicConfig,
    bytes: &[u8],
    header: &BatchHeader,
    now: Timestamp,
) -> Result<(), ProduceError> {
    if config.compacts() {
        batch::validate_records(bytes, DECOMPRESSED_BYTES_MAX)?;
        find(bytes, ErrorCode::InvalidRecord, NO_KEY, |record| record.key.is_none())?;
    }
    if config.timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    let latest = now.get().saturating_add(millis(config.timestamp_after_max));
    if header.max_timestamp.get() > latest {
        find(bytes, ErrorCode::InvalidTimestamp, TOO_LATE, |record| record.timestamp.get() > latest)?;
        // No record is as late as the header says: it is the header that is wrong.
        return Err(ProduceError::Records {
            code: ErrorCode::InvalidTimestamp,
            reason: TOO_LATE,
            faults: Vec::new(),
        });
    }
    if let Some(before) = config.timestamp_before_max {
        let earliest = now.get().saturating_sub(millis(before));
        find(bytes, ErrorCode::InvalidTimestamp, TOO_EARLY, |record| {
            record.timestamp != Timestamp::NONE && record.timestamp.get() < earliest
        })?;
    }
    Ok(())
}

/// The batches in the codec that the topic keeps; as they came if the topic does not care. All of them are packed before
/// any is appended, so that one that cannot be leaves nothing behind.
///
/// # Errors
/// If the records cannot be unpacked, or a batch becomes larger than the topic allows.
pub(super) fn in_codec(
    config: &TopicConfig,
    mut batches: BytesMut,
    headers: &[BatchHeader],
) -> Result<BytesMut, ProduceError> {
    let CompressionType::Codec { codec, level } = config.compression else { return Ok(batches) };
    if headers.iter().all(|header| header.compression() == codec) {
        return Ok(batches);
    }
    let (mut packed, bytes_max) = (BytesMut::with_capacity(batches.len()), config.batch_bytes_max);
    for header in headers {
        let came = batches.split_to(header.batch_bytes as usize);
        if header.compression() == codec {
            packed.extend_from_slice(&came);
            continue;
        }
        let batch = batch::recompress(&came, codec, level, DECOMPRESSED_BYTES_MAX)?;
        if batch.len() > bytes_max {
            return Err(ProduceError::TooLarge { bytes: batch.len(), bytes_max });
        }
        packed.extend_from_slice(&batch);
    }
    Ok(packed)
}

fn find(
    bytes: &[u8],
    code: ErrorCode,
    reason: &'static str,
    is_wrong: impl Fn(&RecordView<'_>) -> bool,
) -> Result<(), ProduceError> {
    let (mut faults, mut index) = (Vec::new(), 0);
    let read: Result<(), BatchError> = batch::for_each_record(bytes, DECOMPRESSED_BYTES_MAX, |record| {
        if faults.len() < FAULTS_MAX && is_wrong(&record) {
            faults.push(RecordFault { index, reason });
        }
        index += 1;
    });
    read?;
    if faults.is_empty() { Ok(()) } else { Err(ProduceError::Records { code, reason, faults }) }
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use heddle_proto::batch::{BatchBuilder, Compression};

    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn config(settings: &[(&str, &str)]) -> TopicConfig {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        TopicConfig::parse(&settings.collect::<BTreeMap<_, _>>()).expect("valid settings")
    }

    fn sample(codec: Compression, records: &[(Option<&str>, i64)]) -> BytesMut {
        let mut builder = BatchBuilder::new(codec);
        for (key, timestamp) in records {
            let key = key.map(str::as_bytes);
            builder.push(Timestamp::new(*timestamp), key, Some(b"value"), &[]).expect("fits");
        }
        builder.build().expect("builds")
    }

    fn faults(settings: &[(&str, &str)], bytes: &[u8]) -> (Option<ErrorCode>, Vec<u32>) {
        let header = BatchHeader::parse(bytes).expect("a batch");
        match check(&config(settings), bytes, &header, Timestamp::new(NOW)) {
            Ok(()) => (None, Vec::new()),
            Err(ProduceError::Records { code, faults, .. }) => {
                (Some(code), faults.iter().map(|fault| fault.index).collect())
            }
            Err(error) => (Some(error.code()), Vec::new()),
        }
    }

    #[test]
    fn compacted_topics_want_keys_and_others_do_not() {
        let bytes = sample(Compression::Lz4, &[(Some("a"), NOW), (None, NOW), (Some(""), NOW), (None, NOW)]);
        assert_eq!(faults(&[], &bytes), (None, vec![]));
        let compact = [("cleanup.policy", "compact")];
        assert_eq!(faults(&compact, &bytes), (Some(ErrorCode::InvalidRecord), vec![1, 3]));
        assert_eq!(faults(&compact, &sample(Compression::Zstd, &[(Some("a"), NOW)])), (None, vec![]));
    }

    #[test]
    fn records_that_cannot_be_read_are_refused_where_keys_are_needed() {
        let mut bytes = sample(Compression::None, &[(Some("a"), NOW), (Some("b"), NOW)]);
        let last = bytes.len() - 1;
        bytes[last] = 7; // one header more than there is
        let compact = [("cleanup.policy", "compact,delete")];
        assert_eq!(faults(&[], &bytes), (None, vec![]));
        assert_eq!(faults(&compact, &bytes).0, Some(ErrorCode::InvalidRecord));
    }

    #[test]
    fn timestamps_stay_within_their_bounds() {
        let bytes = sample(Compression::Gzip, &[(None, NOW), (None, NOW + 3_600_001), (None, NOW - 50_000)]);
        assert_eq!(faults(&[], &bytes), (Some(ErrorCode::InvalidTimestamp), vec![1]));
        let wide = ("message.timestamp.after.max.ms", "3600001");
        assert_eq!(faults(&[wide], &bytes), (None, vec![]));
        let narrow = ("message.timestamp.before.max.ms", "49999");
        assert_eq!(faults(&[wide, narrow], &bytes), (Some(ErrorCode::InvalidTimestamp), vec![2]));
        let broker = ("message.timestamp.type", "LogAppendTime");
        assert_eq!(faults(&[broker, narrow], &bytes), (None, vec![]));
        let none = sample(Compression::None, &[(None, -1)]);
        assert_eq!(faults(&[narrow], &none), (None, vec![]), "no timestamp is no wrong one");
    }

    #[test]
    fn only_another_codec_is_compressed_anew() {
        let bytes = sample(Compression::Gzip, &[(None, NOW), (None, NOW)]);
        let header = BatchHeader::parse(&bytes).expect("a batch");
        let pack = |settings: &[(&str, &str)]| {
            let mut two = BytesMut::from(&bytes[..]);
            two.extend_from_slice(&bytes);
            in_codec(&config(settings), two, &[header, header])
        };
        for (name, codec) in [("uncompressed", Compression::None), ("zstd", Compression::Zstd)] {
            let packed = pack(&[("compression.type", name)]).expect("packs");
            let codecs = batch::batches(&packed).map(|found| {
                let (_, range) = found.expect("a batch");
                batch::verify(&packed[range]).expect("a batch").compression()
            });
            assert_eq!(codecs.collect::<Vec<_>>(), [codec, codec]);
        }
        for name in ["producer", "gzip"] {
            let kept = pack(&[("compression.type", name)]).expect("is kept");
            assert_eq!(kept[..], [&bytes[..], &bytes[..]].concat());
        }
        let small = [("compression.type", "uncompressed"), ("max.message.bytes", "70")];
        assert!(matches!(pack(&small), Err(ProduceError::TooLarge { bytes_max: 70, .. })));
    }
}
