//! Check: is reading the clock cheap?

use super::Finding;
use std::fs::read_to_string;

const CHECK: &str = "clock";
/// Sources that are read without entering the kernel.
const FAST: [&str; 5] =
    ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "riscv_clocksource"];

pub fn check() -> Finding {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    classify(read_to_string(path).ok().as_deref().map(str::trim))
}

fn classify(source: Option<&str>) -> Finding {
    match source {
        None => Finding::ok(CHECK, "the kernel does not say which clock it uses"),
        Some(source) if FAST.contains(&source) => {
            Finding::ok(CHECK, format!("{source}, read without a system call"))
        }
        Some(source) => Finding::warn(
            CHECK,
            format!("the kernel's clock is {source}, and each reading of it enters the kernel"),
            "Latency suffers a little. If the CPU has a stable tsc, boot with clocksource=tsc.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn sources() {
        assert_eq!(classify(Some("tsc")).verdict, Verdict::Ok);
        assert_eq!(classify(Some("kvm-clock")).verdict, Verdict::Ok);
        assert_eq!(classify(None).verdict, Verdict::Ok);
        assert_eq!(classify(Some("hpet")).verdict, Verdict::Warn);
        assert_eq!(classify(Some("acpi_pm")).verdict, Verdict::Warn);
    }
}
