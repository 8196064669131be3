//! Compression of a batch's records with each of Kafka's codecs, and decompression under a hard limit.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use bytes::{Buf, BufMut, BytesMut};

use super::{BatchError, Compression};

/// First bytes of the framing that snappy-java and with it Kafka puts around snappy blocks.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
/// Magic, then version and oldest compatible version as big-endian `i32`.
const XERIAL_HEADER: &[u8; 16] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Uncompressed size of one snappy block, as snappy-java chooses it.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;

/// No snappy element yields more than 64 bytes from 3, so a block that claims more than this factor lies.
const SNAPPY_RATIO_MAX: usize = 22;

/// Both the gzip and the zstd default of their tools: a sound trade of time for size.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// Bounds of zstd's window, as log2 of bytes: 8 MiB must be supported says RFC 8878; 128 MiB is our own limit.
const ZSTD_WINDOW_LOG: std::ops::RangeInclusive<u32> = 23..=27;

/// Unpacks `input`; uncompressed input is handed back as it is.
///
/// # Errors
/// [`BatchError::DecompressedTooLarge`] if there is more than `bytes_max`, [`BatchError::Decompress`] if the
/// codec refuses the input or does not use all of it.
pub fn decompress(
    compression: Compression,
    input: &[u8],
    bytes_max: usize,
) -> Result<Cow<'_, [u8]>, BatchError> {
    let unpacked = match compression {
        Compression::None if input.len() > bytes_max => Err(BatchError::DecompressedTooLarge(bytes_max)),
        Compression::None => return Ok(Cow::Borrowed(input)),
        Compression::Gzip => gunzip(input, bytes_max),
        Compression::Snappy => unsnappy(input, bytes_max),
        Compression::Lz4 => unlz4(input, bytes_max),
        Compression::Zstd => unzstd(input, bytes_max),
    };
    unpacked.map(Cow::Owned)
}

/// Appends `input`, compressed, to `out`. Gzip takes a `level` of 0 to 9, zstd any of its own; the others have none.
///
/// # Errors
/// [`BatchError::Decompress`] if the codec fails, which none does when it writes to memory.
pub(super) fn compress(
    compression: Compression,
    input: &[u8],
    level: Option<i32>,
    out: &mut BytesMut,
) -> Result<(), BatchError> {
    let done = match compression {
        Compression::None => {
            out.extend_from_slice(input);
            Ok(())
        }
        Compression::Gzip => gzip(input, level, out),
        Compression::Snappy => snappy(input, out),
        Compression::Lz4 => lz4(input, out),
        Compression::Zstd => zstd::bulk::compress(input, level.unwrap_or(ZSTD_LEVEL))
            .map(|packed| out.extend_from_slice(&packed)),
    };
    done.map_err(|error| damaged(compression, error))
}

fn damaged(compression: Compression, reason: impl ToString) -> BatchError {
    BatchError::Decompress { codec: compression.name(), reason: reason.to_string() }
}

fn gunzip(input: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut decoder = flate2::bufread::MultiGzDecoder::new(input);
    read_limited(&mut decoder, bytes_max, Compression::Gzip)
}

fn gzip(input: &[u8], level: Option<i32>, out: &mut BytesMut) -> io::Result<()> {
    let level = level.map_or(GZIP_LEVEL, |level| level.clamp(0, 9).unsigned_abs());
    let mut encoder = flate2::write::GzEncoder::new(out.writer(), flate2::Compression::new(level));
    encoder.write_all(input)?;
    encoder.finish().map(drop)
}

fn unlz4(input: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut decoder = lz4_flex::frame::FrameDecoder::new(Source { rest: input, ran_dry: false });
    let unpacked = read_limited(&mut decoder, bytes_max, Compression::Lz4)?;
    let Source { rest, ran_dry } = *decoder.get_ref();
    match (ran_dry, rest.is_empty()) {
        (true, _) => Err(damaged(Compression::Lz4, "frame has no end mark")),
        (_, false) => Err(damaged(Compression::Lz4, "bytes follow the frame")),
        _ => Ok(unpacked),
    }
}

/// Input of the LZ4 decoder, which takes a frame that is cut between two blocks for one that ends there. This
/// notes that the decoder wanted more than there was.
#[derive(Copy, Clone)]
struct Source<'a> {
    rest: &'a [u8],
    ran_dry: bool,
}

impl Read for Source<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read_bytes = self.rest.read(out)?;
        self.ran_dry |= read_bytes == 0 && !out.is_empty();
        Ok(read_bytes)
    }
}

/// Independent blocks, because Kafka's Java reader refuses linked ones.
fn lz4(input: &[u8], out: &mut BytesMut) -> io::Result<()> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, out.writer());
    encoder.write_all(input)?;
    encoder.finish().map(drop).map_err(io::Error::other)
}

fn unzstd(input: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let window_log = bytes_max.max(1).ilog2() + 1;
    let mut decoder =
        zstd::stream::read::Decoder::with_buffer(input).map_err(|error| damaged(Compression::Zstd, error))?;
    decoder
        .window_log_max(window_log.clamp(*ZSTD_WINDOW_LOG.start(), *ZSTD_WINDOW_LOG.end()))
        .map_err(|error| damaged(Compression::Zstd, error))?;
    read_limited(&mut decoder, bytes_max, Compression::Zstd)
}

/// Reads to the end, growing the buffer only as bytes really come and never beyond `bytes_max`.
fn read_limited(
    reader: &mut impl Read,
    bytes_max: usize,
    compression: Compression,
) -> Result<Vec<u8>, BatchError> {
    const FIRST_BYTES: usize = 16 * 1024;
    let mut buffer = vec![0; FIRST_BYTES.min(bytes_max)];
    let mut filled = 0;
    loop {
        if filled == buffer.len() && filled < bytes_max {
            let grown_bytes = (filled * 2).min(bytes_max);
            buffer.reserve_exact(grown_bytes - filled);
            buffer.resize(grown_bytes, 0);
        }
        let mut probe = [0];
        let full = filled == buffer.len();
        let target = if full { &mut probe[..] } else { &mut buffer[filled..] };
        let read_bytes = reader.read(target).map_err(|error| damaged(compression, error))?;
        if read_bytes == 0 {
            buffer.truncate(filled);
            return Ok(buffer);
        }
        if full {
            return Err(BatchError::DecompressedTooLarge(bytes_max));
        }
        filled += read_bytes;
    }
}

fn unsnappy(input: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut unpacked = Vec::new();
    if !input.starts_with(XERIAL_MAGIC) {
        unsnappy_block(input, bytes_max, &mut unpacked)?;
        return Ok(unpacked);
    }
    let mut rest = input;
    while !rest.is_empty() {
        if rest.starts_with(XERIAL_MAGIC) {
            // A stream may be several streams laid end to end.
            rest = rest
                .get(XERIAL_HEADER.len()..)
                .ok_or_else(|| damaged(Compression::Snappy, "header is cut short"))?;
            continue;
        }
        let block_bytes = rest.try_get_u32().map_err(|error| damaged(Compression::Snappy, error))? as usize;
        let (block, after) = rest
            .split_at_checked(block_bytes)
            .ok_or_else(|| damaged(Compression::Snappy, "block is cut short"))?;
        unsnappy_block(block, bytes_max, &mut unpacked)?;
        rest = after;
    }
    Ok(unpacked)
}

fn unsnappy_block(block: &[u8], bytes_max: usize, unpacked: &mut Vec<u8>) -> Result<(), BatchError> {
    let block_bytes =
        snap::raw::decompress_len(block).map_err(|error| damaged(Compression::Snappy, error))?;
    if block_bytes > bytes_max - unpacked.len() {
        return Err(BatchError::DecompressedTooLarge(bytes_max));
    }
    if block_bytes > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(damaged(Compression::Snappy, "block claims more than it can hold"));
    }
    let start = unpacked.len();
    unpacked.resize(start + block_bytes, 0);
    snap::raw::Decoder::new()
        .decompress(block, &mut unpacked[start..])
        .map(drop)
        .map_err(|error| damaged(Compression::Snappy, error))
}

fn snappy(input: &[u8], out: &mut BytesMut) -> io::Result<()> {
    out.extend_from_slice(XERIAL_HEADER);
    let mut encoder = snap::raw::Encoder::new();
    let mut packed = vec![0; snap::raw::max_compress_len(XERIAL_BLOCK_BYTES.min(input.len()))];
    for block in input.chunks(XERIAL_BLOCK_BYTES) {
        let packed_bytes = encoder.compress(block, &mut packed)?;
        out.put_u32(packed_bytes as u32);
        out.extend_from_slice(&packed[..packed_bytes]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODECS: [Compression; 4] =
        [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    fn packed(compression: Compression, input: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        compress(compression, input, None, &mut out).unwrap();
        out
    }

    fn sample(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| (i / 7 * 31 % 253) as u8).collect()
    }

    #[test]
    fn every_codec_round_trips_at_every_size() {
        for compression in CODECS {
            for bytes in [0, 1, 100, 16 * 1024, 32 * 1024, 32 * 1024 + 1, 300_000] {
                let input = sample(bytes);
                let packed = packed(compression, &input);
                assert_eq!(
                    decompress(compression, &packed, bytes).unwrap(),
                    input,
                    "{compression:?} {bytes}"
                );
            }
        }
    }

    #[test]
    fn one_byte_above_the_limit_is_refused() {
        for compression in Compression::ALL {
            let packed = packed(compression, &sample(100_000));
            assert!(decompress(compression, &packed, 100_000).is_ok());
            assert_eq!(
                decompress(compression, &packed, 99_999),
                Err(BatchError::DecompressedTooLarge(99_999)),
                "{compression:?}"
            );
        }
    }

    #[test]
    fn bombs_stop_at_the_limit() {
        let zeros = vec![0; 8 << 20];
        for compression in CODECS {
            let bomb = packed(compression, &zeros);
            assert!(bomb.len() < zeros.len() / 10, "{compression:?}");
            assert_eq!(
                decompress(compression, &bomb, 1 << 20),
                Err(BatchError::DecompressedTooLarge(1 << 20)),
                "{compression:?}"
            );
        }
    }

    #[test]
    fn truncated_input_is_refused() {
        for compression in CODECS {
            let input = sample(50_000);
            let packed = packed(compression, &input);
            for cut in (0..packed.len()).step_by(11).chain(packed.len().saturating_sub(12)..packed.len()) {
                let unpacked = decompress(compression, &packed[..cut], 1 << 20);
                assert!(unpacked.is_err(), "{compression:?} cut to {cut} of {}", packed.len());
            }
        }
    }

    #[test]
    fn a_raw_snappy_block_is_accepted() {
        let input = sample(10_000);
        let block = snap::raw::Encoder::new().compress_vec(&input).unwrap();
        assert_eq!(decompress(Compression::Snappy, &block, 10_000).unwrap(), input);
    }

    #[test]
    fn snappy_streams_may_follow_each_other() {
        let input = sample(40_000);
        let mut two = packed(Compression::Snappy, &input);
        two.extend_from_slice(&packed(Compression::Snappy, &input));
        assert_eq!(decompress(Compression::Snappy, &two, 80_000).unwrap(), [&input[..], &input].concat());
    }

    #[test]
    fn a_snappy_block_cannot_claim_more_than_it_holds() {
        let claims_64_mib = [0x80, 0x80, 0x80, 0x20, 0x00];
        assert_eq!(snap::raw::decompress_len(&claims_64_mib).unwrap(), 64 << 20);
        assert!(matches!(
            decompress(Compression::Snappy, &claims_64_mib, 128 << 20),
            Err(BatchError::Decompress { codec: "snappy", .. })
        ));
    }

    #[test]
    fn gzip_members_may_follow_each_other() {
        let input = sample(5_000);
        let mut two = packed(Compression::Gzip, &input);
        two.extend_from_slice(&packed(Compression::Gzip, &input));
        assert_eq!(decompress(Compression::Gzip, &two, 10_000).unwrap().len(), 10_000);
    }
}
