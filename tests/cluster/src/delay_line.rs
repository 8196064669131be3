//! A slow and lossy cable: takes frames from one link and puts them on another after a while, both ways.
//!
//! The kernel's netem would do it too, but is not built into every kernel, this needs packet sockets only. Frames keep their
//! offload header, so that segments above the MTU and missing checksums pass as they are.

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::error::{Context, HarnessError, Result};
use crate::network;

const PACKET_VNET_HDR: libc::c_int = 15;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// Offload header, Ethernet header and the largest segment.
const FRAME_BYTES_MAX: usize = 10 + 18 + (64 << 10);

/// What a link may hold before it is read; what lies above is lost.
const BUFFER_BYTES: libc::c_int = 16 << 20;

/// A running cable.
#[derive(Debug)]
pub struct DelayLine {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl DelayLine {
    /// Connects two links of a namespace.
    ///
    /// # Errors
    /// If the sockets cannot be made.
    pub fn start(
        space: PathBuf,
        links: [String; 2],
        delay: Duration,
        loss_percent: u32,
    ) -> Result<DelayLine> {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, ready) = mpsc::channel();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let ends = network::enter(&space).and_then(|()| Ok([open(&links[0])?, open(&links[1])?]));
            match ends {
                Ok(ends) => {
                    drop(told.send(Ok(())));
                    carry(&ends, delay, loss_percent, &stopped);
                }
                Err(error) => drop(told.send(Err(error))),
            }
        });
        let gone = HarnessError::Unsupported { fault: "slow", why: "the delay line died".to_owned() };
        ready.recv().unwrap_or(Err(gone))?;
        Ok(DelayLine { stop, thread })
    }

    /// Ends it; what is under way is lost.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.join());
    }
}

fn open(link: &str) -> Result<OwnedFd> {
    try_open(link).context(|| format!("a packet socket on {link}"))
}

fn try_open(link: &str) -> io::Result<OwnedFd> {
    let all = (libc::ETH_P_ALL as u16).to_be();
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is passed.
    let socket = check(unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(all)) })?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    set(&socket, libc::SOL_PACKET, PACKET_VNET_HDR, 1)?;
    set(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER_BYTES)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, BUFFER_BYTES)?;
    let name = CString::new(link).map_err(io::Error::other)?;
    // SAFETY: the name ends with a zero byte.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zeroes are a valid address of this kind.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = all;
    address.sll_ifindex = index as i32;
    let bytes = size_of::<libc::sockaddr_ll>() as u32;
    // SAFETY: the address is as long as is said.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), bytes) })?;
    Ok(socket)
}

fn set(socket: &OwnedFd, level: i32, option: i32, value: libc::c_int) -> io::Result<()> {
    let bytes = size_of::<libc::c_int>() as u32;
    // SAFETY: the value is as long as is said.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), bytes) })?;
    Ok(())
}

fn check(returned: libc::c_int) -> io::Result<libc::c_int> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

fn carry(ends: &[OwnedFd; 2], delay: Duration, loss_percent: u32, stop: &AtomicBool) {
    let mut random = StdRng::seed_from_u64(1);
    let mut under_way: VecDeque<(Instant, usize, Vec<u8>)> = VecDeque::new();
    let mut frame = vec![0; FRAME_BYTES_MAX];
    while !stop.load(Ordering::Relaxed) {
        wait(ends, under_way.front().map(|(due, ..)| *due));
        for (from, end) in ends.iter().enumerate() {
            while let Some(bytes) = receive(end, &mut frame) {
                if !random.gen_ratio(loss_percent, 100) {
                    under_way.push_back((Instant::now() + delay, 1 - from, frame[..bytes].to_vec()));
                }
            }
        }
        while let Some((_, to, frame)) = under_way.pop_front_if(|(due, ..)| *due <= Instant::now()) {
            // SAFETY: the frame is as long as is said. What does not fit is lost, as on any link.
            unsafe { libc::send(ends[to].as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        }
    }
}

fn receive(end: &OwnedFd, frame: &mut [u8]) -> Option<usize> {
    // SAFETY: the buffer is as long as is said.
    let bytes = unsafe { libc::recv(end.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
    usize::try_from(bytes).ok()
}

fn wait(ends: &[OwnedFd; 2], due: Option<Instant>) {
    let longest = Duration::from_millis(50);
    let pause = due.map_or(longest, |due| due.saturating_duration_since(Instant::now()).min(longest));
    let mut polled =
        ends.each_ref().map(|end| libc::pollfd { fd: end.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    // Rounded up: better a little late than spinning.
    let pause_ms = pause.as_micros().div_ceil(1000) as i32;
    // SAFETY: two entries, as is said.
    unsafe { libc::poll(polled.as_mut_ptr(), 2, pause_ms) };
}
