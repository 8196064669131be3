//! Damages a write-ahead log behind its last valid frame, as a write that a power cut tore would leave it.
//!
//! Knows of Heddle's WAL only what it needs: `<data>/wal/<core>/<generation>.wal`, frames laid end to end from the start
//! of the file, each with a header of 80 bytes, a table of entries of 48, the payloads, and a second copy of table and
//! header at its end. Everything behind the last valid frame of the newest file was never acknowledged, so a torn write may
//! have left anything there.

use heddle_proto::Offset;
use heddle_proto::batch::{BatchHeader, assign};
use heddle_proto::crc::crc32c;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"HDLwal\xff\x01";
const HEADER_BYTES: usize = 80;
const ENTRY_BYTES: usize = 48;
const BLOCK_BYTES: usize = 4096;
/// A disk writes a sector whole or not at all.
const SECTOR_BYTES: usize = 512;
const GARBAGE_BLOCKS_MAX: usize = 16;

// Fields of a frame header, little endian.
const ENTRY_COUNT: usize = 12;
const FRAME_LENGTH: usize = 16;
const PAYLOAD_LENGTH: usize = 20;
const GENERATION: usize = 24;
const SEQUENCE: usize = 40;
const POSITION: usize = 64;
const CRC: usize = 72;
// Fields of a table entry.
const ENTRY_BASE: usize = 24;
const ENTRY_PAYLOAD_LENGTH: usize = 36;
const ENTRY_OFFSET_COUNT: usize = 44;
const KIND_BATCH: u8 = 1;

/// What was done to one log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// Random bytes.
    Garbage,
    /// An earlier frame once more.
    Stale,
    /// The beginning of a frame whose rest was not written.
    Head,
    /// The end of a frame whose beginning was not written.
    Foot,
}

/// Damages the tail of every core's log under `data_dir`; what was done to each.
pub fn damage_tails(data_dir: &Path, rng: &mut fastrand::Rng) -> io::Result<Vec<Damage>> {
    let mut done = Vec::new();
    for core in fs::read_dir(data_dir.join("wal"))? {
        let core = core?.path();
        if core.is_dir()
            && let Some(damage) = damage_tail(&core, rng)?
        {
            done.push(damage);
        }
    }
    Ok(done)
}

/// Damages one core's log; `None` when it has no frame yet, or no room behind the last one.
fn damage_tail(core_dir: &Path, rng: &mut fastrand::Rng) -> io::Result<Option<Damage>> {
    for (generation, path) in newest_first(core_dir)? {
        let bytes = fs::read(&path)?;
        let frames = frames(&bytes, generation);
        let Some(last) = frames.last() else { continue };
        let room = bytes.len() - last.end();
        if room < BLOCK_BYTES {
            return Ok(None);
        }
        let (damage, tail) = make_damage(&bytes, &frames, room, rng);
        let file = OpenOptions::new().write(true).open(&path)?;
        write_pieces(&file, last.end() as u64, &tail)?;
        file.sync_all()?;
        return Ok(Some(damage));
    }
    Ok(None)
}

fn write_pieces(file: &File, position: u64, pieces: &[(usize, Vec<u8>)]) -> io::Result<()> {
    pieces.iter().try_for_each(|(at, bytes)| file.write_all_at(bytes, position + *at as u64))
}

fn newest_first(core_dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(core_dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(generation) = name.strip_suffix(".wal").and_then(|digits| digits.parse().ok()) {
            files.push((generation, path));
        }
    }
    files.sort_unstable_by(|a, b| b.cmp(a));
    Ok(files)
}

/// Where a frame lies in its file.
#[derive(Copy, Clone, Debug)]
struct Frame {
    start: usize,
    length: usize,
}

impl Frame {
    fn end(&self) -> usize {
        self.start + self.length
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// The valid frames at the start of a file.
fn frames(bytes: &[u8], generation: u64) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut start = 0;
    while let Some(frame) = frame_at(bytes, start, generation) {
        frames.push(frame);
        start = frame.end();
    }
    frames
}

fn frame_at(bytes: &[u8], start: usize, generation: u64) -> Option<Frame> {
    let header = bytes.get(start..start + HEADER_BYTES)?;
    let length = u32_at(header, FRAME_LENGTH)? as usize;
    let is_here = u64_at(header, GENERATION)? == generation && u64_at(header, POSITION)? == start as u64;
    if header[..8] != MAGIC || !is_here || length == 0 || !length.is_multiple_of(BLOCK_BYTES) {
        return None;
    }
    let entry_count = u32_at(header, ENTRY_COUNT)? as usize;
    let table =
        bytes.get(start + HEADER_BYTES..start + HEADER_BYTES + entry_count.checked_mul(ENTRY_BYTES)?)?;
    let whole = bytes.get(start..start + length)?;
    let has_foot = whole[length - HEADER_BYTES..] == *header;
    (has_foot && u32_at(header, CRC)? == checksum(header, table)).then_some(Frame { start, length })
}

fn checksum(header: &[u8], table: &[u8]) -> u32 {
    let mut bytes = [header, table].concat();
    bytes[CRC..HEADER_BYTES].fill(0);
    crc32c(&bytes)
}

/// What to write behind the last frame: pieces at positions relative to its end.
fn make_damage(
    bytes: &[u8],
    frames: &[Frame],
    room: usize,
    rng: &mut fastrand::Rng,
) -> (Damage, Vec<(usize, Vec<u8>)>) {
    let choice = rng.u8(0..4);
    if choice == 1 {
        let frame = frames[rng.usize(..frames.len())];
        let stale = bytes[frame.start..frame.start + frame.length.min(room)].to_vec();
        return (Damage::Stale, vec![(0, stale)]);
    }
    if choice >= 2
        && let Some((next, payload_end)) = next_frame(bytes, frames[frames.len() - 1], room)
    {
        // Never the whole payload: a frame that is whole was not torn.
        let whole_sectors = (payload_end - 1) / SECTOR_BYTES;
        let first_payload_sector = payload_end.div_ceil(SECTOR_BYTES);
        if choice == 2 && whole_sectors > 0 {
            let keep = rng.usize(1..=whole_sectors) * SECTOR_BYTES;
            return (Damage::Head, vec![(0, next[..keep].to_vec())]);
        }
        let from = first_payload_sector * SECTOR_BYTES;
        if choice == 3 && from + SECTOR_BYTES <= next.len() {
            return (Damage::Foot, vec![(from, next[from..].to_vec())]);
        }
    }
    let blocks = rng.usize(1..=GARBAGE_BLOCKS_MAX.min(room / BLOCK_BYTES));
    let mut garbage = vec![0; blocks * BLOCK_BYTES];
    rng.fill(&mut garbage);
    (Damage::Garbage, vec![(0, garbage)])
}

/// The frame that might have come next: the last batch of the last frame once more, at the offsets behind it. Also where
/// in it the payload ends. Only ever written in part.
fn next_frame(bytes: &[u8], last: Frame, room: usize) -> Option<(Vec<u8>, usize)> {
    let old = &bytes[last.start..last.end()];
    let entry_count = u32_at(old, ENTRY_COUNT)? as usize;
    let table = &old[HEADER_BYTES..HEADER_BYTES + entry_count * ENTRY_BYTES];
    let mut payload_at = HEADER_BYTES + table.len();
    let mut found = None;
    for entry in table.chunks_exact(ENTRY_BYTES) {
        let length = u32_at(entry, ENTRY_PAYLOAD_LENGTH)? as usize;
        let payload = old.get(payload_at..payload_at + length)?;
        payload_at += length;
        if entry[0] == KIND_BATCH && BatchHeader::parse(payload).is_ok() {
            found = Some((entry.to_vec(), payload.to_vec()));
        }
    }
    let (mut entry, mut payload) = found?;
    let header = BatchHeader::parse(&payload).ok()?;
    let next = u64_at(&entry, ENTRY_BASE)? + u64::from(u32_at(&entry, ENTRY_OFFSET_COUNT)?);
    put(&mut entry, ENTRY_BASE, &next.to_le_bytes());
    assign(&mut payload, Offset::new(i64::try_from(next).ok()?), header.epoch);

    let payload_end = HEADER_BYTES + ENTRY_BYTES + payload.len();
    let length = (payload_end + ENTRY_BYTES + HEADER_BYTES).next_multiple_of(BLOCK_BYTES);
    let mut head = old[..HEADER_BYTES].to_vec();
    put(&mut head, ENTRY_COUNT, &1u32.to_le_bytes());
    put(&mut head, FRAME_LENGTH, &u32::try_from(length).ok()?.to_le_bytes());
    put(&mut head, PAYLOAD_LENGTH, &u32::try_from(payload.len()).ok()?.to_le_bytes());
    put(&mut head, SEQUENCE, &(u64_at(old, SEQUENCE)? + 1).to_le_bytes());
    put(&mut head, POSITION, &(last.end() as u64).to_le_bytes());
    let crc = checksum(&head, &entry);
    put(&mut head, CRC, &crc.to_le_bytes());
    let mut frame = [&head[..], &entry, &payload].concat();
    frame.resize(length - ENTRY_BYTES - HEADER_BYTES, 0);
    frame.extend_from_slice(&entry);
    frame.extend_from_slice(&head);
    (frame.len() <= room).then_some((frame, payload_end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_proto::Timestamp;
    use heddle_proto::batch::{BatchBuilder, Compression};

    const FILE_BYTES: usize = 1 << 20;

    fn batch(base: i64, value_bytes: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(Timestamp::new(1), None, Some(&vec![7; value_bytes]), &[]).unwrap();
        let mut bytes = builder.build().unwrap();
        assign(&mut bytes, Offset::new(base), heddle_proto::Epoch::new(0));
        bytes.to_vec()
    }

    /// A frame with one batch, as the module's text describes it.
    fn frame(generation: u64, sequence: u64, position: usize, payload: &[u8]) -> Vec<u8> {
        let mut head = vec![0; HEADER_BYTES];
        let length = (2 * (HEADER_BYTES + ENTRY_BYTES) + payload.len()).next_multiple_of(BLOCK_BYTES);
        put(&mut head, 0, &MAGIC);
        put(&mut head, ENTRY_COUNT, &1u32.to_le_bytes());
        put(&mut head, FRAME_LENGTH, &(length as u32).to_le_bytes());
        put(&mut head, PAYLOAD_LENGTH, &(payload.len() as u32).to_le_bytes());
        put(&mut head, GENERATION, &generation.to_le_bytes());
        put(&mut head, SEQUENCE, &sequence.to_le_bytes());
        put(&mut head, POSITION, &(position as u64).to_le_bytes());
        let mut entry = vec![0; ENTRY_BYTES];
        entry[0] = KIND_BATCH;
        put(&mut entry, ENTRY_BASE, &(sequence as i64).to_le_bytes());
        put(&mut entry, ENTRY_PAYLOAD_LENGTH, &(payload.len() as u32).to_le_bytes());
        put(&mut entry, ENTRY_OFFSET_COUNT, &1u32.to_le_bytes());
        let crc = checksum(&head, &entry);
        put(&mut head, CRC, &crc.to_le_bytes());
        let mut frame = [&head[..], &entry, payload].concat();
        frame.resize(length - ENTRY_BYTES - HEADER_BYTES, 0);
        [frame, entry, head].concat()
    }

    fn wal(generation: u64, value_bytes: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for sequence in 1..=5 {
            let frame = frame(generation, sequence, bytes.len(), &batch(sequence as i64, value_bytes));
            bytes.extend_from_slice(&frame);
        }
        bytes.resize(FILE_BYTES, 0);
        bytes
    }

    #[test]
    fn frames_end_where_they_are_no_longer_valid() {
        let mut bytes = wal(9, 6000);
        let all = frames(&bytes, 9);
        assert_eq!(all.len(), 5);
        assert_eq!(frames(&bytes, 8).len(), 0, "another generation");
        bytes[all[3].start + 20] ^= 1;
        assert_eq!(frames(&bytes, 9).len(), 3);
    }

    #[test]
    fn every_kind_of_damage_leaves_all_valid_frames_and_adds_none_at_the_tail() {
        let mut kinds = Vec::new();
        for seed in 0..60 {
            let dir = tempfile::tempdir().unwrap();
            let core = dir.path().join("wal/0");
            fs::create_dir_all(&core).unwrap();
            let before = wal(9, if seed % 2 == 0 { 6000 } else { 900 });
            let older = wal(8, 900);
            fs::write(core.join("00000000000000000009.wal"), &before).unwrap();
            fs::write(core.join("00000000000000000008.wal"), &older).unwrap();
            fs::write(core.join("00000000000000000010.wal"), vec![0; FILE_BYTES]).unwrap();
            let done = damage_tails(dir.path(), &mut fastrand::Rng::with_seed(seed)).unwrap();
            assert_eq!(done.len(), 1);
            kinds.push(done[0]);

            let after = fs::read(core.join("00000000000000000009.wal")).unwrap();
            let (was, is) = (frames(&before, 9), frames(&after, 9));
            let end = was.last().unwrap().end();
            assert_eq!(after.len(), before.len());
            assert_eq!(after[..end], before[..end], "what was valid is untouched");
            assert_ne!(after[end..], before[end..], "{:?} changed something", done[0]);
            assert_eq!(was.len(), is.len(), "{:?} is no frame", done[0]);
            assert_eq!(fs::read(core.join("00000000000000000008.wal")).unwrap(), older);
        }
        for kind in [Damage::Garbage, Damage::Stale, Damage::Head, Damage::Foot] {
            assert!(kinds.contains(&kind), "{kind:?} of {kinds:?}");
        }
    }

    #[test]
    fn a_head_bears_a_valid_header_but_never_the_whole_batch() {
        let bytes = wal(9, 900);
        let last = *frames(&bytes, 9).last().unwrap();
        let (next, payload_end) = next_frame(&bytes, last, FILE_BYTES).unwrap();
        assert!(payload_end > SECTOR_BYTES);
        let mut whole = bytes.clone();
        whole[last.end()..last.end() + next.len()].copy_from_slice(&next);
        assert_eq!(frames(&whole, 9).len(), 6, "written whole, it would be a frame");
        let payload = &next[HEADER_BYTES + ENTRY_BYTES..payload_end];
        let header = heddle_proto::batch::verify(payload).unwrap();
        assert_eq!(header.base_offset, Offset::new(6));
    }
}
