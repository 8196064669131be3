//! What a broker's log may not contain: warnings and errors nobody expected.

/// Who warns about the machine the tests run on, which says nothing about the broker: the checks before it starts.
const MACHINE_CHECKS: [&str; 2] = ["heddle_core::boot: ", "heddle_core::cli::serve: "];

/// The lines at level WARN or ERROR, and panics, that contain none of the `allowed` texts.
pub fn unexpected<'a>(log: &'a str, allowed: &[String]) -> Vec<&'a str> {
    log.lines()
        .filter(|line| is_alarming(line) && !is_machine_check(line))
        .filter(|line| !allowed.iter().any(|text| line.contains(text.as_str())))
        .collect()
}

fn is_alarming(line: &str) -> bool {
    let level = line.split_whitespace().nth(1);
    matches!(level, Some("WARN" | "ERROR")) || line.starts_with("heddle: ") || line.contains("panicked at")
}

fn is_machine_check(line: &str) -> bool {
    let said = line.split_once(" WARN ").map_or("", |(_, said)| said);
    MACHINE_CHECKS.iter().any(|speaker| said.starts_with(speaker))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-01-01T00:00:00.000000Z  INFO heddle_core::boot: starting cores=2
2026-01-01T00:00:00.000000Z  WARN heddle_core::boot: cpu: 2 cores share CPU 0. Use fewer
2026-01-01T00:00:00.000000Z  WARN heddle_core::boot::listen: no connection can be accepted for now
2026-01-01T00:00:00.000000Z ERROR heddle_core::kafka: a reply could not be encoded
heddle: bug: index out of bounds
";

    #[test]
    fn warnings_errors_and_deaths_are_found() {
        let found = unexpected(LOG, &[]);
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(found[0].contains("accepted") && found[1].contains("encoded") && found[2].contains("bug"));
    }

    #[test]
    fn what_a_test_expects_is_allowed() {
        let allowed = ["for now".to_owned(), "encoded".to_owned(), "heddle: bug".to_owned()];
        assert!(unexpected(LOG, &allowed).is_empty());
        assert_eq!(unexpected(LOG, &allowed[..1]).len(), 2);
    }
}
