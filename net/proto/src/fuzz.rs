//! Entry points for fuzzing: each takes arbitrary bytes and panics if a decoder breaks a promise. It returns whether
//! the decoder accepted the bytes, so that a driver can tell that it reaches more than the first check.
//!
//! `tests/fuzz.rs` drives them on the stable toolchain; any fuzzer can call them with feature `fuzzing`.

use bytes::{Bytes, BytesMut};

use crate::batch::{
    BATCH_HEADER_BYTES, BatchBuilder, BatchError, BatchHeader, Compression, Keep, Record, RecordView,
    Retained, assign, batches, decompress, emptied, for_each_record, records, records_shared, retain,
    set_append_time, validate_records, verify, verify_stored,
};
use crate::crc::{Crc32c, crc32c};
use crate::error::ErrorCode;
use crate::ids::{Epoch, Offset, Timestamp, TopicId};
use crate::limits::{BATCH_BYTES_MAX, FRAME_BYTES_MAX, HEADER_BYTES_MAX};
use crate::native::{
    FRAME_LENGTH_BYTES, HEADER_LENGTH_BYTES, check_preface, decode_reply, decode_request, encode_reply,
    encode_request, frame_lengths, split_frame, split_frame_ref,
};

/// Limit of decompression in the targets below.
pub const UNPACKED_BYTES_MAX: usize = 1 << 20;

/// A fuzz target: a decoder and the promises it is held to.
pub type Target = fn(&[u8]) -> bool;

/// Every target by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("batch_header", fuzz_batch_header),
    ("verify", fuzz_verify),
    ("batches", fuzz_batches),
    ("records", fuzz_records),
    ("rewrite", fuzz_rewrite),
    ("decompress", fuzz_decompress),
    ("builder", fuzz_builder),
    ("frame", fuzz_frame),
    ("native_request", fuzz_native_request),
    ("native_reply", fuzz_native_reply),
    ("small_parsers", fuzz_small_parsers),
];

/// A parsed header is within limits, and encodes to the bytes it came from.
pub fn fuzz_batch_header(data: &[u8]) -> bool {
    let Ok(header) = BatchHeader::parse(data) else { return false };
    assert_eq!(header.encode(), data[..BATCH_HEADER_BYTES]);
    let batch_bytes = header.batch_bytes as usize;
    assert!((BATCH_HEADER_BYTES..=BATCH_BYTES_MAX).contains(&batch_bytes));
    assert!(u64::from(header.record_count) <= u64::from(header.last_offset_delta) + 1);
    assert!(header.base_offset >= Offset::ZERO && header.next_offset() > header.base_offset);
    assert_eq!(header.next_offset().since(header.base_offset), i64::from(header.last_offset_delta) + 1);
    assert!(header.last_sequence().get() >= -1);
    assert!(Compression::ALL.contains(&header.compression()));
    true
}

/// What verifies is whole, and still verifies after what a primary does to it; damage to any byte is caught.
pub fn fuzz_verify(data: &[u8]) -> bool {
    let strict = verify(data);
    let Ok(header) = verify_stored(data) else {
        assert!(strict.is_err());
        return false;
    };
    assert_eq!(header.batch_bytes as usize, data.len());
    let mut bytes = data.to_vec();
    assign(&mut bytes, Offset::new(5), Epoch::new(6));
    let assigned = verify_stored(&bytes).expect("assign leaves a batch valid");
    let unassigned = BatchHeader { base_offset: header.base_offset, epoch: header.epoch, ..assigned };
    assert_eq!(unassigned, header);
    set_append_time(&mut bytes, Timestamp::new(9));
    let stamped = verify_stored(&bytes).expect("set_append_time leaves a batch valid");
    assert_eq!(stamped.max_timestamp, Timestamp::new(9));
    assert_eq!(verify(&bytes).is_ok(), strict.is_ok());
    let index = crc_place(data);
    bytes.copy_from_slice(data);
    bytes[index] ^= 1 << (index % 8);
    assert!(verify_stored(&bytes).is_err(), "a flipped bit in byte {index} passed");
    true
}

/// Some byte from the CRC on, chosen by the data.
fn crc_place(data: &[u8]) -> usize {
    const CRC_AT: usize = 17;
    CRC_AT + crc32c(data) as usize % (data.len() - CRC_AT)
}

/// Batches lie end to end, inside the input, and nothing follows an error.
pub fn fuzz_batches(data: &[u8]) -> bool {
    let mut walk = batches(data);
    let mut end = 0;
    while let Some(item) = walk.next() {
        let Ok((header, range)) = item else {
            assert!(walk.next().is_none());
            break;
        };
        assert_eq!((range.start, range.len()), (end, header.batch_bytes as usize));
        assert!(range.len() >= BATCH_HEADER_BYTES && range.end <= data.len());
        end = range.end;
        assert_eq!(walk.position(), end);
    }
    assert_eq!(walk.position(), end);
    end > 0
}

/// A batch made anew from every other record holds those as they were, in the same place, and verifies.
pub fn fuzz_rewrite(data: &[u8]) -> bool {
    let keep = |offset: Offset| offset.get() % 2 == 0;
    let decide = |view: RecordView<'_>| if keep(view.offset) { Keep::UntilHorizon } else { Keep::No };
    let Ok(kept) = retain(data, Timestamp::new(77), UNPACKED_BYTES_MAX, decide) else { return false };
    let header = BatchHeader::parse(data).expect("it was read");
    if let Retained::Part(part) = &kept {
        let made = verify_stored(part).expect("what was made is a batch");
        assert_eq!((made.base_offset, made.next_offset()), (header.base_offset, header.next_offset()));
        let view = |view: RecordView<'_>| {
            let owned = |field: Option<&[u8]>| field.map(<[u8]>::to_vec);
            (view.offset, view.timestamp, owned(view.key), owned(view.value))
        };
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let read = for_each_record(data, UNPACKED_BYTES_MAX, |record| before.push(view(record)));
        read.expect("it was read before");
        before.retain(|(offset, ..)| keep(*offset));
        let read = for_each_record(part, UNPACKED_BYTES_MAX * 2, |record| after.push(view(record)));
        read.expect("what was made can be read");
        assert_eq!(before, after);
    }
    let shell = verify_stored(&emptied(&header)).expect("a shell is a batch");
    assert_eq!((shell.record_count, shell.next_offset()), (0, header.next_offset()));
    true
}

/// Records are as many and as ordered as the header says, both readers agree, and building them anew gives the
/// same records. The CRC is not asked, so that damage reaches the parsers.
pub fn fuzz_records(data: &[u8]) -> bool {
    let valid = validate_records(data, UNPACKED_BYTES_MAX);
    let Ok(iterator) = records(data, UNPACKED_BYTES_MAX) else {
        assert!(valid.is_err());
        return false;
    };
    let header = *iterator.header();
    assert!(iterator.body_bytes() <= UNPACKED_BYTES_MAX);
    let all: Result<Vec<Record>, BatchError> = iterator.collect();
    let shared = records_shared(&Bytes::copy_from_slice(data), UNPACKED_BYTES_MAX);
    assert_eq!(shared.and_then(|shared| shared.collect()), all);
    let Ok(all) = all else {
        assert!(valid.is_err());
        return false;
    };
    assert_eq!(all.len(), header.record_count as usize);
    let offsets: Vec<_> = all.iter().map(|record| record.offset).collect();
    assert!(offsets.is_sorted_by(|a, b| a < b));
    assert!(offsets.iter().all(|&offset| (header.base_offset..=header.last_offset()).contains(&offset)));
    let dense = offsets.iter().zip(0..).all(|(offset, index)| offset.since(header.base_offset) == index);
    assert_eq!(valid.is_ok(), dense, "validation must accept exactly dense batches: {valid:?}");
    if !all.is_empty() {
        check_rebuilt(&all, header.compression());
    }
    true
}

fn check_rebuilt(original: &[Record], compression: Compression) {
    let mut builder = BatchBuilder::new(compression);
    for record in original {
        builder
            .push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers)
            .expect("what was read is within the limits");
    }
    let size_bytes = builder.size_bytes();
    let bytes = builder.build().expect("what was read is within the limits");
    assert!(compression != Compression::None || bytes.len() == size_bytes);
    verify(&bytes).expect("what is built verifies");
    validate_records(&bytes, 2 * UNPACKED_BYTES_MAX).expect("what is built validates");
    let rebuilt = records(&bytes, 2 * UNPACKED_BYTES_MAX).expect("what is built unpacks");
    for ((index, record), old) in (0..).zip(rebuilt).zip(original) {
        let record = record.expect("what is built parses");
        assert_eq!(record, Record { offset: Offset::new(index), ..old.clone() });
    }
}

/// No codec yields more than the limit. The first byte chooses codec and limit.
pub fn fuzz_decompress(data: &[u8]) -> bool {
    let Some((&choice, input)) = data.split_first() else { return false };
    let compression = Compression::ALL[usize::from(choice) % Compression::ALL.len()];
    let bytes_max = 1 << (choice / 8 % 20);
    let limited = decompress(compression, input, bytes_max);
    if let Ok(unpacked) = &limited {
        assert!(unpacked.len() <= bytes_max);
    }
    let Ok(unpacked) = decompress(compression, input, UNPACKED_BYTES_MAX) else { return false };
    if unpacked.len() <= bytes_max {
        assert_eq!(limited, Ok(unpacked), "{compression:?} depends on the limit");
    } else {
        assert_eq!(limited, Err(BatchError::DecompressedTooLarge(bytes_max)));
    }
    true
}

/// The data is a script of records; what is pushed is what is read.
pub fn fuzz_builder(data: &[u8]) -> bool {
    let Some((&choice, mut script)) = data.split_first() else { return false };
    let mut take = |bytes: usize| {
        let (field, rest) = script.split_at(bytes.min(script.len()));
        script = rest;
        field
    };
    let mut expected = Vec::new();
    while let &[shape, key_bytes, value_bytes] = take(3) {
        let mut timestamp = [0; 8];
        let stamp = take(usize::from(shape & 7));
        timestamp[..stamp.len()].copy_from_slice(stamp);
        let header_count = usize::from(shape >> 6);
        expected.push(Record {
            offset: Offset::new(expected.len() as i64),
            timestamp: Timestamp::new(i64::from_le_bytes(timestamp)),
            key: (shape & 8 != 0).then(|| Bytes::copy_from_slice(take(usize::from(key_bytes)))),
            value: (shape & 16 != 0).then(|| Bytes::copy_from_slice(take(usize::from(value_bytes)))),
            headers: (0..header_count)
                .map(|_| (Bytes::copy_from_slice(take(3)), (shape & 32 != 0).then(Bytes::new)))
                .collect(),
        });
    }
    if !expected.is_empty() {
        check_rebuilt(&expected, Compression::ALL[usize::from(choice) % Compression::ALL.len()]);
    }
    !expected.is_empty()
}

/// Lengths that pass fit each other and the limits, and both ways of splitting agree.
pub fn fuzz_frame(data: &[u8]) -> bool {
    if let Some(preface) = data.first_chunk() {
        let _ = check_preface(preface);
    }
    if let Some(Ok(lengths)) = data.first_chunk().map(frame_lengths) {
        assert!(lengths.frame_bytes as usize <= FRAME_BYTES_MAX);
        assert!(lengths.header_bytes as usize <= HEADER_BYTES_MAX);
        let parts_bytes = HEADER_LENGTH_BYTES as u32 + lengths.header_bytes + lengths.payload_bytes();
        assert_eq!(parts_bytes, lengths.frame_bytes);
    }
    let owned = split_frame(BytesMut::from(data));
    let shared = split_frame_ref(data);
    assert_eq!(
        owned.as_ref().map(|(header, payload)| (&header[..], &payload[..])),
        shared.as_ref().map(|parts| *parts)
    );
    let Ok((header, payload)) = shared else { return false };
    assert_eq!(header.len() + payload.len() + HEADER_LENGTH_BYTES, data.len());
    true
}

/// A header that decodes encodes to one that decodes to the same request.
pub fn fuzz_native_request(data: &[u8]) -> bool {
    let Ok((correlation, request)) = decode_request(header_in(data)) else { return false };
    let mut out = BytesMut::new();
    if encode_request(correlation, &request, &mut out, 0).is_ok() {
        assert_eq!(decode_request(header_in(&out)), Ok((correlation, request)));
    }
    true
}

/// A header that decodes encodes to one that decodes to the same reply.
pub fn fuzz_native_reply(data: &[u8]) -> bool {
    let Ok((correlation, reply)) = decode_reply(header_in(data)) else { return false };
    let mut out = BytesMut::new();
    if encode_reply(correlation, &reply, &mut out, 0).is_ok() {
        assert_eq!(decode_reply(header_in(&out)), Ok((correlation, reply)));
    }
    true
}

/// The header, if `data` is a whole frame with its lengths; else all of `data`.
fn header_in(data: &[u8]) -> &[u8] {
    let frame = data.get(FRAME_LENGTH_BYTES..).unwrap_or_default();
    split_frame_ref(frame).map_or(data, |(header, _)| header)
}

/// Topic ids, error codes and the incremental checksum.
pub fn fuzz_small_parsers(data: &[u8]) -> bool {
    if let Some(&code) = data.first_chunk() {
        let code = i16::from_be_bytes(code);
        assert_eq!(ErrorCode::from_code(code).map_or(code, ErrorCode::code), code);
    }
    let mut crc = Crc32c::new();
    for piece in data.chunks(1 + data.first().map_or(0, |&first| usize::from(first))) {
        crc.update(piece);
    }
    assert_eq!(crc.value(), crc32c(data));
    let Some(Ok(id)) = std::str::from_utf8(data).ok().map(str::parse::<TopicId>) else { return false };
    assert_eq!(id.to_string().as_bytes(), data.to_ascii_lowercase());
    true
}
