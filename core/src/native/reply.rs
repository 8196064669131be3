//! Builds reply frames.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use heddle_net::outbox;
use heddle_proto::{
    error::ErrorCode,
    native::{Encoder, Reply},
};

use crate::shard::request::OpError;

/// Room for the header of every message of the data path.
const HEADER_BYTES: usize = 128;

thread_local! {
    // One per core: encoding never waits, so nothing else of the core can be in the middle of it.
    static ENCODER: RefCell<Encoder> = RefCell::new(Encoder::new());
}

/// A reply without payload.
pub fn frame(correlation: u32, reply: &Reply) -> Bytes {
    head(correlation, reply, 0)
}

/// A reply whose payload are batches, sent from where they lie.
pub fn frame_with(correlation: u32, reply: &Reply, batches: Vec<Bytes>) -> outbox::Reply {
    let payload_bytes = batches.iter().map(Bytes::len).sum();
    let head = head(correlation, reply, payload_bytes);
    let mut chunks = Vec::with_capacity(batches.len() + 1);
    chunks.push(head);
    chunks.extend(batches);
    outbox::Reply::Many(chunks)
}

/// The reply that refuses a request.
pub fn refusal(correlation: u32, error: &OpError) -> Bytes {
    frame(correlation, &Reply::Error { code: error.code, message: error.message.clone() })
}

fn head(correlation: u32, reply: &Reply, payload_bytes: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES);
    let encoded =
        ENCODER.with_borrow_mut(|encoder| encoder.reply(correlation, reply, &mut out, payload_bytes));
    if let Err(error) = encoded {
        let refused = Reply::Error {
            code: ErrorCode::MessageTooLarge,
            message: format!("the reply does not fit: {error}"),
        };
        ENCODER
            .with_borrow_mut(|encoder| encoder.reply(correlation, &refused, &mut out, 0))
            .expect("a short error fits every limit");
    }
    out.freeze()
}
