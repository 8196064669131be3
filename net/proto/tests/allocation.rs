//! The data path must not touch the heap: decoding its requests, verifying batches, encoding its replies.

mod common;

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use common::allocations;
use heddle_proto::batch::{
    BATCH_HEADER_BYTES, BATCH_LENGTH_PREFIX_BYTES, BatchBuilder, Compression, assign, batches, decompress,
    records_shared, set_append_time, validate_records, verify,
};
use heddle_proto::native::{Encoder, Reply, Request, decode_reply, decode_request, split_frame_ref};
use heddle_proto::{Epoch, Offset, Timestamp, samples};

fn header(frame: &[u8]) -> &[u8] {
    split_frame_ref(&frame[4..]).expect("samples are whole frames").0
}

#[test]
fn the_recorder_records() {
    let (_, seen) = allocations(|| black_box(vec![0u8; 5_000]));
    assert_eq!((seen.count, seen.largest_bytes), (1, 5_000));
}

#[test]
fn requests_of_the_data_path_decode_without_allocating() {
    let mut checked = 0;
    for (request, frame) in samples::requests().iter().zip(samples::request_frames()) {
        if matches!(
            request,
            Request::Produce { .. }
                | Request::Fetch { .. }
                | Request::Credit { .. }
                | Request::Subscribe { .. }
        ) {
            let (decoded, seen) = allocations(|| decode_request(header(&frame)));
            assert_eq!(seen.count, 0, "{request:?}");
            assert_eq!(decoded.unwrap().1, *request);
            checked += 1;
        }
    }
    assert!(checked >= 4);
}

#[test]
fn replies_of_the_data_path_encode_and_decode_without_allocating() {
    let mut encoder = Encoder::new();
    let mut out = BytesMut::with_capacity(64 * 1024);
    let mut checked = 0;
    for reply in samples::replies() {
        if matches!(reply, Reply::Produce { .. } | Reply::Fetch { .. } | Reply::Push { .. }) {
            encoder.reply(1, &reply, &mut out, 0).unwrap(); // the first use of a shape may grow the builder
            out.clear();
            let (encoded, seen) = allocations(|| encoder.reply(1, &reply, &mut out, 1000));
            encoded.unwrap();
            assert_eq!(seen.count, 0, "encoding {reply:?}");
            out.extend_from_slice(&[0; 1000]);
            let (decoded, seen) = allocations(|| decode_reply(header(&out)));
            assert_eq!((seen.count, decoded.unwrap().1), (0, reply));
            out.clear();
            checked += 1;
        }
    }
    assert!(checked >= 3);
}

#[test]
fn batches_are_verified_and_changed_without_allocating() {
    for mut bytes in samples::batches() {
        let ((), seen) = allocations(|| {
            let header = verify(&bytes).unwrap();
            assert_eq!(batches(&bytes).count(), 1);
            assign(&mut bytes, header.base_offset.plus(5), Epoch::new(8));
            set_append_time(&mut bytes, Timestamp::new(1));
        });
        assert_eq!(seen.count, 0);
        assert_eq!(verify(&bytes).unwrap().base_offset, Offset::new(1_005));
    }
}

#[test]
fn uncompressed_records_are_validated_without_allocating() {
    let bytes = &samples::batches()[2];
    let (valid, seen) = allocations(|| validate_records(bytes, usize::MAX));
    assert_eq!((valid, seen.count), (Ok(()), 0));
}

#[test]
fn a_snappy_length_reserves_nothing() {
    let claims_64_mib = [0x80, 0x80, 0x80, 0x20, 0x00];
    let (unpacked, seen) = allocations(|| decompress(Compression::Snappy, &claims_64_mib, 128 << 20).is_ok());
    assert!(!unpacked);
    assert!(seen.largest_bytes < 1024, "{seen:?}");
}

#[test]
fn a_header_count_reserves_nothing() {
    // Length, attributes, timestamp, offset, no key, no value, then the count: 60,000 and `i32::MAX`.
    for count in [&[0xc0, 0xa9, 0x07][..], &[0xfe, 0xff, 0xff, 0xff, 0x0f]] {
        let fields = [&[0, 0, 0, 1, 1], count].concat();
        let record = [&[2 * fields.len() as u8][..], &fields].concat();
        let bytes = Bytes::from(around(&record));
        let (refused, seen) = allocations(|| {
            records_shared(&bytes, usize::MAX).and_then(|mut records| records.next().expect("one is there"))
        });
        assert!(refused.unwrap_err().to_string().contains("header"));
        assert!(seen.largest_bytes < 1024, "{seen:?}");
    }
}

/// A batch whose one record is these bytes. Its CRC is wrong, which reading records does not ask about.
fn around(record: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp::NONE, None, None, &[]).expect("a small record");
    let header = builder.build().expect("a small batch")[..BATCH_HEADER_BYTES].to_vec();
    let mut bytes = [&header, record].concat();
    let length = (bytes.len() - BATCH_LENGTH_PREFIX_BYTES) as u32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes
}
