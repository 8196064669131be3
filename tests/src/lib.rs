//! Helpers of the tests of Heddle from outside: a broker as a child process, real and raw clients, checkers.
//!
//! Nothing here links the broker. Each checker (`history`, `logs`, `tree`) is a pure function with tests of its own that
//! feed it what it must find.

pub mod binary;
pub mod broker;
pub mod clock;
pub mod command;
pub mod history;
pub mod http;
pub mod kafka;
pub mod logs;
pub mod native;
pub mod nodes;
pub mod ports;
pub mod raw;
pub mod records;
pub mod tree;
pub mod wait;
