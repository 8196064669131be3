//! `heddle cluster latency`: where the time of requests goes on a node, stage by stage, as it happens.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::args::{Connect, LatencyArgs};
use super::session::Session;
use super::{CliError, output};
use crate::runtime::time;

/// The shortest time a table may cover: less would mostly measure the asking.
const INTERVAL_SECONDS_MIN: f64 = 0.1;
/// The longest; also keeps the number a valid duration.
const INTERVAL_SECONDS_MAX: f64 = 86_400.0;

/// What a broker answers; unknown members are ignored.
#[derive(Deserialize)]
struct Latencies {
    node: u32,
    cores: Vec<Core>,
}

#[derive(Deserialize)]
struct Core {
    core: u16,
    stages: Vec<Stage>,
}

#[derive(Deserialize)]
struct Stage {
    operation: String,
    stage: String,
    counts: Vec<(u64, u64)>,
}

/// The place of a row: core (or `None` for all together), and the stage's place in a request's way.
type Key = (Option<u16>, usize);

/// The name of a stage and how often each duration occurred, in nanoseconds.
struct Row {
    operation: String,
    stage: String,
    counts: BTreeMap<u64, u64>,
}

type Rows = BTreeMap<Key, Row>;

/// One line of a table.
#[derive(Serialize)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    core: Option<u16>,
    operation: String,
    stage: String,
    count: u64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
}

/// Prints one table after another, each of what happened since the one before.
pub async fn show(connect: Connect, args: LatencyArgs) -> Result<(), CliError> {
    if !(INTERVAL_SECONDS_MIN..=INTERVAL_SECONDS_MAX).contains(&args.interval) {
        let allowed = format!("allowed are {INTERVAL_SECONDS_MIN} to {INTERVAL_SECONDS_MAX} seconds");
        return Err(CliError::Usage(format!("--interval {}: {allowed}", args.interval)));
    }
    let session = Session::open(&connect.server).await?;
    let (node, mut before) = ask(&session, args.by_core).await?;
    if args.since_start {
        return print(&connect, node, "since the start", lines(&before));
    }
    let mut printed = 0;
    while args.count == 0 || printed < args.count {
        time::sleep(Duration::from_secs_f64(args.interval)).await;
        let (node, now) = ask(&session, args.by_core).await?;
        print(&connect, node, &format!("last {} s", args.interval), lines(&difference(&now, &before)))?;
        before = now;
        printed += 1;
    }
    Ok(())
}

async fn ask(session: &Session, by_core: bool) -> Result<(u32, Rows), CliError> {
    let what = "the stage latencies";
    let answer = session.any().await?.latency().await;
    let json = answer.map_err(|error| session.failed(what, error))?;
    let parsed: Result<Latencies, _> = simd_json::from_slice(&mut json.into_bytes());
    let latencies = parsed.map_err(|error| CliError::Client {
        what: what.to_owned(),
        detail: format!("not as expected: {error}"),
    })?;
    Ok((latencies.node, rows(latencies, by_core)))
}

fn rows(latencies: Latencies, by_core: bool) -> Rows {
    let mut rows = Rows::new();
    for core in latencies.cores {
        let name = by_core.then_some(core.core);
        for (place, stage) in core.stages.into_iter().enumerate() {
            let row = rows.entry((name, place)).or_insert_with(|| Row {
                operation: stage.operation,
                stage: stage.stage,
                counts: BTreeMap::new(),
            });
            for (nanos, count) in stage.counts {
                *row.counts.entry(nanos).or_default() += count;
            }
        }
    }
    rows
}

/// What `now` has more than `before`. A broker that was restarted meanwhile has less; then all of `now` is new.
fn difference(now: &Rows, before: &Rows) -> Rows {
    let counts_before = |key: &Key, nanos: &u64| {
        before.get(key).and_then(|row| row.counts.get(nanos)).copied().unwrap_or_default()
    };
    let restarted = before.iter().any(|(key, row)| {
        let counts = now.get(key).map(|row| &row.counts);
        row.counts.iter().any(|(nanos, count)| counts.and_then(|c| c.get(nanos)).unwrap_or(&0) < count)
    });
    let subtract = |(key, row): (&Key, &Row)| {
        let left = row
            .counts
            .iter()
            .map(|(nanos, count)| (*nanos, count - if restarted { 0 } else { counts_before(key, nanos) }));
        let counts = left.filter(|(_, count)| *count > 0).collect();
        (*key, Row { operation: row.operation.clone(), stage: row.stage.clone(), counts })
    };
    now.iter().map(subtract).collect()
}

fn lines(rows: &Rows) -> Vec<Line> {
    rows.iter().filter(|(_, row)| !row.counts.is_empty()).map(|((core, _), row)| line(*core, row)).collect()
}

fn line(core: Option<u16>, row: &Row) -> Line {
    let longest = row.counts.keys().next_back().map_or(2, |nanos| (*nanos).max(2));
    let mut histogram =
        Histogram::<u64>::new_with_max(longest, 3).expect("three digits are within the allowed range");
    for (nanos, count) in &row.counts {
        histogram.saturating_record_n(*nanos, *count);
    }
    let micros = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    Line {
        core,
        operation: row.operation.clone(),
        stage: row.stage.clone(),
        count: histogram.len(),
        p50_us: micros(0.5),
        p99_us: micros(0.99),
        p999_us: micros(0.999),
        max_us: micros(1.0),
    }
}

fn print(connect: &Connect, node: u32, when: &str, lines: Vec<Line>) -> Result<(), CliError> {
    if connect.json {
        return output::json(&lines);
    }
    if lines.is_empty() {
        return output::line(&format!("node {node}, {when}: no requests"));
    }
    output::line(&format!("node {node}, {when}, microseconds"))?;
    let header = ["CORE", "OPERATION", "STAGE", "COUNT", "P50", "P99", "P99.9", "MAX"];
    let rows: Vec<[String; 8]> = lines.iter().map(cells).collect();
    output::table(header, &rows)?;
    output::line("")
}

fn cells(line: &Line) -> [String; 8] {
    let micros = |value: f64| format!("{value:.1}");
    [
        line.core.map_or_else(|| "all".to_owned(), |core| core.to_string()),
        line.operation.clone(),
        line.stage.clone(),
        line.count.to_string(),
        micros(line.p50_us),
        micros(line.p99_us),
        micros(line.p999_us),
        micros(line.max_us),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(cores: &[&[(u64, u64)]]) -> Latencies {
        let stage = |counts: &[(u64, u64)]| Stage {
            operation: "produce".to_owned(),
            stage: "write".to_owned(),
            counts: counts.to_vec(),
        };
        let core =
            |(core, counts): (usize, &&[(u64, u64)])| Core { core: core as u16, stages: vec![stage(counts)] };
        Latencies { node: 1, cores: cores.iter().enumerate().map(core).collect() }
    }

    #[test]
    fn cores_are_merged_or_shown_apart() {
        let cores: [&[(u64, u64)]; 2] = [&[(1000, 3)], &[(1000, 1), (9000, 1)]];
        let merged = lines(&rows(answer(&cores), false));
        assert_eq!((merged.len(), merged[0].count, merged[0].core), (1, 5, None));
        let apart = lines(&rows(answer(&cores), true));
        assert_eq!(
            apart.iter().map(|line| (line.core, line.count)).collect::<Vec<_>>(),
            [(Some(0), 3), (Some(1), 2)]
        );
    }

    #[test]
    fn a_table_shows_what_is_new() {
        let before = rows(answer(&[&[(1000, 3), (5000, 2)]]), false);
        let now = rows(answer(&[&[(1000, 3), (5000, 6), (7000, 1)]]), false);
        let new = lines(&difference(&now, &before));
        assert_eq!(new[0].count, 5);
        assert!((4.9..5.1).contains(&new[0].p50_us), "{}", new[0].p50_us);
        assert!(lines(&difference(&now, &now)).is_empty());
    }

    #[test]
    fn after_a_restart_everything_is_new() {
        let before = rows(answer(&[&[(1000, 30)]]), false);
        let now = rows(answer(&[&[(1000, 2), (5000, 6)]]), false);
        assert_eq!(lines(&difference(&now, &before))[0].count, 8);
    }
}
