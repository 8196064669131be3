//! Prints findings for people and for programs.

use super::{Finding, Verdict};
use std::io::{self, Write};

/// One line per finding, and the advice below it.
pub fn print_human(findings: &[Finding], out: &mut impl Write) -> io::Result<()> {
    for finding in findings {
        let mark = match finding.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        };
        writeln!(out, "{mark}  {:<15} {}", finding.check, finding.what)?;
        if let Some(advice) = &finding.advice {
            writeln!(out, "      {:<15} -> {advice}", "")?;
        }
    }
    writeln!(out, "\n{}", summary(findings))
}

fn summary(findings: &[Finding]) -> &'static str {
    match findings.iter().map(|finding| finding.verdict).max() {
        None | Some(Verdict::Ok) => "This machine is fit for Heddle.",
        Some(Verdict::Warn) => "Heddle runs here; see the warnings.",
        Some(Verdict::Fail) => "Heddle cannot run here until what failed is mended.",
    }
}

#[derive(serde::Serialize)]
struct Report<'a> {
    fit: bool,
    findings: &'a [Finding],
}

/// One JSON object: `fit`, and the findings with `check`, `verdict`, `what` and `advice`.
pub fn print_json(findings: &[Finding], out: &mut impl Write) -> io::Result<()> {
    let fit = findings.iter().all(|finding| finding.verdict != Verdict::Fail);
    let text = simd_json::to_string(&Report { fit, findings }).map_err(io::Error::other)?;
    writeln!(out, "{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        vec![Finding::ok("kernel", "good"), Finding::fail("io_uring", "missing", "get one")]
    }

    #[test]
    fn people_see_what_and_advice() {
        let mut out = Vec::new();
        print_human(&findings(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("FAIL  io_uring")
                && text.contains("-> get one")
                && text.contains("cannot run here")
        );
    }

    #[test]
    fn programs_see_json() {
        let mut out = Vec::new();
        print_json(&findings(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("{\"fit\":false,") && text.contains("\"verdict\":\"fail\""), "{text}");
    }
}
