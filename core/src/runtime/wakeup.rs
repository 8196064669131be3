//! Keeping CPUs awake: asks the kernel to use no idle state that takes longer than a limit to leave.
//!
//! A request is two wake-ups of a core (its bytes came; its write is done), and leaving a deep idle state, or a halted
//! virtual CPU, takes longer than all of Heddle's own work on it. The kernel's PM QoS interface holds a limit for as
//! long as a descriptor stays open (Linux, Documentation/power/pm_qos_interface.rst), so nothing is left behind when
//! the process ends, however it ends.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    time::Duration,
};

/// The kernel's device for the limit; by default only root may write it.
pub const DEVICE: &str = "/dev/cpu_dma_latency";

/// A limit in force until this is dropped.
#[derive(Debug)]
pub struct Awake {
    _device: File,
}

/// Limits the time that any CPU of the machine takes to wake to `limit` (rounded down to microseconds).
///
/// # Errors
/// When this process may not, or the kernel has no such device.
pub fn limit_wakeup(limit: Duration) -> io::Result<Awake> {
    let micros = i32::try_from(limit.as_micros()).unwrap_or(i32::MAX);
    let mut device = OpenOptions::new().write(true).open(DEVICE)?;
    device.write_all(&micros.to_ne_bytes())?;
    Ok(Awake { _device: device })
}

/// Whether this process may ask.
///
/// # Errors
/// Why not.
pub fn may_limit_wakeup() -> io::Result<()> {
    OpenOptions::new().write(true).open(DEVICE).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit that the kernel would enforce now; anybody may ask.
    fn limit_in_force() -> io::Result<i32> {
        let mut bytes = [0; 4];
        io::Read::read_exact(&mut File::open(DEVICE)?, &mut bytes)?;
        Ok(i32::from_ne_bytes(bytes))
    }

    #[test]
    fn the_limit_holds_as_long_as_it_is_kept() {
        // Far below what any other program asks for on a machine that runs tests, apart from 0 itself.
        match limit_wakeup(Duration::from_micros(1)) {
            Ok(awake) => {
                assert!(limit_in_force().unwrap() <= 1);
                drop(awake);
            }
            Err(error) => {
                let reasons = [io::ErrorKind::PermissionDenied, io::ErrorKind::NotFound];
                assert!(reasons.contains(&error.kind()), "{error}");
                assert!(may_limit_wakeup().is_err());
            }
        }
    }
}
