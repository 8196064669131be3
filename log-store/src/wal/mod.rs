//! The write-ahead log of one core: frames in recycled files, written group by group, replayed after a crash.

pub(crate) mod files;
pub mod frame;
pub(crate) mod replay;
pub mod state;
