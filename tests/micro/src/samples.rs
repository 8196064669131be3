//! Inputs that look like those of a broker at work.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use heddle_proto::batch::{BatchBuilder, Compression};
use heddle_proto::ids::Timestamp;

use crate::Shape;

/// A batch as a producer sends it, uncompressed.
pub fn batch(shape: Shape) -> BytesMut {
    let mut builder = BatchBuilder::new(Compression::None);
    for index in 0..shape.item_count {
        let value: Vec<u8> = (0..shape.item_bytes).map(|at| (at * 31 + index) as u8).collect();
        let timestamp = Timestamp::new(1_700_000_000_000 + index as i64);
        builder.push(timestamp, None, Some(&value), &[]).expect("the sample is within the limits");
    }
    builder.build().expect("the sample is within the limits")
}

/// `bytes` as a slice of a larger receive buffer, which is how requests come out of a connection.
pub fn in_chunk(bytes: &[u8]) -> BytesMut {
    let mut chunk = BytesMut::with_capacity(bytes.len() + 64);
    chunk.extend_from_slice(&[0; 4]);
    chunk.extend_from_slice(bytes);
    drop(chunk.split_to(4));
    chunk.split_to(bytes.len())
}

/// The output of a future that has nothing to wait for.
///
/// # Panics
/// If it waits.
pub fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a piece of the hot path waits although everything it needs is there"),
    }
}
