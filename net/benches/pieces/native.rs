//! A native produce request: from the bytes of a connection to its header and its batches.

use std::cell::RefCell;
use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use heddle_micro::{Case, Shape, now};
use heddle_net::frame::{ByteSource, FrameOptions, FrameReader, Protocol};
use heddle_proto::native::{Request, decode_request, encode_request, split_frame};
use heddle_proto::{Epoch, PartitionIndex, TopicId};

const CORRELATION: u32 = 77;
const REQUEST: Request = Request::Produce {
    topic: TopicId::new([9; 16]),
    partition: PartitionIndex::new(3),
    epoch: Epoch::new(4),
    acks: -1,
};

/// A connection on which the same frame comes again and again. Its copy stands for the kernel's.
struct Repeated {
    frame: Bytes,
    position: usize,
}

impl Repeated {
    fn fill(&mut self, mut room: &mut [u8]) -> usize {
        let room_bytes = room.len();
        while !room.is_empty() {
            let rest = &self.frame[self.position..];
            let count = rest.len().min(room.len());
            room[..count].copy_from_slice(&rest[..count]);
            room = &mut room[count..];
            self.position = (self.position + count) % self.frame.len();
        }
        room_bytes
    }
}

impl ByteSource for Repeated {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.fill(buffer))
    }

    async fn read_limited(&mut self, buffer: &mut BytesMut, bytes_max: usize) -> io::Result<usize> {
        let count = bytes_max.min(buffer.capacity() - buffer.len()).min(self.frame.len() - self.position);
        buffer.put_slice(&self.frame[self.position..self.position + count]);
        self.position = (self.position + count) % self.frame.len();
        Ok(count)
    }
}

/// Reads one frame, splits it, decodes its header.
pub struct DecodeProduce {
    frames: RefCell<FrameReader<Repeated>>,
    batch: BytesMut,
}

impl Case for DecodeProduce {
    type Input = ();
    type Output = (u32, Request, BytesMut);

    fn new(shape: Shape) -> Self {
        let batch = heddle_micro::batch(shape);
        let mut frame = BytesMut::new();
        encode_request(CORRELATION, &REQUEST, &mut frame, batch.len()).expect("the frame is within limits");
        frame.extend_from_slice(&batch);
        let source = Repeated { frame: frame.freeze(), position: 0 };
        let frames = FrameReader::with_protocol(source, FrameOptions::new(8 << 20), Protocol::Native);
        DecodeProduce { frames: RefCell::new(frames), batch }
    }

    fn input(&self) {}

    fn run(&self, (): ()) -> Self::Output {
        let frame = now(self.frames.borrow_mut().next()).expect("frames are whole").expect("there is no end");
        let (header, payload) = split_frame(frame).expect("lengths agree");
        let (correlation, request) = decode_request(&header).expect("the header is sound");
        (correlation, request, payload)
    }

    fn check(&self, (correlation, request, payload): Self::Output) {
        assert_eq!((correlation, request), (CORRELATION, REQUEST));
        assert_eq!(payload, self.batch);
    }
}
