//! A TCP relay that does to connections what networks do: kills them in the middle of a frame, is cut, hangs, flips bits.
//!
//! It runs on threads of its own, so that the executor under test has nothing to do with the faults.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What happens to connections.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Bytes pass.
    Pass,
    /// There is no way: what was there ends, nothing new begins.
    Cut,
    /// Connections stay and nothing passes, as with a peer that is stopped.
    Hang,
}

/// See the module.
#[derive(Clone)]
pub struct Relay {
    /// Where to connect to.
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    mode: AtomicU8,
    /// The next chunk that passes loses a bit.
    flips: AtomicBool,
    /// Bytes that may still pass before everything is killed; 0 for no such limit.
    fuse_bytes: AtomicU64,
    connections: Mutex<Vec<TcpStream>>,
    killed_count: AtomicU64,
}

impl Relay {
    /// A relay to `target`.
    pub fn new(target: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State::default());
        let relay = Relay { address, state: state.clone() };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if state.mode() == Mode::Cut {
                    continue;
                }
                let Ok(onward) = TcpStream::connect(target) else { continue };
                state.connect(stream, onward);
            }
        });
        relay
    }

    /// From now on.
    pub fn set(&self, mode: Mode) {
        self.state.mode.store(mode as u8, Ordering::SeqCst);
        if mode == Mode::Cut {
            self.state.kill();
        }
    }

    /// Kills what is connected after so many more bytes: mostly in the middle of a frame.
    pub fn kill_after(&self, bytes: u64) {
        self.state.fuse_bytes.store(bytes.max(1), Ordering::SeqCst);
    }

    /// The next bytes to pass are not those that were sent.
    pub fn flip(&self) {
        self.state.flips.store(true, Ordering::SeqCst);
    }

    /// Whether that has happened.
    pub fn has_flipped(&self) -> bool {
        !self.state.flips.load(Ordering::SeqCst)
    }

    /// Connections that were killed.
    pub fn killed_count(&self) -> u64 {
        self.state.killed_count.load(Ordering::SeqCst)
    }
}

impl State {
    fn mode(&self) -> Mode {
        match self.mode.load(Ordering::SeqCst) {
            0 => Mode::Pass,
            1 => Mode::Cut,
            _ => Mode::Hang,
        }
    }

    fn connect(self: &Arc<Self>, near: TcpStream, far: TcpStream) {
        let mut connections = self.connections.lock().expect("no panic");
        for stream in [&near, &far] {
            stream.set_nodelay(true).expect("a socket");
            connections.push(stream.try_clone().expect("a descriptor is free"));
        }
        for (from, to) in [(&near, &far), (&far, &near)] {
            let (from, to) = (from.try_clone().expect("a descriptor"), to.try_clone().expect("a descriptor"));
            let state = self.clone();
            thread::spawn(move || state.pump(from, to));
        }
    }

    fn kill(&self) {
        for stream in self.connections.lock().expect("no panic").drain(..) {
            if stream.shutdown(Shutdown::Both).is_ok() {
                self.killed_count.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut chunk = [0; 8 << 10];
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            while self.mode() == Mode::Hang {
                thread::sleep(Duration::from_millis(5));
            }
            let mut passing = &mut chunk[..count];
            if self.flips.swap(false, Ordering::SeqCst) {
                passing[count / 2] ^= 0x10;
            }
            let fuse = self.fuse_bytes.load(Ordering::SeqCst);
            let burns = fuse > 0 && fuse <= count as u64;
            if burns {
                passing = &mut passing[..fuse as usize - 1];
            }
            let left = if burns { 0 } else { fuse.saturating_sub(count as u64) };
            self.fuse_bytes.store(left, Ordering::SeqCst);
            if to.write_all(passing).is_err() {
                break;
            }
            if burns {
                self.kill();
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
