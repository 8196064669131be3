//! `heddle-loadgen limits`: measures, prints.

use super::{LimitPlan, LimitSummary, Limits, Throughput, measure_throughput};
use crate::cli::LimitsArgs;
use serde::Serialize;

/// Large writes and reads at a time: enough to keep a disk busy.
const THROUGHPUT_DEPTH: u32 = 4;

#[derive(Serialize)]
struct Printed {
    #[serde(flatten)]
    limits: LimitSummary,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    throughput: Option<Throughput>,
}

/// Runs the command.
pub fn command(args: &LimitsArgs) -> Result<(), String> {
    let plan = LimitPlan {
        dir: args.dir.clone(),
        message_bytes: args.bytes,
        rate: args.rate,
        depth: args.depth,
        replicas: args.replicas,
        duration: args.duration,
    };
    let limits = Limits::measure(&plan).map_err(|e| e.to_string())?.summary(&plan);
    let throughput = match args.throughput {
        true => Some(
            measure_throughput(&args.dir, args.throughput_bytes, THROUGHPUT_DEPTH, args.duration)
                .map_err(|e| e.to_string())?,
        ),
        false => None,
    };
    let printed = Printed { limits, throughput };
    if args.json {
        println!("{}", simd_json::to_string(&printed).map_err(|e| e.to_string())?);
    } else {
        print!("{}", to_text(&printed));
    }
    Ok(())
}

fn to_text(printed: &Printed) -> String {
    let limits = &printed.limits;
    let rate = if limits.rate == 0 { "one after another".to_owned() } else { format!("{}/s", limits.rate) };
    let mut text = format!(
        "{} B written as {} B, {rate}, depth {}\n",
        limits.message_bytes, limits.write_bytes, limits.depth
    );
    let parts = [("durable write", &limits.write), ("loopback round trip", &limits.round_trip)];
    for (name, figures) in
        parts.into_iter().chain(limits.replicated.as_ref().map(|echo| ("echo of replicas", echo)))
    {
        text += &format!(
            "  {name:<20} p50 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1} us  ({} times)\n",
            figures.p50_us, figures.p99_us, figures.p999_us, figures.max_us, figures.count
        );
    }
    text += &format!(
        "  {:<20} p50 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1} us\n",
        "limit (sum)", limits.limit_p50_us, limits.limit_p99_us, limits.limit_p999_us, limits.limit_max_us
    );
    if limits.is_saturated {
        text += &format!(
            "  the disk cannot do this many writes one by one; each alone takes p50 {:.1}  p99 {:.1} us\n",
            limits.write_alone_p50_us, limits.write_alone_p99_us
        );
    }
    if let Some(figures) = &printed.throughput {
        text += &format!(
            "  {} KiB x {} at a time: durable write {:.0} MB/s, {:.0} over written space; direct read {:.0} MB/s; loopback {:.0} MB/s\n",
            figures.io_bytes / 1024,
            figures.depth,
            figures.first_write_mb_per_s,
            figures.write_mb_per_s,
            figures.read_mb_per_s,
            figures.loopback_mb_per_s
        );
    }
    text
}
