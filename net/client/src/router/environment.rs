//! What a router needs from the program around it: connections and a clock.
use std::io;
use std::time::Duration;

use crate::client::Client;

/// Connects and sleeps, on whatever runtime the program uses.
pub trait Environment {
    /// Connects to a broker and spawns the connection's driver.
    fn connect(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Client>>;

    /// Waits.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()>;
}

/// An [`Environment`] of two closures.
#[derive(Copy, Clone, Debug)]
pub struct Closures<C, S> {
    /// Takes host and port, and connects as [`Environment::connect`].
    pub connect: C,
    /// Waits as [`Environment::sleep`].
    pub sleep: S,
}

impl<C, Connecting, S, Sleeping> Environment for Closures<C, S>
where
    C: Fn(String, u16) -> Connecting,
    Connecting: Future<Output = io::Result<Client>>,
    S: Fn(Duration) -> Sleeping,
    Sleeping: Future<Output = ()>,
{
    fn connect(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Client>> {
        (self.connect)(host.to_owned(), port)
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> {
        (self.sleep)(time)
    }
}
