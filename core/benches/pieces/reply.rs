//! The native reply to a produce request, as a frame.

use bytes::Bytes;
use heddle_core::native::reply;
use heddle_micro::{Case, Shape};
use heddle_proto::native::{Reply, decode_reply, split_frame_ref};
use heddle_proto::{Offset, Timestamp};

const CORRELATION: u32 = 77;
const REPLY: Reply = Reply::Produce { base_offset: Offset::new(1 << 40), append_time: Timestamp::NONE };

/// Encodes the reply; its size does not depend on the shape.
pub struct Encode;

impl Case for Encode {
    type Input = ();
    type Output = Bytes;

    fn new(_: Shape) -> Self {
        Encode
    }

    fn input(&self) {}

    fn run(&self, (): ()) -> Bytes {
        reply::frame(CORRELATION, &REPLY)
    }

    fn check(&self, frame: Bytes) {
        let (header, payload) = split_frame_ref(&frame[4..]).expect("the frame is whole");
        assert_eq!(decode_reply(header), Ok((CORRELATION, REPLY)));
        assert!(payload.is_empty());
    }
}
