//! The page: a table of figures with the ratios to the limit, four charts, and what each run was made of.

use super::folder::RunFolder;
use super::svg::{self, Axis, Chart, Scale, Series, escape};
use crate::clock::Nanos;
use crate::histogram::{Latencies, Percentiles, add, new_latencies};
use std::fmt::Write;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}\
th,td{padding:.25em .6em;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}\
th:first-child,td:first-child{text-align:left}svg{width:100%;height:auto;margin-top:1.2em}\
.g{stroke:#e4e4e4;stroke-width:1}.m{font-size:11px;text-anchor:middle}.l{font-size:11px;text-anchor:end}\
.t{font-size:14px;font-weight:600}.legend{font-size:12px;margin:0}.legend span{margin-right:1.2em}\
.legend i{display:inline-block;width:22px;margin-right:5px;vertical-align:middle}\
pre{background:#f5f5f5;padding:.7em;overflow-x:auto;font-size:12px}.bad{color:#b00}";

/// Quantiles the percentile curve is drawn through, by the number of nines.
const CURVE_STEPS: usize = 200;
const CURVE_NINES: f64 = 5.0;

/// The page of `runs`.
pub fn render(title: &str, runs: &[RunFolder]) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style></head>\n<body><h1>{0}</h1>\n",
        escape(title)
    );
    out += "<p>Latency counts from when a record should have been sent on a fixed schedule to its acknowledgement; \
            end to end, to its arrival at a consumer. Times in microseconds. The limit is a durable direct write of the \
            same size at the same rate plus a loopback round trip, on the same disk right before and after the run.</p>\n";
    out += &table(runs);
    for chart in charts(runs) {
        out += &svg::render(&chart);
    }
    runs.iter().for_each(|run| out += &details(run));
    out + "</body></html>\n"
}

fn table(runs: &[RunFolder]) -> String {
    let heads = [
        "run",
        "records/s",
        "MB/s",
        "p50",
        "p99",
        "p99.9",
        "p99.99",
        "max",
        "limit p50",
        "limit p99",
        "ratio p50",
        "ratio p99",
        "end to end p50",
        "p99",
        "late p99",
        "unsent",
        "errors",
    ];
    let mut out = String::from("<table><tr>");
    heads.iter().for_each(|head| out += &format!("<th>{head}</th>"));
    out += "</tr>\n";
    let number = |value: f64| format!("{value:.1}");
    let maybe = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"));
    for RunFolder { summary: s, .. } in runs {
        let cells = [
            format!("{:.0}", s.rate_achieved),
            number(s.mb_per_s),
            number(s.p50_us),
            number(s.p99_us),
            number(s.p999_us),
            number(s.p9999_us),
            number(s.max_us),
            maybe(s.limit_p50_us),
            maybe(s.limit_p99_us),
            maybe(s.ratio_p50),
            maybe(s.ratio_p99),
            maybe(s.end_to_end_p50_us),
            maybe(s.end_to_end_p99_us),
            number(s.send_lag_p99_us),
            s.unsent_records.to_string(),
            s.errors.to_string(),
        ];
        let class = if s.errors + s.unsent_records > 0 { " class=\"bad\"" } else { "" };
        let closed = if s.open_loop || s.latency_count == 0 { "" } else { " (closed loop)" };
        let _ = write!(out, "<tr{class}><td>{}{closed}</td>", escape(&s.name));
        cells.iter().for_each(|cell| out += &format!("<td>{cell}</td>"));
        out += "</tr>\n";
    }
    out + "</table>\n"
}

fn charts(runs: &[RunFolder]) -> Vec<Chart> {
    let log = |label| Axis { label, scale: Scale::Log, marks: None };
    let linear = |label| Axis { label, scale: Scale::Linear, marks: None };
    vec![
        Chart {
            title: "Latency by percentile",
            x: Axis { marks: Some(nines_marks()), ..log("percentile") },
            y: log("us"),
            series: over_tags(runs, |run, tag| curve(&total(run, tag))),
        },
        Chart {
            title: "Latency over time: p99 of each second",
            x: linear("seconds"),
            y: log("us"),
            series: over_tags(runs, |run, tag| over_time(run, tag, |figures| figures.p99_us)),
        },
        Chart {
            title: "Latency over time: largest of each second",
            x: linear("seconds"),
            y: log("us"),
            series: over_tags(runs, |run, tag| over_time(run, tag, |figures| figures.max_us)),
        },
        Chart {
            title: "Throughput: records due in each second that were acknowledged, or arrived",
            x: linear("seconds"),
            y: linear("records/s"),
            series: over_tags(runs, |run, tag| over_time(run, tag, |figures| figures.count as f64)),
        },
    ]
}

/// One line for each run and tag: produce solid, end to end dashed.
fn over_tags(runs: &[RunFolder], points: impl Fn(&RunFolder, &str) -> Vec<(f64, f64)>) -> Vec<Series> {
    let mut all = Vec::new();
    for (colour, run) in runs.iter().enumerate() {
        for (tag, suffix, is_dashed) in [("produce", "", false), ("end_to_end", ", end to end", true)] {
            let name = format!("{}{suffix}", run.summary.name);
            all.push(Series { name, colour, is_dashed, points: points(run, tag) });
        }
    }
    all
}

fn total(run: &RunFolder, tag: &str) -> Latencies {
    let mut total = new_latencies();
    run.intervals.iter().filter(|i| i.tag == tag).for_each(|i| add(&mut total, &i.latencies));
    total
}

/// Latency against 1 / (1 - quantile), so that each nine takes the same width.
fn curve(latencies: &Latencies) -> Vec<(f64, f64)> {
    if latencies.is_empty() {
        return Vec::new();
    }
    let steps = (0..=CURVE_STEPS).map(|step| 10f64.powf(CURVE_NINES * step as f64 / CURVE_STEPS as f64));
    // Beyond one value in so many the curve would only repeat the maximum.
    let end = latencies.len() as f64;
    steps
        .take_while(|x| *x <= end)
        .map(|x| (x, latencies.value_at_quantile(1.0 - 1.0 / x) as f64 / 1000.0))
        .collect()
}

fn nines_marks() -> Vec<(f64, String)> {
    [
        (1.0, "0 %"),
        (2.0, "50 %"),
        (10.0, "90 %"),
        (100.0, "99 %"),
        (1e3, "99.9 %"),
        (1e4, "99.99 %"),
        (1e5, "99.999 %"),
    ]
    .map(|(x, text)| (x, text.to_owned()))
    .to_vec()
}

fn over_time(run: &RunFolder, tag: &str, value: impl Fn(&Percentiles) -> f64) -> Vec<(f64, f64)> {
    let begin = run.intervals.iter().map(|i| i.start).min().unwrap_or_default();
    let seconds = |at: Nanos| at.since(begin) as f64 / 1e9;
    run.intervals
        .iter()
        .filter(|i| i.tag == tag)
        .map(|i| (seconds(i.start), value(&Percentiles::of(&i.latencies))))
        .collect()
}

fn details(run: &RunFolder) -> String {
    let mut out = format!("<h2>{}</h2>\n<pre>{}</pre>\n<p>", escape(&run.summary.name), escape(&run.command));
    for (name, value) in run.machine.lines() {
        let _ = write!(out, "{name}: {}<br>", escape(if value.is_empty() { "unknown" } else { &value }));
    }
    out += "</p>\n";
    for (kind, count) in &run.summary.errors_by_kind {
        let _ = writeln!(out, "<p class=\"bad\">{count} x {}</p>", escape(kind));
    }
    out + &format!("<details><summary>Configuration</summary><pre>{}</pre></details>\n", escape(&run.config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::TaggedInterval;
    use crate::machine::Machine;
    use crate::run::summary::RunSummary;
    use std::time::Duration;

    fn run(name: &str) -> RunFolder {
        let start = Nanos::new(1_700_000_000_000_000_000);
        let second = Duration::from_secs(1);
        let intervals = (0..6u32).map(|i| {
            let mut latencies = new_latencies();
            (1..2000u64).for_each(|v| latencies.saturating_record(v * 500));
            let tag = if i % 2 == 0 { "produce" } else { "end_to_end" };
            TaggedInterval { tag: tag.into(), start: start.plus(second * (i / 2)), length: second, latencies }
        });
        RunFolder {
            summary: RunSummary { name: name.into(), ratio_p50: Some(1.25), ..RunSummary::default() },
            machine: Machine::default(),
            command: "heddle-loadgen run --target kafka://h:1 <x>".into(),
            config: "{}".into(),
            intervals: intervals.collect(),
        }
    }

    #[test]
    fn the_page_needs_no_network_and_shows_every_run() {
        let page = render("title & more", &[run("first"), run("second <b>")]);
        for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("first") && page.contains("second &lt;b&gt;") && page.contains("1.25"));
        assert!(page.contains("title &amp; more") && !page.contains("<x>"));
        assert_eq!(page.matches("<svg").count(), 4);
        assert_eq!(page.matches("<polyline").count(), 16);
    }

    #[test]
    fn the_curve_rises_and_ends_with_the_data() {
        let points = curve(&total(&run("r"), "produce"));
        assert!(points.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        assert!(points.last().unwrap().0 <= 3.0 * 1999.0);
    }
}
