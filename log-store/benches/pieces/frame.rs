//! One frame of the write-ahead log, built from the batches of a commit group.

use std::cell::RefCell;

use bytes::Bytes;
use heddle_log_store::formats::frame::{self, Entry, EntryKind, FrameHeader};
use heddle_micro::{Case, Shape};
use heddle_proto::batch::BatchHeader;
use heddle_proto::{Epoch, Offset, PartitionIndex, TopicId, TopicPartition};

/// A frame of so many batches, each of one record.
pub struct Build {
    header: FrameHeader,
    entries: Vec<(Entry, Bytes)>,
    out: RefCell<Vec<u8>>,
}

fn entry(index: usize, batch: &Bytes) -> (Entry, Bytes) {
    let header = BatchHeader::parse(batch).expect("the sample is a batch");
    let partition = PartitionIndex::new(index as u32);
    let entry = Entry {
        kind: EntryKind::Batch,
        partition: TopicPartition { topic: TopicId::new([9; 16]), partition },
        base: header.base_offset,
        offset_count: header.record_count,
        epoch: header.epoch,
        payload_bytes: header.batch_bytes,
        payload_crc: header.crc,
    };
    (entry, batch.clone())
}

impl Case for Build {
    type Input = ();
    type Output = ();

    fn new(shape: Shape) -> Self {
        let mut batch = heddle_micro::batch(Shape { item_count: 1, ..shape });
        heddle_proto::batch::assign(&mut batch, Offset::new(1 << 40), Epoch::new(7));
        let batch = batch.freeze();
        let header = FrameHeader {
            core: 1,
            generation: 7,
            incarnation: 0xdead_beef,
            sequence: 12,
            durable_sequence: 11,
            released_sequence: 2,
            position: 8192,
            frame_bytes: 0,
            payload_bytes: 0,
            entry_count: 0,
        };
        let bytes = frame::frame_bytes(shape.item_count, shape.item_count * batch.len());
        Build {
            header,
            entries: (0..shape.item_count).map(|index| entry(index, &batch)).collect(),
            out: RefCell::new(vec![0xff; bytes]),
        }
    }

    fn input(&self) {}

    fn run(&self, (): ()) {
        frame::encode(self.header, &self.entries, &mut self.out.borrow_mut());
    }

    fn check(&self, (): ()) {
        let mut out = self.out.borrow_mut();
        let (header, entries) = frame::decode(&out).expect("the frame reads from its front");
        assert_eq!(frame::decode_back(&out), Some((header, entries.clone())), "and from its back");
        let written = FrameHeader { frame_bytes: 0, payload_bytes: 0, entry_count: 0, ..header };
        assert_eq!(written, self.header);
        let found: Vec<_> = frame::payloads(&out, &entries).collect();
        let meant: Vec<_> = self.entries.iter().map(|(entry, batch)| (*entry, &batch[..])).collect();
        assert_eq!(found, meant);
        assert!(found.iter().all(|(entry, payload)| entry.matches(payload)));
        out.fill(0xff); // what the next operation does not write shows
    }
}
