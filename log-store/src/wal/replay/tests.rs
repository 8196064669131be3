//! Frames that count and frames that do not.

use heddle_proto::batch::{self, BatchBuilder, BatchHeader, Compression};
use heddle_proto::ids::{PartitionIndex, Timestamp, TopicId};

use super::*;
use crate::disk::MemoryDisk;

const INCARNATION: u64 = 77;

fn partition() -> TopicPartition {
    TopicPartition::new(TopicId::new([3; 16]), PartitionIndex::new(0))
}

fn batch_at(base: i64) -> (Entry, Bytes) {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp::new(base), None, Some(&[base as u8; 200]), &[]).unwrap();
    let mut bytes = builder.build().unwrap();
    batch::assign(&mut bytes, Offset::new(base), Epoch::new(4));
    let header = BatchHeader::parse(&bytes).unwrap();
    let entry = Entry {
        kind: EntryKind::Batch,
        partition: partition(),
        base: header.base_offset,
        offset_count: 1,
        epoch: header.epoch,
        payload_bytes: bytes.len() as u32,
        payload_crc: header.crc,
    };
    (entry, bytes.freeze())
}

/// A frame that is one block and holds the batch whose offset is its sequence.
#[derive(Copy, Clone)]
struct Spec {
    generation: u64,
    incarnation: u64,
    sequence: u64,
    durable: u64,
    released: u64,
}

fn spec(sequence: u64, durable: u64) -> Spec {
    Spec { generation: 1, incarnation: INCARNATION, sequence, durable, released: 1 }
}

fn frame_bytes(spec: Spec, position: u64) -> Vec<u8> {
    frame_of(spec, position, &[batch_at(spec.sequence as i64)])
}

fn frame_of(spec: Spec, position: u64, entries: &[(Entry, Bytes)]) -> Vec<u8> {
    let header = FrameHeader {
        core: 0,
        generation: spec.generation,
        incarnation: spec.incarnation,
        sequence: spec.sequence,
        durable_sequence: spec.durable,
        released_sequence: spec.released,
        position,
        frame_bytes: 0,
        payload_bytes: 0,
        entry_count: 0,
    };
    let mut out = vec![0; BLOCK_BYTES];
    frame::encode(header, entries, &mut out);
    out
}

/// A state record of a log that ends at `end`, told by an entry of this kind.
fn state_of(kind: EntryKind, version: u64, end: i64, begins_anew: bool) -> (Entry, Bytes) {
    let end = Offset::new(end);
    let start = if begins_anew { end } else { Offset::ZERO };
    let payload = PartitionState {
        version,
        deleted: false,
        start,
        segment_base: end,
        position: 0,
        drained: end,
        segment_max_timestamp: Timestamp::NONE,
        damage: None,
        snapshot_end: end,
        snapshot: Bytes::from_static(b"owner"),
    }
    .encode();
    let entry = Entry {
        kind,
        partition: partition(),
        base: if kind == EntryKind::Cut { end } else { start },
        offset_count: u32::from(begins_anew),
        epoch: Epoch::NONE,
        payload_bytes: payload.len() as u32,
        payload_crc: heddle_proto::crc::crc32c(&payload),
    };
    (entry, payload)
}

/// A file with these frames one after another; `None` leaves a block of zeros.
fn file(specs: &[Option<Spec>]) -> Vec<u8> {
    let blocks = specs.iter().enumerate().map(|(index, spec)| match spec {
        Some(spec) => frame_bytes(*spec, (index * BLOCK_BYTES) as u64),
        None => vec![0; BLOCK_BYTES],
    });
    blocks.flatten().collect()
}

fn replay(files: &[(u64, Vec<u8>)]) -> WalContents {
    let disk = MemoryDisk::new(1);
    let dir = Path::new("/data/wal/0");
    disk.run(async {
        disk.create_dir_all(dir).await.unwrap();
        for (generation, bytes) in files {
            let file = disk.open(&layout::wal_file(dir, *generation), OpenMode::NEW).await.unwrap();
            file.write_at(bytes.clone(), 0).await.unwrap();
        }
        replay_dir(&disk, &Options::default(), dir).await.unwrap()
    })
}

fn offsets(contents: &WalContents) -> Vec<i64> {
    let found =
        contents.partitions.get(&partition()).map(|found| found.batches.as_slice()).unwrap_or_default();
    let mut offsets: Vec<i64> =
        found.iter().filter(|batch| batch.bytes.is_some()).map(|batch| batch.base.get()).collect();
    offsets.sort_unstable();
    offsets
}

#[test]
fn frames_count_up_to_the_end_across_files() {
    let first = file(&[Some(spec(1, 0)), Some(spec(2, 1))]);
    let second = file(&[Some(Spec { generation: 2, ..spec(3, 2) }), None]);
    let contents = replay(&[(1, first), (2, second)]);
    assert_eq!(offsets(&contents), [1, 2, 3]);
    assert_eq!((contents.torn_frames, contents.damaged_entries), (0, 0));
}

#[test]
fn frames_of_an_earlier_use_of_the_file_never_count() {
    // The file was recycled as generation 5; its tail still holds intact frames of generation 1.
    let recycled = file(&[
        Some(Spec { generation: 5, incarnation: 99, ..spec(1, 0) }),
        Some(spec(2, 1)),
        Some(spec(3, 2)),
    ]);
    assert_eq!(offsets(&replay(&[(5, recycled)])), [1]);
}

#[test]
fn a_frame_somewhere_else_than_it_was_written_does_not_count() {
    let mut moved = file(&[Some(spec(1, 0)), None]);
    let misplaced = frame_bytes(spec(2, 1), 0);
    moved[BLOCK_BYTES..].copy_from_slice(&misplaced);
    assert_eq!(offsets(&replay(&[(1, moved)])), [1]);
}

#[test]
fn after_a_write_that_never_arrived_nothing_counts_if_nothing_was_acknowledged() {
    // 2 was in flight together with 3 and 4 when the power went; neither says that 2 was durable.
    let contents = replay(&[(1, file(&[Some(spec(1, 0)), None, Some(spec(3, 1)), Some(spec(4, 1))]))]);
    assert_eq!(offsets(&contents), [1]);
    assert_eq!(contents.torn_frames, 2);
    assert!(contents.lost_frames.is_empty());
}

#[test]
fn an_acknowledged_frame_that_is_gone_is_lost_and_the_rest_is_kept() {
    let contents = replay(&[(1, file(&[Some(spec(1, 0)), None, Some(spec(3, 1)), Some(spec(4, 3))]))]);
    assert_eq!(offsets(&contents), [1, 3, 4]);
    assert_eq!(contents.lost_frames.iter().map(|lost| lost.sequence).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_torn_last_frame_is_cut_and_a_damaged_acknowledged_one_keeps_its_place() {
    let payload_at = BLOCK_BYTES + frame::HEADER_BYTES + frame::ENTRY_BYTES + 100;
    let mut torn = file(&[Some(spec(1, 0)), Some(spec(2, 1))]);
    torn[payload_at] ^= 1;
    let contents = replay(&[(1, torn)]);
    assert_eq!((offsets(&contents), contents.torn_frames, contents.damaged_entries), (vec![1], 1, 0));

    let mut damaged = file(&[Some(spec(1, 0)), Some(spec(2, 1)), Some(spec(3, 2))]);
    damaged[payload_at] ^= 1;
    let contents = replay(&[(1, damaged)]);
    assert_eq!((offsets(&contents), contents.torn_frames, contents.damaged_entries), (vec![1, 3], 0, 1));
    let batches = &contents.partitions[&partition()].batches;
    assert!(batches.iter().any(|batch| batch.base == Offset::new(2) && batch.bytes.is_none()));
}

#[test]
fn a_bad_header_is_made_good_by_the_second_copy() {
    let mut damaged = file(&[Some(spec(1, 0)), Some(spec(2, 1)), Some(spec(3, 2))]);
    damaged[BLOCK_BYTES + 40] ^= 1;
    let contents = replay(&[(1, damaged)]);
    assert_eq!(offsets(&contents), [1, 2, 3]);
}

#[test]
fn released_frames_may_be_missing() {
    let contents = replay(&[(3, file(&[Some(Spec { generation: 3, released: 5, ..spec(5, 4) })]))]);
    assert_eq!(offsets(&contents), [5]);
    assert!(contents.lost_frames.is_empty());
}

#[test]
fn two_runs_are_judged_apart() {
    let earlier = file(&[Some(spec(1, 0)), None, Some(spec(3, 1))]);
    let later = file(&[
        Some(Spec { generation: 2, incarnation: 78, ..spec(1, 0) }),
        Some(Spec { generation: 2, incarnation: 78, ..spec(2, 1) }),
    ]);
    let contents = replay(&[(1, earlier), (2, later)]);
    assert_eq!(offsets(&contents), [1, 1, 2]);
    assert_eq!(contents.torn_frames, 1);
}

/// What a frame of one block tells, and whether a bit of its first payload is flipped.
type Told<'a> = (&'a [(Entry, Bytes)], bool);

/// What is known of the partition after these runs.
fn replay_runs(runs: &[&[Told<'_>]]) -> RecoveredPartition {
    let files = runs.iter().enumerate().map(|(run, frames)| {
        let generation = run as u64 + 1;
        let frame = |(index, (entries, damaged)): (usize, &Told<'_>)| {
            let sequence = index as u64 + 1;
            let spec = Spec { generation, incarnation: generation, ..spec(sequence, sequence - 1) };
            let mut bytes = frame_of(spec, (index * BLOCK_BYTES) as u64, entries);
            let payload_at = frame::HEADER_BYTES + entries.len() * frame::ENTRY_BYTES;
            bytes[payload_at + 10] ^= u8::from(*damaged);
            bytes
        };
        (generation, frames.iter().enumerate().flat_map(frame).collect())
    });
    replay(&files.collect::<Vec<_>>()).partitions.remove(&partition()).unwrap()
}

fn bases(found: &RecoveredPartition) -> Vec<i64> {
    found.batches.iter().map(|batch| batch.base.get()).collect()
}

#[test]
fn a_cut_takes_back_what_was_said_before_and_brings_its_own_state() {
    let batches = [batch_at(0), batch_at(1), batch_at(2)];
    let cut = [state_of(EntryKind::Cut, 1, 2, false)];
    let found = replay_runs(&[&[(&batches, false), (&cut, false)]]);
    assert_eq!((bases(&found), found.cut.map(|cut| cut.to)), (vec![0, 1], Some(Offset::new(2))));
    assert_eq!(found.state.unwrap().snapshot, "owner");

    let anew = [state_of(EntryKind::Cut, 1, 29, true)];
    let found = replay_runs(&[&[(&batches, false), (&anew, false)]]);
    assert_eq!((bases(&found), found.start_min), (vec![], Offset::new(29)));
    assert_eq!(found.state.unwrap().drained, Offset::new(29));

    let made = [state_of(EntryKind::State, 2, 29, false), batch_at(29)];
    let found = replay_runs(&[&[(&batches, false), (&anew, false), (&made, false)]]);
    assert_eq!((bases(&found), found.cut), (vec![29], None));
}

#[test]
fn a_damaged_cut_still_cuts() {
    let batches = [state_of(EntryKind::State, 1, 0, false), batch_at(0), batch_at(1)];
    let (cut, next) = ([state_of(EntryKind::Cut, 2, 1, false)], [batch_at(9)]);
    let found = replay_runs(&[&[(&batches, false), (&cut, true), (&next, false)]]);
    assert_eq!(bases(&found)[0], 0);
    assert_eq!(found.cut, Some(Cut { to: Offset::new(1), begins_anew: false }));
    let state = found.state.unwrap();
    assert_eq!((state.version, state.drained, state.snapshot.len()), (2, Offset::ZERO, 0));
}

#[test]
fn what_a_later_run_tells_counts_alone() {
    let earlier = [state_of(EntryKind::State, 3, 0, false), batch_at(0), batch_at(1)];
    let later = [state_of(EntryKind::State, 4, 1, false), batch_at(1)];
    let after = [batch_at(2)];
    // The cut that lay between them went with the file that held it.
    let found = replay_runs(&[&[(&earlier, false)], &[(&later, false)]]);
    assert_eq!((bases(&found), found.state.unwrap().version), (vec![1], 4));
    // Which run is the later one says only the state: files have their order within one core alone.
    let found = replay_runs(&[&[(&later, false)], &[(&earlier, false)]]);
    assert_eq!((bases(&found), found.state.unwrap().version), (vec![1], 4));
    // Where it cannot be told nothing is dropped.
    let found = replay_runs(&[&[(&earlier, false)], &[(&later, true), (&after, false)]]);
    assert_eq!(bases(&found), [0, 1, 1, 2]);
}

#[test]
fn what_is_made_again_is_a_log_of_its_own() {
    let before = [state_of(EntryKind::State, 3, 0, false), batch_at(0), batch_at(1)];
    let mut over = state_of(EntryKind::State, 5, 0, true);
    over.0.offset_count = frame::DELETION_OVER;
    let (gone, over, after) = ([state_of(EntryKind::State, 4, 0, true)], [over], [batch_at(0)]);
    let found = replay_runs(&[&[(&before, false), (&gone, false)]]);
    assert!(found.deleted && found.batches.is_empty());
    let found = replay_runs(&[&[(&before, false), (&gone, false), (&over, false)]]);
    assert!(found.is_nothing());
    let again: [Told<'_>; 4] = [(&before, false), (&gone, false), (&over, false), (&after, false)];
    let found = replay_runs(&[&again]);
    assert_eq!((found.deleted, bases(&found), found.state.as_ref()), (false, vec![0], None));
    // An earlier run knows the log that is gone.
    let found = replay_runs(&[&again[..1], &again[1..]]);
    assert_eq!((found.deleted, bases(&found), found.version()), (false, vec![0], 5));
    // Another core has made it again.
    let found = replay_runs(&[&again[3..], &again[1..3]]);
    assert_eq!((found.deleted, bases(&found)), (false, vec![0]));
    // A start has deleted it to the end, and the next one finds both.
    let found = replay_runs(&[&again[..2], &again[2..3]]);
    assert!(found.deleted);
    // The record is damaged, its place in the table is not.
    let found = replay_runs(&[&[again[0], (&gone, true), (&over, true), again[3]]]);
    assert_eq!((found.deleted, bases(&found)), (false, vec![0]));
}

/// The file was used before, with a batch of the same length in the same place, and a sector ends behind the new one's offset.
#[test]
fn a_batch_torn_before_its_crc_is_not_joined_to_an_older_one() {
    let (entry, new) = batch_at(35);
    let (_, old) = batch_at(15);
    for kept in 0..new.len() {
        let torn = [&new[..kept], &old[kept..]].concat();
        assert!(!entry.matches(&torn) || torn == new, "the first {kept} bytes are new");
    }
    assert!(entry.matches(&new));
}
