//! Building batches for the native protocol and raw Kafka requests, and reading them back.

use bytes::{Bytes, BytesMut};
use heddle_proto::batch::{self, BatchBuilder, Compression, Record};
use heddle_proto::limits::DECOMPRESSED_BYTES_MAX;
use heddle_proto::{ProducerEpoch, ProducerId, Sequence, Timestamp};

/// The time of every record built here, unless a test says otherwise: a fixed moment, in milliseconds.
pub const TIME: Timestamp = Timestamp::new(1_700_000_000_000);

/// A batch of these values, without keys.
pub fn batch(values: &[&[u8]]) -> BytesMut {
    fill(BatchBuilder::new(Compression::None), values)
}

/// A batch of one value.
pub fn one(value: impl AsRef<[u8]>) -> Bytes {
    batch(&[value.as_ref()]).freeze()
}

/// A batch of an idempotent producer, whose first record has this sequence.
pub fn idempotent(id: ProducerId, epoch: ProducerEpoch, sequence: i32, values: &[&[u8]]) -> BytesMut {
    let builder = BatchBuilder::new(Compression::None).producer(id, epoch, Sequence::new(sequence));
    fill(builder, values)
}

fn fill(mut builder: BatchBuilder, values: &[&[u8]]) -> BytesMut {
    for value in values {
        builder.push(TIME, None, Some(value), &[]).expect("a test's records fit a batch");
    }
    builder.build().expect("a test's records fit a batch")
}

/// All records of batches laid end to end, each batch verified.
///
/// # Panics
/// If a batch is damaged.
pub fn read(mut batches: Bytes) -> Vec<Record> {
    let mut records = Vec::new();
    while !batches.is_empty() {
        let header = batch::BatchHeader::parse(&batches).expect("a batch begins here");
        let whole = batches.split_to(header.batch_bytes as usize);
        batch::verify_stored(&whole).expect("the broker serves whole batches");
        let of_batch = batch::records_shared(&whole, DECOMPRESSED_BYTES_MAX).expect("the records unpack");
        records.extend(of_batch.map(|record| record.expect("the records parse")));
    }
    records
}

/// The values of [`read`], each as text.
pub fn texts(batches: Bytes) -> Vec<String> {
    let text = |record: Record| {
        String::from_utf8(record.value.expect("the record has a value").to_vec()).expect("the value is text")
    };
    read(batches).into_iter().map(text).collect()
}

/// Bytes that do not compress and are the same in every run.
pub fn noise(seed: u64, byte_count: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        // xorshift64*: good enough to look random to a compressor and a decoder.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    let mut bytes = Vec::with_capacity(byte_count + 8);
    while bytes.len() < byte_count {
        bytes.extend_from_slice(&next().to_le_bytes());
    }
    bytes.truncate(byte_count);
    bytes
}
