//! SIGTERM and SIGINT as something a core can wait for.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::time::sleep;

static STOP: AtomicBool = AtomicBool::new(false);

static RESTART: AtomicBool = AtomicBool::new(false);

/// How often a waiting core looks whether a signal came: short for a person, long for a CPU.
const LOOK_EVERY: Duration = Duration::from_millis(50);

extern "C" fn on_signal(_: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
    // Who is told to stop does not come back.
    RESTART.store(false, Ordering::Relaxed);
}

/// Makes SIGTERM and SIGINT ask for a clean stop, and ignores SIGPIPE. Called once, before any thread starts.
pub fn install() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let handler = on_signal as *const () as libc::sighandler_t;
        // SAFETY: the handler only stores to an atomic, which is safe at any moment.
        unsafe { libc::signal(signal, handler) };
    }
    // SAFETY: ignoring a signal needs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Asks for a clean stop from within the process.
pub fn request_stop() {
    STOP.store(true, Ordering::Relaxed);
}

/// Asks for a clean stop after which the process begins anew.
pub fn request_restart() {
    if !STOP.load(Ordering::Relaxed) {
        RESTART.store(true, Ordering::Relaxed);
        STOP.store(true, Ordering::Relaxed);
    }
}

/// Whether the process is to begin anew after it has stopped.
pub fn is_restart_requested() -> bool {
    RESTART.load(Ordering::Relaxed)
}

/// Waits until the process is asked to stop.
pub async fn stop_requested() {
    while !STOP.load(Ordering::Relaxed) {
        sleep(LOOK_EVERY).await;
    }
}
