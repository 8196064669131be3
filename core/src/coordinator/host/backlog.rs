//! Writes that wait for memory, in their order.

use std::collections::VecDeque;

use bytes::BytesMut;

use crate::coordinator::ids::WriteSequence;

/// Batches with the writes that they are.
#[derive(Default)]
pub struct Backlog {
    writes: VecDeque<(WriteSequence, BytesMut)>,
    bytes: usize,
}

impl Backlog {
    /// Adds one behind the others.
    pub fn push(&mut self, sequence: WriteSequence, batch: BytesMut) {
        self.bytes += batch.len();
        self.writes.push_back((sequence, batch));
    }

    /// Size of the first.
    pub fn first_bytes(&self) -> usize {
        self.writes.front().map_or(0, |(_, batch)| batch.len())
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<(WriteSequence, BytesMut)> {
        let (sequence, batch) = self.writes.pop_front()?;
        self.bytes -= batch.len();
        Some((sequence, batch))
    }

    /// Which writes wait.
    #[cfg(test)]
    pub fn sequences(&self) -> Vec<WriteSequence> {
        self.writes.iter().map(|(sequence, _)| *sequence).collect()
    }

    /// Size of all.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}
