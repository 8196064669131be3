//! Properties of whole batches: what is built is what is read, and damage never passes.

use bytes::Bytes;
use proptest::prelude::*;

use super::header::at;
use super::*;
use crate::ids::{Epoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use crate::limits::{BATCH_BYTES_MAX, RECORD_HEADERS_MAX};

const UNPACKED_MAX: usize = 1 << 20;

#[derive(Clone, Debug)]
struct Input {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
    let headers = proptest::collection::vec(("[a-z]{0,8}", bytes()), 0..4);
    let timestamp = prop_oneof![Just(-1), 0..2_000_000_000_000i64, any::<i64>()];
    let record = (timestamp, bytes(), bytes(), headers).prop_map(|(timestamp, key, value, headers)| Input {
        timestamp,
        key,
        value,
        headers,
    });
    proptest::collection::vec(record, 1..30)
}

fn record_headers(input: &Input) -> Vec<RecordHeader> {
    let owned = |bytes: &Vec<u8>| Bytes::copy_from_slice(bytes);
    input.headers.iter().map(|(name, value)| (Bytes::from(name.clone()), value.as_ref().map(owned))).collect()
}

fn build(compression: Compression, inputs: &[Input]) -> bytes::BytesMut {
    let mut builder = BatchBuilder::new(compression);
    for input in inputs {
        let headers = record_headers(input);
        builder
            .push(Timestamp::new(input.timestamp), input.key.as_deref(), input.value.as_deref(), &headers)
            .unwrap();
    }
    builder.build().unwrap()
}

fn three_records(compression: Compression) -> bytes::BytesMut {
    let mut builder =
        BatchBuilder::new(compression).producer(ProducerId::new(9), ProducerEpoch::new(1), Sequence::new(40));
    let header = (Bytes::from_static(b"trace"), Some(Bytes::from_static(b"on")));
    builder.push(Timestamp::new(1_000), Some(b"a"), Some(b"first"), &[header]).unwrap();
    builder.push(Timestamp::new(990), None, Some(b"second"), &[]).unwrap();
    builder.push(Timestamp::new(1_020), Some(b"c"), None, &[]).unwrap();
    builder.build().unwrap()
}

fn with_crc(mut bytes: bytes::BytesMut) -> bytes::BytesMut {
    let crc = crate::crc::crc32c(&bytes[at::CRC_COVERED..]);
    bytes[at::CRC..at::CRC_COVERED].copy_from_slice(&crc.to_be_bytes());
    bytes
}

proptest! {
    #[test]
    fn what_is_built_is_what_is_read(inputs in inputs(), codec in 0usize..5, base in 0..i64::MAX / 2) {
        let mut bytes = build(Compression::ALL[codec], &inputs);
        assign(&mut bytes, Offset::new(base), Epoch::new(3));
        let header = verify(&bytes).unwrap();
        prop_assert_eq!(header.base_offset, Offset::new(base));
        prop_assert_eq!(header.record_count as usize, inputs.len());
        validate_records(&bytes, UNPACKED_MAX).unwrap();
        let shared: Vec<_> = records_shared(&bytes.clone().freeze(), UNPACKED_MAX).unwrap().map(Result::unwrap).collect();
        let read: Vec<_> = records(&bytes, UNPACKED_MAX).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(&shared, &read);
        prop_assert_eq!(read.len(), inputs.len());
        for (index, (record, input)) in read.iter().zip(&inputs).enumerate() {
            prop_assert_eq!(record.offset, Offset::new(base + index as i64));
            prop_assert_eq!(record.timestamp.get(), input.timestamp);
            prop_assert_eq!(record.key.as_deref(), input.key.as_deref());
            prop_assert_eq!(record.value.as_deref(), input.value.as_deref());
            prop_assert_eq!(&record.headers, &record_headers(input));
        }
        prop_assert_eq!(header.max_timestamp.get(), inputs.iter().map(|input| input.timestamp).max().unwrap());
    }

    #[test]
    fn any_flipped_bit_under_the_crc_is_caught(inputs in inputs(), codec in 0usize..5, place: prop::sample::Index, bit in 0u8..8) {
        let mut bytes = build(Compression::ALL[codec], &inputs);
        let index = at::CRC + place.index(bytes.len() - at::CRC);
        bytes[index] ^= 1 << bit;
        prop_assert!(verify(&bytes).is_err());
    }

    #[test]
    fn truncation_is_refused_and_never_panics(inputs in inputs(), codec in 0usize..5, cut: prop::sample::Index) {
        let bytes = build(Compression::ALL[codec], &inputs);
        let cut = cut.index(bytes.len());
        let short = &bytes[..cut];
        let refused = matches!(verify(short), Err(BatchError::Truncated { .. }));
        prop_assert!(refused);
        prop_assert!(records(short, UNPACKED_MAX).is_err());
        prop_assert!(validate_records(short, UNPACKED_MAX).is_err());
        prop_assert_eq!(batches(short).filter(|item| item.is_ok()).count(), 0);
    }

    #[test]
    fn concatenated_batches_are_found(groups in proptest::collection::vec(inputs(), 1..5), tail: bool) {
        let whole: Vec<_> = groups.iter().map(|group| build(Compression::None, group)).collect();
        let mut bytes = whole.concat();
        let whole_bytes = bytes.len();
        if tail {
            bytes.extend_from_slice(&whole[0][..40]);
        }
        let mut walk = batches(&bytes);
        for batch in &whole {
            let (header, range) = walk.next().unwrap().unwrap();
            prop_assert_eq!(&bytes[range], &batch[..]);
            prop_assert_eq!(header, verify(batch).unwrap());
        }
        prop_assert_eq!(walk.position(), whole_bytes);
        prop_assert_eq!(walk.next().is_some_and(|item| item.is_err()), tail);
        prop_assert!(walk.next().is_none());
    }

    #[test]
    fn headers_survive_encode_and_parse(inputs in inputs(), pid in -1i64..100, sequence in 0i32..i32::MAX) {
        let mut bytes = build(Compression::None, &inputs);
        let mut header = BatchHeader::parse(&bytes).unwrap();
        header.producer_id = ProducerId::new(pid);
        header.base_sequence = Sequence::new(sequence);
        bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode());
        prop_assert_eq!(BatchHeader::parse(&bytes).unwrap(), header);
    }
}

#[test]
fn every_single_bit_flip_of_a_small_batch_is_caught() {
    for compression in Compression::ALL {
        let bytes = three_records(compression);
        for index in at::CRC..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[index] ^= 1 << bit;
                assert!(verify(&flipped).is_err(), "{compression:?} byte {index} bit {bit}");
            }
        }
    }
}

#[test]
fn header_positions_follow_the_kafka_layout() {
    let mut bytes = three_records(Compression::None);
    assign(&mut bytes, Offset::new(0x0102_0304_0506_0708), Epoch::new(0x1112_1314));
    assert_eq!(bytes[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(bytes[8..12], (bytes.len() as u32 - 12).to_be_bytes());
    assert_eq!(bytes[12..16], [0x11, 0x12, 0x13, 0x14]);
    assert_eq!(bytes[16], 2);
    let header = verify(&bytes).unwrap();
    assert_eq!(header.last_offset(), header.base_offset.plus(2));
    assert_eq!(header.next_offset(), header.base_offset.plus(3));
    assert_eq!(header.base_timestamp, Timestamp::new(1_000));
    assert_eq!(header.max_timestamp, Timestamp::new(1_020));
    assert_eq!(header.last_sequence(), Sequence::new(42));
}

#[test]
fn assigning_leaves_the_crc_valid() {
    let mut bytes = three_records(Compression::Zstd);
    let before = verify(&bytes).unwrap();
    assign(&mut bytes, Offset::new(77), Epoch::new(5));
    let after = verify(&bytes).unwrap();
    assert_eq!((after.base_offset, after.epoch), (Offset::new(77), Epoch::new(5)));
    assert_eq!(BatchHeader { base_offset: before.base_offset, epoch: before.epoch, ..after }, before);
}

#[test]
fn append_time_holds_for_every_record() {
    for compression in Compression::ALL {
        let mut bytes = three_records(compression);
        set_append_time(&mut bytes, Timestamp::new(5_555));
        let header = verify(&bytes).unwrap();
        assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(header.compression(), compression);
        for record in records(&bytes, UNPACKED_MAX).unwrap() {
            assert_eq!(record.unwrap().timestamp, Timestamp::new(5_555));
        }
    }
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    let patch = |at: usize, field: &[u8]| {
        let mut bytes = three_records(Compression::None);
        bytes[at..at + field.len()].copy_from_slice(field);
        verify(&with_crc(bytes)).unwrap_err()
    };
    assert_eq!(patch(at::MAGIC, &[1]), BatchError::Magic(1));
    assert_eq!(patch(at::BATCH_LENGTH, &48i32.to_be_bytes()), BatchError::TooShort(48));
    assert_eq!(patch(at::BATCH_LENGTH, &(-1i32).to_be_bytes()), BatchError::TooShort(-1));
    assert!(matches!(patch(at::BATCH_LENGTH, &i32::MAX.to_be_bytes()), BatchError::TooLarge(_)));
    assert!(matches!(patch(at::BATCH_LENGTH, &60i32.to_be_bytes()), BatchError::TrailingBytes(_)));
    assert_eq!(patch(at::ATTRIBUTES, &7i16.to_be_bytes()), BatchError::UnknownCodec(7));
    for (record_count, last_offset_delta) in [(0, 0), (2, 2), (4, 2), (-1, 2), (3, -1), (i32::MAX, i32::MIN)]
    {
        let mut bytes = three_records(Compression::None);
        bytes[at::RECORD_COUNT..][..4].copy_from_slice(&record_count.to_be_bytes());
        bytes[at::LAST_OFFSET_DELTA..][..4].copy_from_slice(&last_offset_delta.to_be_bytes());
        assert_eq!(verify(&with_crc(bytes)), Err(BatchError::Counts { record_count, last_offset_delta }));
    }
    for base in [-1, i64::MIN, i64::MAX, i64::MAX - 2] {
        assert_eq!(patch(at::BASE_OFFSET, &base.to_be_bytes()), BatchError::BaseOffset(base));
    }
    assert_eq!(patch(at::BASE_SEQUENCE, &(-1i32).to_be_bytes()), BatchError::Producer);
    assert_eq!(patch(at::PRODUCER_EPOCH, &(-1i16).to_be_bytes()), BatchError::Producer);
}

#[test]
fn compacted_batches_pass_only_where_they_may() {
    let mut bytes = three_records(Compression::None);
    bytes[at::LAST_OFFSET_DELTA..][..4].copy_from_slice(&9i32.to_be_bytes());
    let bytes = with_crc(bytes);
    assert!(matches!(verify(&bytes), Err(BatchError::Counts { .. })));
    assert_eq!(verify_stored(&bytes).unwrap().next_offset(), Offset::new(10));
    assert_eq!(records(&bytes, UNPACKED_MAX).unwrap().filter_map(Result::ok).count(), 3);
}

/// A batch around `body`, which need not be made of records.
fn around(body: &[u8], record_count: u32) -> bytes::BytesMut {
    let mut bytes = three_records(Compression::None);
    bytes.truncate(BATCH_HEADER_BYTES);
    bytes.extend_from_slice(body);
    let length = (bytes.len() - BATCH_LENGTH_PREFIX_BYTES) as u32;
    bytes[at::BATCH_LENGTH..][..4].copy_from_slice(&length.to_be_bytes());
    bytes[at::RECORD_COUNT..][..4].copy_from_slice(&record_count.to_be_bytes());
    bytes[at::LAST_OFFSET_DELTA..][..4].copy_from_slice(&(record_count - 1).to_be_bytes());
    with_crc(bytes)
}

#[test]
fn malformed_records_are_refused() {
    let cases: [(&[u8], u32, &str); 12] = [
        (&[], 1, "length is not a varint"),
        (&[1], 1, "length is negative"),
        (&[40, 0, 0], 1, "length reaches past the end"),
        (&[0], 1, "has no attributes"),
        (&[2, 0], 1, "timestamp is not a varint"),
        (&[6, 0, 0, 1], 1, "key does not fit the record"),
        (&[8, 0, 0, 0, 40], 1, "key does not fit the record"),
        (&[12, 0, 0, 0, 1, 1, 1], 1, "header count is negative"),
        (&[12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 0, 1, 1, 0], 2, "offset delta"),
        (&[14, 0, 0, 0, 1, 1, 0, 9], 1, "bytes follow its headers"),
        (&[12, 0, 0, 0, 1, 1, 0, 9], 1, "bytes follow the last record"),
        (&[14, 0, 0, 0, 1, 1, 2, 1], 1, "header name does not fit"),
    ];
    for (body, record_count, expected) in cases {
        let bytes = around(body, record_count);
        verify(&bytes).unwrap();
        let by_iterator = records(&bytes, UNPACKED_MAX).unwrap().find_map(Result::err);
        let by_validation = validate_records(&bytes, UNPACKED_MAX).err();
        for error in [by_iterator, by_validation] {
            let text = error.unwrap().to_string();
            assert!(text.contains(expected), "{text} does not say: {expected}");
        }
    }
}

#[test]
fn a_claimed_header_count_reserves_nothing() {
    let mut body = bytes::BytesMut::from(&[0, 0, 0, 1, 1][..]);
    varint::write(&mut body, i64::from(RECORD_HEADERS_MAX) + 1);
    let mut record = bytes::BytesMut::new();
    varint::write(&mut record, body.len() as i64);
    record.extend_from_slice(&body);
    let error = validate_records(&around(&record, 1), UNPACKED_MAX).unwrap_err();
    assert_eq!(error, BatchError::Record { index: 0, reason: "has too many headers" });
}

#[test]
fn the_builder_keeps_its_limits() {
    let mut builder = BatchBuilder::new(Compression::None);
    assert!(matches!(builder.clone().build(), Err(BatchError::Counts { .. })));
    let large = vec![0; BATCH_BYTES_MAX - 200];
    builder.push(Timestamp::NONE, None, Some(&large), &[]).unwrap();
    let before = builder.size_bytes();
    assert!(matches!(
        builder.push(Timestamp::NONE, None, Some(&[0; 200]), &[]),
        Err(BatchError::TooLarge(_))
    ));
    assert_eq!((builder.size_bytes(), builder.record_count()), (before, 1));
    let bytes = builder.build().unwrap();
    assert_eq!(bytes.len(), before);
    verify(&bytes).unwrap();
}
