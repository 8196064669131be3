//! Walks a segment's bytes drain by drain and batch by batch, accepting nothing that is not exactly what was written.
//!
//! Pure: it looks at a window of bytes and says what it needs next. Reading, recovery and index rebuilding share it.

use std::ops::Range;

use heddle_proto::batch::{self, BATCH_HEADER_BYTES, BATCH_LENGTH_PREFIX_BYTES, BatchHeader};
use heddle_proto::ids::{Epoch, Offset};

use super::drain_header::{DRAIN_HEADER_BYTES, DrainHeader, MAGIC};
use crate::codec::{BLOCK_BYTES, align_up};

/// Part of a segment in memory.
pub struct View<'a> {
    /// Where in the file the bytes begin.
    pub start: u64,
    /// The bytes; never any past `data_end`.
    pub bytes: &'a [u8],
    /// Where the segment's data ends.
    pub data_end: u64,
}

impl<'a> View<'a> {
    fn rest(&self, position: u64) -> &'a [u8] {
        let skip = position.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.bytes.get(skip..)).unwrap_or_default()
    }
}

/// What the walker found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A whole, verified batch; the range is relative to the view.
    Batch(BatchHeader, Range<usize>),
    /// The view must hold this many bytes from the walker's position on.
    More(usize),
    /// No further drain.
    End,
    /// The bytes at the walker's position are not what was written.
    Bad,
}

/// See the module. A copy is a bookmark.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Walker {
    owner: u32,
    segment_base: Offset,
    /// Where the next batch or drain is looked for.
    pub position: u64,
    /// The offset it must begin with.
    pub expected: Offset,
    epoch: Option<Epoch>,
    /// Header of the current drain, if the walk came past it.
    pub drain: Option<DrainHeader>,
}

enum Found {
    Drain(DrainHeader),
    Padding(u64),
    Batch,
    Verdict(Step),
}

impl Walker {
    /// Starts at the beginning of a drain.
    pub fn at_drain(owner: u32, segment_base: Offset, position: u64, expected: Offset) -> Self {
        Self { owner, segment_base, position, expected, epoch: None, drain: None }
    }

    /// Starts at a batch within a drain of `epoch`.
    pub fn at_batch(owner: u32, segment_base: Offset, position: u64, expected: Offset, epoch: Epoch) -> Self {
        Self { owner, segment_base, position, expected, epoch: Some(epoch), drain: None }
    }

    /// First offset of the segment.
    pub fn segment_base(&self) -> Offset {
        self.segment_base
    }

    /// Epoch of the batch found last.
    pub fn epoch(&self) -> Epoch {
        self.epoch.unwrap_or(Epoch::NONE)
    }

    /// Moves to the next batch.
    pub fn step(&mut self, view: &View<'_>) -> Step {
        loop {
            match self.look(view) {
                Found::Drain(header) => self.enter(header),
                Found::Padding(bytes) => self.position += bytes,
                Found::Batch => return self.take_batch(view),
                Found::Verdict(step) => return step,
            }
        }
    }

    fn enter(&mut self, header: DrainHeader) {
        self.position += DRAIN_HEADER_BYTES as u64;
        self.epoch = Some(header.epoch);
        self.drain = Some(header);
    }

    fn look(&self, view: &View<'_>) -> Found {
        let left = view.data_end.saturating_sub(self.position);
        if left == 0 {
            return Found::Verdict(Step::End);
        }
        let rest = view.rest(self.position);
        let to_boundary = align_up(self.position) - self.position;
        match to_boundary {
            0 => self.look_at_boundary(rest, left),
            1..=11 => look_before_boundary(rest, left, to_boundary),
            _ if rest.len() < BATCH_LENGTH_PREFIX_BYTES => {
                Found::Verdict(if left < BATCH_LENGTH_PREFIX_BYTES as u64 { Step::Bad } else { more_bytes() })
            }
            _ if is_zero(&rest[..BATCH_LENGTH_PREFIX_BYTES]) => Found::Padding(to_boundary),
            _ => Found::Batch,
        }
    }

    /// On a block boundary a drain may begin, or a batch of the current drain may go on.
    fn look_at_boundary(&self, rest: &[u8], left: u64) -> Found {
        if left < DRAIN_HEADER_BYTES as u64 {
            return Found::Verdict(Step::Bad);
        }
        let Some(bytes) = rest.first_chunk::<DRAIN_HEADER_BYTES>() else {
            return Found::Verdict(Step::More(DRAIN_HEADER_BYTES));
        };
        if bytes.starts_with(&MAGIC) {
            let header = DrainHeader::decode(bytes).filter(|header| self.accepts(header));
            return header.map_or(Found::Verdict(Step::Bad), Found::Drain);
        }
        if is_zero(&bytes[..BATCH_LENGTH_PREFIX_BYTES]) {
            return Found::Verdict(Step::End);
        }
        if self.epoch.is_some() { Found::Batch } else { Found::Verdict(Step::Bad) }
    }

    fn accepts(&self, header: &DrainHeader) -> bool {
        header.belongs(self.owner, self.segment_base, self.position) && header.first == self.expected
    }

    fn take_batch(&mut self, view: &View<'_>) -> Step {
        let left = view.data_end - self.position;
        let rest = view.rest(self.position);
        if rest.len() < BATCH_HEADER_BYTES {
            return if left < BATCH_HEADER_BYTES as u64 { Step::Bad } else { Step::More(BATCH_HEADER_BYTES) };
        }
        let Ok(header) = BatchHeader::parse(rest) else { return Step::Bad };
        let bytes = header.batch_bytes as usize;
        if bytes as u64 > left {
            return Step::Bad;
        }
        let Some(batch) = rest.get(..bytes) else { return Step::More(bytes) };
        let continues = header.base_offset == self.expected && Some(header.epoch) == self.epoch;
        if !continues || batch::verify_stored(batch).is_err() {
            return Step::Bad;
        }
        let start = (self.position - view.start) as usize;
        self.position += bytes as u64;
        self.expected = header.next_offset();
        Step::Batch(header, start..start + bytes)
    }
}

/// With fewer than 12 bytes to the boundary, zeros may begin a batch with a small offset; only a drain header behind
/// them, or nothing but zeros, tells padding for sure: no batch goes on like either.
fn look_before_boundary(rest: &[u8], left: u64, to_boundary: u64) -> Found {
    let padding = to_boundary as usize;
    if rest.len() < padding {
        return Found::Verdict(if left < to_boundary { Step::Bad } else { Step::More(padding) });
    }
    if !is_zero(&rest[..padding]) {
        return Found::Batch;
    }
    if left == to_boundary {
        return Found::Padding(to_boundary);
    }
    match rest.get(padding..padding + MAGIC.len()) {
        Some(bytes) if bytes == MAGIC || is_zero(bytes) => Found::Padding(to_boundary),
        Some(_) => Found::Batch,
        None if left < to_boundary + MAGIC.len() as u64 => Found::Verdict(Step::Bad),
        None => Found::Verdict(Step::More(padding + MAGIC.len())),
    }
}

fn more_bytes() -> Step {
    Step::More(BATCH_LENGTH_PREFIX_BYTES)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The first intact drain header after `position` that continues the log somewhere past `expected`.
pub fn find_drain(walker: &Walker, view: &View<'_>) -> Option<DrainHeader> {
    let mut at = align_up(walker.position + 1).max(view.start);
    while let Some(bytes) = view.bytes.get((at - view.start) as usize..).filter(|bytes| !bytes.is_empty()) {
        let header = DrainHeader::decode(bytes).filter(|header| {
            header.belongs(walker.owner, walker.segment_base, at) && header.first >= walker.expected
        });
        if header.is_some() {
            return header;
        }
        at += BLOCK_BYTES as u64;
    }
    None
}

const _: () = assert!(BLOCK_BYTES > BATCH_HEADER_BYTES && DRAIN_HEADER_BYTES < BLOCK_BYTES);

#[cfg(test)]
mod tests;
