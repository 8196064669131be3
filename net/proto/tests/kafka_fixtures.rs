//! Our batches against an independent implementation: the `kafka-protocol` crate reads what we write and we read
//! what it writes, for every codec; and bytes taken from Kafka's own producers.

use bytes::{Bytes, BytesMut};
use heddle_proto::batch::{
    BatchBuilder, Compression, Record, TimestampType, assign, records, validate_records, verify,
};
use heddle_proto::{Epoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as theirs;

const UNPACKED_MAX: usize = 1 << 20;

const CODECS: [(Compression, theirs::Compression); 5] = [
    (Compression::None, theirs::Compression::None),
    (Compression::Gzip, theirs::Compression::Gzip),
    (Compression::Snappy, theirs::Compression::Snappy),
    (Compression::Lz4, theirs::Compression::Lz4),
    (Compression::Zstd, theirs::Compression::Zstd),
];

/// Records with every shape of key, value and headers; `bulk` bytes in one of them.
fn their_records(bulk: usize) -> Vec<theirs::Record> {
    let record = |index: i64, key: Option<&'static str>, value: Option<Bytes>, headers| theirs::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 5,
        producer_id: 4_000,
        producer_epoch: 3,
        timestamp_type: theirs::TimestampType::Creation,
        offset: 100 + index,
        sequence: 70 + index as i32,
        timestamp: 1_700_000_000_000 + index * 13 % 7,
        key: key.map(|key| Bytes::from_static(key.as_bytes())),
        value,
        headers,
    };
    let headers = |pairs: &[(&'static str, Option<&'static str>)]| -> IndexMap<StrBytes, Option<Bytes>> {
        let pair = |&(name, value): &(&'static str, Option<&'static str>)| {
            (StrBytes::from_static_str(name), value.map(|value| Bytes::from_static(value.as_bytes())))
        };
        pairs.iter().map(pair).collect()
    };
    let large: Vec<u8> = (0..bulk).map(|index| (index * index / 13 % 251) as u8).collect();
    vec![
        record(0, Some("key"), Some(Bytes::from_static(b"value")), headers(&[])),
        record(1, None, Some(Bytes::from(large)), headers(&[("trace", Some("on")), ("null", None)])),
        record(2, Some("tombstone"), None, headers(&[])),
        record(3, Some(""), Some(Bytes::new()), headers(&[("", Some(""))])),
    ]
}

fn as_ours(record: &theirs::Record) -> Record {
    let header =
        |(name, value): (&StrBytes, &Option<Bytes>)| (Bytes::copy_from_slice(name.as_bytes()), value.clone());
    Record {
        offset: Offset::new(record.offset),
        timestamp: Timestamp::new(record.timestamp),
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.iter().map(header).collect(),
    }
}

#[test]
fn we_read_what_the_crate_writes() {
    for bulk in [10, 100_000] {
        for (ours, compression) in CODECS {
            let expected = their_records(bulk);
            let mut bytes = BytesMut::new();
            let options = theirs::RecordEncodeOptions { version: 2, compression };
            theirs::RecordBatchEncoder::encode(&mut bytes, &expected, &options).unwrap();

            let header = verify(&bytes).unwrap();
            assert_eq!(header.compression(), ours);
            assert_eq!((header.base_offset, header.last_offset()), (Offset::new(100), Offset::new(103)));
            assert_eq!((header.epoch, header.record_count), (Epoch::new(5), 4));
            assert_eq!(header.producer_id, ProducerId::new(4_000));
            assert_eq!(header.producer_epoch, ProducerEpoch::new(3));
            assert_eq!(
                (header.base_sequence, header.last_sequence()),
                (Sequence::new(70), Sequence::new(73))
            );
            assert_eq!(header.max_timestamp, Timestamp::new(1_700_000_000_006));
            assert_eq!(header.attributes.timestamp_type(), TimestampType::CreateTime);
            validate_records(&bytes, UNPACKED_MAX).unwrap();
            let read: Vec<_> = records(&bytes, UNPACKED_MAX).unwrap().map(Result::unwrap).collect();
            assert_eq!(read, expected.iter().map(as_ours).collect::<Vec<_>>(), "{ours:?}");
        }
    }
}

#[test]
fn the_crate_reads_what_we_write() {
    for bulk in [10, 100_000] {
        for (compression, _) in CODECS {
            let expected = their_records(bulk);
            let producer = (ProducerId::new(4_000), ProducerEpoch::new(3), Sequence::new(70));
            let mut builder = BatchBuilder::new(compression).producer(producer.0, producer.1, producer.2);
            for record in expected.iter().map(as_ours) {
                builder
                    .push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers)
                    .unwrap();
            }
            let mut bytes = builder.build().unwrap();
            assign(&mut bytes, Offset::new(100), Epoch::new(5));
            let set = theirs::RecordBatchDecoder::decode(&mut bytes.freeze()).unwrap();
            assert_eq!(set.records, expected, "{compression:?}");
        }
    }
}

/// A batch with one record as Kafka's producers write it; the record is `value = sdfdsf` without a key.
fn around(compression: u8, body: &[u8]) -> BytesMut {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp::new(0), None, Some(b"sdfdsf"), &[]).expect("a small record");
    let mut bytes = builder.build().expect("a small batch");
    bytes.truncate(61);
    bytes.extend_from_slice(body);
    let length = (bytes.len() - 12) as u32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[22] = compression;
    let crc = heddle_proto::crc::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn golden_bytes_of_each_framing_are_read() {
    let record = b"\x18\0\0\0\x01\x0csdfdsf\0";
    let xerial = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x0f\x0d\x30\x18\0\0\0\x01\x0csdfdsf\0";
    let raw_snappy = b"\x0d\x30\x18\0\0\0\x01\x0csdfdsf\0";
    // An RFC 8878 frame: magic, single segment of 13 bytes, one last raw block.
    let zstd = [&b"\x28\xb5\x2f\xfd\x20\x0d\x69\0\0"[..], record].concat();
    // An RFC 1952 member with one stored block and its trailer: CRC-32 and size.
    let mut gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01\x0d\0\xf2\xff".to_vec();
    gzip.extend_from_slice(record);
    gzip.extend_from_slice(&GZIP_CRC32.to_le_bytes());
    gzip.extend_from_slice(&13u32.to_le_bytes());
    // LZ4 frame: version 1, independent blocks of at most 64 KiB, header checksum, one stored block, end mark.
    let lz4 = [&b"\x04\x22\x4d\x18\x60\x40\x82\x0d\0\0\x80"[..], record, b"\0\0\0\0"].concat();
    for (codec, body) in [(0, &record[..]), (1, &gzip), (2, xerial), (2, raw_snappy), (3, &lz4), (4, &zstd)] {
        let bytes = around(codec, body);
        verify(&bytes).unwrap();
        let read: Vec<_> = records(&bytes, UNPACKED_MAX).unwrap().map(Result::unwrap).collect();
        assert_eq!(read.len(), 1, "codec {codec}");
        assert_eq!(read[0].value.as_deref(), Some(&b"sdfdsf"[..]), "codec {codec}");
    }
}

/// CRC-32 (of gzip, not Castagnoli's) of the record above.
const GZIP_CRC32: u32 = 0x2867_4d52;
