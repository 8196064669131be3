//! What a run found, as a table of one line per fault and a summary of one line per kind. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::availability::percentile;
use crate::fault::Kind;

/// What one fault came to.
#[derive(Clone, Debug)]
pub struct FaultReport {
    /// What was done.
    pub kind: Kind,
    /// To whom.
    pub target: String,
    /// When it began, since the run did.
    pub begun: Duration,
    /// When it was undone.
    pub healed: Duration,
    /// When everything was as before; `None` if it never was.
    pub recovered: Option<Duration>,
    /// The partitions whose writers noticed, each with its longest gap.
    pub outages: Vec<(u32, Duration)>,
    /// Errors that surfaced to clients.
    pub errors: BTreeMap<String, u64>,
    /// What the cluster did that it must not.
    pub findings: Vec<String>,
}

/// Columns of the table.
pub const COLUMNS: &str = "number\tkind\ttarget\tbegun_s\thealed_s\trecovered_s\taffected_partitions\t\
                           unavailable_p50_ms\tunavailable_p99_ms\tunavailable_max_ms\terrors\tfindings";

impl FaultReport {
    /// A line of the table.
    pub fn line(&self, number: usize) -> String {
        let gaps: Vec<Duration> = self.outages.iter().map(|(_, gap)| *gap).collect();
        let seconds = |time: Duration| format!("{:.3}", time.as_secs_f64());
        [
            number.to_string(),
            self.kind.to_string(),
            self.target.clone(),
            seconds(self.begun),
            seconds(self.healed),
            self.recovered.map_or_else(|| "never".to_owned(), seconds),
            gaps.len().to_string(),
            percentile(&gaps, 50).as_millis().to_string(),
            percentile(&gaps, 99).as_millis().to_string(),
            percentile(&gaps, 100).as_millis().to_string(),
            counts(&self.errors),
            self.findings.join("; ").replace(['\t', '\n'], " "),
        ]
        .join("\t")
    }
}

/// Errors with how often each came, on one line.
fn counts(errors: &BTreeMap<String, u64>) -> String {
    if errors.is_empty() {
        return "-".to_owned();
    }
    errors.iter().map(|(code, count)| format!("{code}={count}")).collect::<Vec<_>>().join(",")
}

/// What a whole run came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The faults, in order.
    pub faults: Vec<FaultReport>,
    /// What is wrong with the run as a whole: anomalies, readers that are stuck.
    pub findings: Vec<String>,
    /// Errors that surfaced to clients in the whole run.
    pub errors: BTreeMap<String, u64>,
    /// Records acknowledged.
    pub acked_count: usize,
    /// Records sent.
    pub sent_count: usize,
    /// Transactions that were committed, aborted, and of unknown end.
    pub transaction_counts: [usize; 3],
    /// Readers that read everything.
    pub reader_count: usize,
    /// Records read by all readers together.
    pub read_count: usize,
}

impl Report {
    /// Whether nothing was found.
    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
            && self.faults.iter().all(|fault| fault.findings.is_empty() && fault.recovered.is_some())
    }

    /// The table, with its head.
    pub fn table(&self) -> String {
        let lines = self.faults.iter().enumerate().map(|(index, fault)| fault.line(index + 1));
        std::iter::once(COLUMNS.to_owned()).chain(lines).map(|line| line + "\n").collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<10} {:>5} {:>10} {:>9} {:>9} {:>9}  errors",
            "fault", "count", "partitions", "p50 ms", "p99 ms", "max ms"
        )?;
        for kind in Kind::ALL {
            let faults: Vec<&FaultReport> = self.faults.iter().filter(|fault| fault.kind == kind).collect();
            if faults.is_empty() {
                continue;
            }
            let gaps: Vec<Duration> =
                faults.iter().flat_map(|fault| fault.outages.iter().map(|(_, gap)| *gap)).collect();
            let mut errors: BTreeMap<String, u64> = BTreeMap::new();
            for (code, count) in faults.iter().flat_map(|fault| &fault.errors) {
                *errors.entry(code.clone()).or_default() += count;
            }
            writeln!(
                f,
                "{kind:<10} {:>5} {:>10} {:>9} {:>9} {:>9}  {}",
                faults.len(),
                gaps.len(),
                percentile(&gaps, 50).as_millis(),
                percentile(&gaps, 99).as_millis(),
                percentile(&gaps, 100).as_millis(),
                counts(&errors)
            )?;
        }
        let [committed, aborted, unknown] = self.transaction_counts;
        writeln!(f, "{} records sent, {} acknowledged", self.sent_count, self.acked_count)?;
        writeln!(f, "transactions: {committed} committed, {aborted} aborted, {unknown} of unknown end")?;
        writeln!(f, "{} readers read {} records", self.reader_count, self.read_count)?;
        writeln!(f, "errors in the whole run: {}", counts(&self.errors))?;
        f.write_str(&self.failures())
    }
}

impl Report {
    fn failures(&self) -> String {
        let mut text = String::new();
        for (index, fault) in self.faults.iter().enumerate() {
            let never = fault.recovered.is_none().then_some("the cluster did not recover");
            for finding in fault.findings.iter().map(String::as_str).chain(never) {
                text.push_str(&format!("FAILED fault {} ({}): {finding}\n", index + 1, fault.kind));
            }
        }
        for finding in &self.findings {
            text.push_str(&format!("FAILED {finding}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: Kind, gap_ms: u64) -> FaultReport {
        FaultReport {
            kind,
            target: "node1".to_owned(),
            begun: Duration::from_secs(1),
            healed: Duration::from_secs(2),
            recovered: Some(Duration::from_millis(2500)),
            outages: vec![(0, Duration::from_millis(gap_ms)), (1, Duration::from_millis(gap_ms * 2))],
            errors: BTreeMap::from([("MessageTimedOut".to_owned(), 2)]),
            findings: Vec::new(),
        }
    }

    #[test]
    fn lines_have_as_many_columns_as_their_head() {
        let report = Report { faults: vec![fault(Kind::Kill, 100)], ..Report::default() };
        let table = report.table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0].split('\t').count(), lines[1].split('\t').count());
        assert_eq!(lines[1], "1\tkill\tnode1\t1.000\t2.000\t2.500\t2\t100\t200\t200\tMessageTimedOut=2\t");
    }

    #[test]
    fn kinds_are_summed_up_and_failures_told() {
        let mut report =
            Report { faults: vec![fault(Kind::Kill, 100), fault(Kind::Kill, 300)], ..Report::default() };
        assert!(report.is_good());
        let text = report.to_string();
        let line = text.lines().find(|line| line.starts_with("kill")).expect("the kind has a line");
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["kill", "2", "4", "200", "600", "600", "MessageTimedOut=4"]);
        report.faults[1].recovered = None;
        assert!(!report.is_good());
        assert!(report.to_string().contains("FAILED fault 2 (kill): the cluster did not recover"));
    }
}
