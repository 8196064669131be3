//! Check: is the kernel new enough?

use super::Finding;
use std::fs::read_to_string;

const CHECK: &str = "kernel";
/// First release with everything glommio asks of io_uring.
const RELEASE_MIN: (u32, u32) = (5, 8);
/// First release that accounts ring memory to the cgroup instead of the memlock limit, and with the fixes since.
const RELEASE_GOOD: (u32, u32) = (5, 15);

pub fn check() -> Finding {
    classify(read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim())
}

fn classify(release: &str) -> Finding {
    let Some(version) = parse(release) else {
        return Finding::warn(
            CHECK,
            format!("the kernel release `{release}` is not understood"),
            "Linux 5.8 or newer is needed.",
        );
    };
    if version < RELEASE_MIN {
        let what = format!("Linux {release} is too old: io_uring lacks operations that Heddle needs");
        return Finding::fail(CHECK, what, "Use Linux 5.8 or newer, better 5.15 or newer.");
    }
    if version < RELEASE_GOOD {
        let what = format!("Linux {release} works, but its io_uring is young");
        return Finding::warn(CHECK, what, "Linux 5.15 or newer is recommended.");
    }
    Finding::ok(CHECK, format!("Linux {release}"))
}

/// The first two numbers of a release such as `6.18.44-generic`.
fn parse(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn releases() {
        for (release, verdict) in [
            ("6.18.44-generic", Verdict::Ok),
            ("5.15.0", Verdict::Ok),
            ("5.10.0-8-amd64", Verdict::Warn),
            ("5.8", Verdict::Warn),
            ("5.4.0-100", Verdict::Fail),
            ("4.18.0-513.el8", Verdict::Fail),
            ("", Verdict::Warn),
            ("next", Verdict::Warn),
        ] {
            assert_eq!(classify(release).verdict, verdict, "{release}");
        }
    }
}
