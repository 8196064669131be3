//! The cores: pinned executors, their task queues, the mesh between them, and time.
//!
//! Together with the disk and the sockets this is the only place that names glommio; everything above it runs on any
//! single-threaded executor.

pub mod block_on;
pub mod event;
pub mod executors;
pub mod memory;
pub mod mesh;
pub mod oneshot;
pub mod queues;
pub mod signals;
pub mod time;
pub mod wakeup;
pub mod watch;
pub mod weak_list;

pub use queues::{Queue, Queues};
