//! Which CPUs the cores run on: the `cores` key and its resolution against the CPUs the process may use.

use super::CORES_PER_NODE_MAX;

/// The user's choice of cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoreSelection {
    /// One core per CPU of the process's affinity mask.
    All,
    /// This many cores, on the first CPUs of the mask; more than there are CPUs share them in turn.
    Count(usize),
    /// One core per listed CPU.
    List(Vec<usize>),
}

impl CoreSelection {
    /// Parses `auto`, a count (`4`) or a list with ranges (`0,2-3`; `2-2` is CPU 2 alone). `Err` says what is allowed.
    pub fn parse(text: &str) -> Result<CoreSelection, String> {
        let text = text.trim();
        if text == "auto" {
            return Ok(CoreSelection::All);
        }
        if let Ok(count) = text.parse::<usize>() {
            return match count {
                1..CORES_PER_NODE_MAX => Ok(CoreSelection::Count(count)),
                _ => Err(format!("the number of cores is between 1 and {}", CORES_PER_NODE_MAX - 1)),
            };
        }
        let cpus = parse_cpu_list(text)
            .ok_or_else(|| "allowed are auto, a number of cores (4) or a list of CPUs (0,2-3)".to_owned())?;
        let mut unique = cpus.clone();
        unique.sort_unstable();
        unique.dedup();
        if unique.len() != cpus.len() {
            return Err("a CPU is listed twice".to_owned());
        }
        Ok(CoreSelection::List(cpus))
    }

    /// The CPU of each core, given the CPUs the process may use (not empty). `Err` says what is allowed.
    pub fn resolve(&self, usable: &[usize]) -> Result<Vec<usize>, String> {
        match self {
            CoreSelection::All => Ok(usable.iter().copied().take(CORES_PER_NODE_MAX - 1).collect()),
            CoreSelection::Count(count) => Ok(usable.iter().copied().cycle().take(*count).collect()),
            CoreSelection::List(cpus) => match cpus.iter().find(|cpu| !usable.contains(cpu)) {
                None => Ok(cpus.clone()),
                Some(cpu) => Err(format!(
                    "CPU {cpu} is not one this process may use; those are {} (taskset, cpuset or container limits)",
                    format_cpu_list(usable)
                )),
            },
        }
    }
}

/// Parses the kernel's CPU list syntax, `0,2-3`. `None` for anything else, for an empty list, a reversed range, or
/// more CPUs than a node may have cores.
pub fn parse_cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last < first || last - first >= CPU_COUNT_MAX || cpus.len() > CPU_COUNT_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// More CPUs than Linux supports; bounds what a list may expand to.
const CPU_COUNT_MAX: usize = 8192;

/// The inverse of [`parse_cpu_list`] for an ascending list.
pub fn format_cpu_list(cpus: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let parts = ranges.into_iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    parts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_count_and_the_rest_a_list() {
        assert_eq!(CoreSelection::parse("4"), Ok(CoreSelection::Count(4)));
        assert_eq!(CoreSelection::parse("0,2-3"), Ok(CoreSelection::List(vec![0, 2, 3])));
        assert_eq!(CoreSelection::parse("2-2"), Ok(CoreSelection::List(vec![2])));
        assert_eq!(CoreSelection::parse("auto"), Ok(CoreSelection::All));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "0", "1000", "a", "3-1", "1,,2", "-1", "1-", "0-99999999999", "1,1", "0-3,2", "0-8192"]
        {
            assert!(CoreSelection::parse(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn resolution_respects_the_mask() {
        let usable = [1, 3, 5];
        assert_eq!(CoreSelection::All.resolve(&usable), Ok(vec![1, 3, 5]));
        assert_eq!(CoreSelection::Count(2).resolve(&usable), Ok(vec![1, 3]));
        assert_eq!(CoreSelection::Count(4).resolve(&usable), Ok(vec![1, 3, 5, 1]));
        assert_eq!(CoreSelection::List(vec![5, 1]).resolve(&usable), Ok(vec![5, 1]));
        let refusal = CoreSelection::List(vec![0]).resolve(&usable).unwrap_err();
        assert!(refusal.contains("CPU 0") && refusal.contains("1,3,5"), "{refusal}");
    }

    #[test]
    fn lists_print_as_the_kernel_prints_them() {
        assert_eq!(format_cpu_list(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(format_cpu_list(&[]), "");
    }
}
