//! Hard limits of everything that arrives as bytes, together with the reason for each number.

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Largest RecordBatch, in bytes with its header. Kafka's default is 1 MiB and 10 MiB is a common setting for
/// "large messages"; above 16 MiB one batch would occupy a core's commit path for longer than 5 ms at 3 GB/s.
pub const BATCH_BYTES_MAX: usize = 16 * MIB;

/// Largest frame of either protocol, in bytes after its length field. Room for Kafka's default fetch of 50 MiB
/// and for a produce request of a few full-size batches.
pub const FRAME_BYTES_MAX: usize = 64 * MIB;

/// Largest FlatBuffers header of a native frame, in bytes. Metadata of 100,000 partitions takes about 4 MiB.
pub const HEADER_BYTES_MAX: usize = 8 * MIB;

/// Largest FlatBuffers header of a request, in bytes: the names of some thousand topics. Small, because decoded
/// values take up to six times the memory of their encoding.
pub const REQUEST_HEADER_BYTES_MAX: usize = MIB;

/// Most tables one native header may hold (the verifier counts them): 10,000 topics of a few partitions each.
/// Bounds the time verification may take on a header of cleverly shared tables.
pub const HEADER_TABLES_MAX: usize = 200_000;

/// Deepest nesting of tables in a native header: frame, body, list entry, its entry, and one to spare.
pub const HEADER_DEPTH_MAX: usize = 8;

/// Bytes a native header may seem to hold when shared parts are counted once per use.
pub const HEADER_APPARENT_BYTES_MAX: usize = 4 * HEADER_BYTES_MAX;

/// Most bytes a compressed batch may unpack to when the broker itself must look inside. A 16 MiB batch of very
/// regular JSON shrinks about eightfold; more is a decompression bomb until proven otherwise.
pub const DECOMPRESSED_BYTES_MAX: usize = 128 * MIB;

/// Most records in one batch. A record takes at least 7 bytes on the wire when not compressed, so a full-size
/// batch cannot hold more than this without compression.
pub const BATCH_RECORDS_MAX: u32 = (BATCH_BYTES_MAX / 7) as u32;

/// Most headers one record may have when Heddle itself reads it: 4 MiB of memory for two-byte headers.
pub const RECORD_HEADERS_MAX: u32 = 64 * 1024;

/// Longest topic name, in bytes: Kafka's limit, so that `name-partition` fits a 255-byte file name.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

const _: () = assert!(BATCH_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(REQUEST_HEADER_BYTES_MAX < HEADER_BYTES_MAX);
const _: () = assert!(HEADER_BYTES_MAX + BATCH_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX < DECOMPRESSED_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_MAX < i32::MAX as usize); // Kafka's length fields are signed
const _: () = assert!(DECOMPRESSED_BYTES_MAX < i32::MAX as usize);
