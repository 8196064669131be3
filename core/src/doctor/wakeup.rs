//! Check: may the broker keep the CPUs awake, if it is to?

use super::Finding;
use crate::config::Config;
use crate::runtime::wakeup::{DEVICE, may_limit_wakeup};
use std::io;

const CHECK: &str = "wakeup";

/// `None` when nothing is asked for.
pub fn check(config: &Config) -> Option<Finding> {
    let limit = config.wakeup_latency?;
    Some(classify(limit.as_micros(), may_limit_wakeup()))
}

fn classify(limit_us: u128, allowed: io::Result<()>) -> Finding {
    match allowed {
        Ok(()) => Finding::ok(CHECK, format!("CPUs are kept ready to wake within {limit_us} us")),
        Err(error) => Finding::warn(
            CHECK,
            format!("the CPUs cannot be kept awake: {DEVICE}: {error}"),
            format!(
                "Latencies are longer by the time an idle CPU takes to wake, twice a request. Let the broker's user write \
                 {DEVICE} (a udev rule, see docs/operations.md), or set wakeup_latency_us to none."
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_refusal_is_a_warning_that_says_what_to_do() {
        assert_eq!(classify(0, Ok(())).verdict, Verdict::Ok);
        let refused = classify(0, Err(io::Error::from(io::ErrorKind::PermissionDenied)));
        assert_eq!(refused.verdict, Verdict::Warn);
        assert!(refused.advice.unwrap().contains(DEVICE));
    }
}
