//! Check: do the cores fit the CPUs and the CPU time this process gets?

use super::Finding;
use crate::config::{Config, machine};

const CHECK: &str = "cpu";

pub fn check(config: &Config) -> Finding {
    classify(&config.cpus, machine::usable_cpus().len(), machine::cpu_quota())
}

fn classify(cpus: &[usize], usable_count: usize, quota: Option<f64>) -> Finding {
    let core_count = cpus.len();
    let mut distinct = cpus.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < core_count {
        return Finding::warn(
            CHECK,
            format!("{core_count} cores share {} CPUs", distinct.len()),
            "They take turns, which costs latency. Fine for tests; otherwise ask for at most as many --cores as CPUs.",
        );
    }
    match quota {
        // A tenth of a CPU less is within what limits are rounded by.
        Some(quota) if quota + 0.1 < core_count as f64 => Finding::warn(
            CHECK,
            format!("{core_count} cores, but the cgroup grants the time of only {quota:.1} CPUs"),
            format!(
                "The kernel will stop all cores for milliseconds at a time. Start with --cores {}, or raise the CPU limit.",
                (quota as usize).max(1)
            ),
        ),
        _ => Finding::ok(CHECK, format!("{core_count} cores on {usable_count} usable CPUs")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn sharing_and_quotas_are_warned_of() {
        assert_eq!(classify(&[0, 1], 4, None).verdict, Verdict::Ok);
        assert_eq!(classify(&[0, 1], 2, Some(2.0)).verdict, Verdict::Ok);
        assert_eq!(classify(&[0, 1, 0], 2, None).verdict, Verdict::Warn);
        let throttled = classify(&[0, 1, 2, 3], 4, Some(1.5));
        assert_eq!(throttled.verdict, Verdict::Warn);
        assert!(throttled.advice.unwrap().contains("--cores 1"));
    }
}
