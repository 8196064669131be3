//! Check: does the kernel give this process an io_uring, and if not, who forbids it?

use super::Finding;
use std::fs::read_to_string;

const CHECK: &str = "io_uring";
/// Size of `struct io_uring_params`, fixed by the kernel's interface.
const PARAMS_BYTES: usize = 120;

pub fn check() -> Finding {
    let setting = read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    classify(try_setup(), setting.as_deref().map(str::trim))
}

/// Makes a ring of two entries and closes it. `Err` holds the errno.
fn try_setup() -> Result<(), i32> {
    let mut params = [0u64; PARAMS_BYTES / 8];
    // SAFETY: the kernel reads and writes at most PARAMS_BYTES at the pointer, which is that long, aligned for u64,
    // alive during the call, and zeroed as the interface asks. The call keeps no reference to it.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2u32, params.as_mut_ptr()) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
    }
    // SAFETY: the descriptor was just made, is open, and nobody else knows it.
    unsafe { libc::close(fd as i32) };
    Ok(())
}

fn classify(result: Result<(), i32>, disabled: Option<&str>) -> Finding {
    match result {
        Ok(()) => Finding::ok(CHECK, "available"),
        Err(libc::ENOSYS) => Finding::fail(
            CHECK,
            "this kernel has no io_uring (or a sandbox such as gVisor hides it)",
            "Use a kernel built with CONFIG_IO_URING, 5.8 or newer, outside such a sandbox.",
        ),
        Err(libc::EPERM | libc::EACCES) => forbidden(disabled),
        Err(libc::ENOMEM) => Finding::fail(
            CHECK,
            "the kernel refused memory for a ring: the memlock limit of this user is used up",
            "Raise it: `ulimit -l unlimited`, LimitMEMLOCK=infinity in a systemd unit, or --ulimit memlock=-1 for a container.",
        ),
        Err(libc::EMFILE | libc::ENFILE) => Finding::fail(
            CHECK,
            "no file descriptor is left for a ring",
            "Raise the limit of open files (`ulimit -n`).",
        ),
        Err(errno) => Finding::fail(
            CHECK,
            format!("io_uring_setup failed: {}", std::io::Error::from_raw_os_error(errno)),
            "Check the kernel's log; Heddle needs io_uring.",
        ),
    }
}

/// Tells the system-wide switch from a seccomp filter.
fn forbidden(disabled: Option<&str>) -> Finding {
    let (what, advice) = match disabled {
        Some("2") => (
            "io_uring is switched off for everybody (kernel.io_uring_disabled = 2)",
            "As root: `sysctl kernel.io_uring_disabled=0`, and the same in /etc/sysctl.d/ to keep it.",
        ),
        Some("1") => (
            "io_uring is allowed only to privileged processes and one group (kernel.io_uring_disabled = 1)",
            "Add this user to the group in kernel.io_uring_group, or as root: `sysctl kernel.io_uring_disabled=0`.",
        ),
        _ => (
            "io_uring is forbidden to this process, most likely by a container's seccomp profile",
            "Run the container with --security-opt seccomp=unconfined, or with a profile that allows io_uring_setup, io_uring_enter and io_uring_register.",
        ),
    };
    Finding::fail(CHECK, what, advice)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        assert_eq!(classify(Ok(()), None).verdict, Verdict::Ok);
        for (errno, disabled, word) in [
            (libc::ENOSYS, None, "no io_uring"),
            (libc::EPERM, Some("2"), "everybody"),
            (libc::EPERM, Some("1"), "group"),
            (libc::EPERM, Some("0"), "seccomp"),
            (libc::EPERM, None, "seccomp"),
            (libc::ENOMEM, None, "memlock"),
            (libc::EMFILE, None, "descriptor"),
            (libc::EINVAL, None, "io_uring_setup failed"),
        ] {
            let finding = classify(Err(errno), disabled);
            assert_eq!(finding.verdict, Verdict::Fail);
            assert!(finding.what.contains(word), "{errno} {disabled:?}: {}", finding.what);
            assert!(finding.advice.is_some());
        }
    }
}
