//! The three profiles: what they set, and what that costs. A key given anywhere by hand wins over the profile.

/// A named choice between latency, throughput per watt, and room for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The word for `--profile`.
    pub name: &'static str,
    /// For whom it is, and what it costs.
    pub doc: &'static str,
    /// Keys it sets, with values as a user would write them.
    pub presets: &'static [(&'static str, &'static str)],
}

/// Every profile, in the order of the documentation.
pub const PROFILES: &[Profile] = &[
    Profile {
        name: "latency",
        doc: "For machines that Heddle has to itself. All CPUs of the machine stay awake while the broker runs: \
              they wait in a busy loop of the kernel (or in the lightest sleep it has) instead of a deep sleep, which \
              takes no time from any program but costs the power of a busy machine, and on a virtual machine \
              without dedicated processors the host sees them as busy. A core also looks for work for 50 us before it \
              sleeps, up to 5 % of a CPU at 1,000 requests per second. The process takes the whole of its memory budget \
              at start.",
        presets: &[("spin_us", "50"), ("wakeup_latency_us", "0"), ("touch_memory", "true")],
    },
    Profile {
        name: "balanced",
        doc: "For servers. Idle cores sleep; an idle broker takes less than 1 % of a CPU. The values are the defaults of \
              the keys.",
        presets: &[],
    },
    Profile {
        name: "dense",
        doc: "For many brokers or other programs on one machine. A core never spins, has a small budget of memory and gives back what it does not use, and \
              writes fewer groups at a time, so that more requests share a write.",
        presets: &[
            ("spin_us", "0"),
            ("memory_bytes", "128MiB"),
            ("keep_memory", "false"),
            ("groups_in_flight_max", "2"),
            ("wal_files_max", "4"),
        ],
    },
];

/// The words for `--profile`.
pub const NAMES: &[&str] = &["latency", "balanced", "dense"];

/// The profile called `name`.
pub fn find(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Entry;

    #[test]
    fn the_words_are_those_of_the_profiles() {
        assert!(PROFILES.iter().map(|profile| profile.name).eq(NAMES.iter().copied()));
        assert_eq!(find("dense").map(|profile| profile.name), Some("dense"));
        assert_eq!(find("fast"), None);
    }

    #[test]
    fn profiles_set_keys_that_exist() {
        for (key, _) in PROFILES.iter().flat_map(|profile| profile.presets) {
            assert!(Entry::find(key).is_some(), "{key}");
        }
    }
}
