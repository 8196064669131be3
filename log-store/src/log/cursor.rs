//! Readers that come from disk, remembered by where they will read next, so that reading on needs no lookup and the
//! window read ahead is used to its end.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use heddle_proto::ids::Offset;

use crate::disk::ReadMemory;
use crate::segment::scan::{NextWindow, Window};
use crate::segment::walk::Walker;
use crate::types::LogId;

/// One sequential reader.
pub(crate) struct Cursor {
    pub(crate) log: LogId,
    /// Version of the segment that the walker is in.
    pub(crate) version: u32,
    /// How often the log had been cut when it began.
    pub(crate) cut_count: u32,
    pub(crate) walker: Walker,
    pub(crate) window: Window,
    /// How much the next read from disk asks for.
    pub(crate) ahead_bytes: usize,
    /// The window behind this one, on its way.
    pub(crate) next: Option<ReadAhead>,
}

/// A read under way. It was polled once, which starts it; whoever needs it polls on.
pub(crate) type ReadAhead = Pin<Box<dyn Future<Output = io::Result<NextWindow>>>>;

/// Starts a read without waiting for it.
pub(crate) fn start(mut read: ReadAhead) -> ReadAhead {
    let mut cx = Context::from_waker(Waker::noop());
    match read.as_mut().poll(&mut cx) {
        Poll::Ready(done) => Box::pin(std::future::ready(done)),
        Poll::Pending => read,
    }
}

impl Cursor {
    fn serves(&self, log: LogId, from: Offset) -> bool {
        self.log == log && self.walker.expected == from
    }
}

/// The most recent readers of one core, and the memory of their windows.
pub(crate) struct Cursors {
    recent: RefCell<VecDeque<Cursor>>,
    count_max: usize,
    memory: ReadMemory,
    bytes_max: usize,
}

impl Cursors {
    pub(crate) fn new(count_max: usize, bytes_max: usize) -> Self {
        Self { recent: RefCell::default(), count_max, memory: ReadMemory::default(), bytes_max }
    }

    /// What their windows use, those included of which a part is on its way to a client.
    pub(crate) fn memory(&self) -> &ReadMemory {
        &self.memory
    }

    /// Whether they use all they may: nothing more is read than what was asked for.
    pub(crate) fn is_full(&self) -> bool {
        self.memory.bytes() >= self.bytes_max
    }

    /// Takes out the reader that stopped right before `from`.
    pub(crate) fn take(&self, log: LogId, from: Offset) -> Option<Cursor> {
        let mut recent = self.recent.borrow_mut();
        let at = recent.iter().position(|cursor| cursor.serves(log, from))?;
        recent.remove(at)
    }

    pub(crate) fn put(&self, cursor: Cursor) {
        let mut recent = self.recent.borrow_mut();
        recent.push_back(cursor);
        while recent.len() > self.count_max || (self.is_full() && recent.len() > 1) {
            recent.pop_front();
        }
    }

    pub(crate) fn remove_log(&self, log: LogId) {
        self.recent.borrow_mut().retain(|cursor| cursor.log != log);
    }
}
