//! Cutting what a driver has to say into frames of a handy size.

use heddle_replication::message::{Join, Message};
use heddle_replication_driver::{Frame, Said};

use super::{HEADER_BYTES_AIM, MESSAGE_BYTES_MAX, PAYLOAD_BYTES_AIM, SAID_COUNT_MAX};

/// The same in the same order, in frames that each fit the limits if every message does. What was taken goes with the first.
pub fn pieces(frame: Frame) -> impl Iterator<Item = Frame> {
    let Frame { connection, mut taken, said } = frame;
    let mut rest = said.into_iter().peekable();
    let mut has_more = taken.is_some() || rest.peek().is_some();
    std::iter::from_fn(move || {
        if !std::mem::take(&mut has_more) {
            return None;
        }
        let (mut said, mut header_bytes, mut payload_bytes) = (Vec::new(), 0, 0);
        while let Some(next) = rest.next_if(|next| {
            let fits = header_bytes + header_bytes_most(next) <= HEADER_BYTES_AIM
                && payload_bytes + batch_bytes(next) <= PAYLOAD_BYTES_AIM
                && said.len() < SAID_COUNT_MAX;
            said.is_empty() || fits
        }) {
            header_bytes += header_bytes_most(&next);
            payload_bytes += batch_bytes(&next);
            said.push(next);
        }
        has_more = rest.peek().is_some();
        Some(Frame { connection, taken: taken.take(), said })
    })
}

fn batch_bytes(said: &Said) -> usize {
    said.batches.iter().map(|batch| batch.len()).sum()
}

/// More than it takes in a header.
fn header_bytes_most(said: &Said) -> usize {
    let epochs = match &said.message {
        Message::Join(Join { history, .. }) | Message::Append { history, .. } => history.entries().len(),
        Message::Welcome { .. } | Message::Commit { .. } | Message::Ack { .. } => 0,
    };
    let bytes = 256 + 16 * epochs;
    debug_assert!(bytes <= MESSAGE_BYTES_MAX);
    bytes + 4 * said.batches.len()
}
