//! `run` against a small Kafka broker in this process: what is sent arrives, is counted, and is reported.

use crate::support;
use clap::Parser;
use heddle_loadgen::batch_pool::{BatchPool, PayloadShape};
use heddle_loadgen::cli::{Cli, Command, RunArgs};
use heddle_loadgen::clock::Nanos;
use heddle_loadgen::link::{Link, Place};
use heddle_loadgen::report::folder::RunFolder;
use heddle_loadgen::run::{self, config::RunConfig};
use heddle_loadgen::runtime;
use heddle_loadgen::target::Protocol;
use std::sync::Arc;

fn args(port: u16, more: &str) -> Box<RunArgs> {
    let line = format!("heddle-loadgen run --target kafka://127.0.0.1:{port} --warmup 0s --spin-us 0 {more}");
    match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
        Command::Run(args) => args,
        other => panic!("{other:?}"),
    }
}

fn execute(port: u16, more: &str) -> run::Outcome {
    run::execute(Arc::new(RunConfig::resolve(&args(port, more)).unwrap())).unwrap()
}

#[test]
fn an_open_loop_sends_every_record_once_and_consumers_see_them() {
    let dir = tempfile::tempdir().unwrap();
    let port = support::spawn(dir.path().to_owned());
    let outcome = execute(
        port,
        "--topic t --partitions 3 --rate 500 --duration 1s --producers 2 --consumers 2 --record-bytes 100",
    );
    let summary = outcome.summary;
    assert_eq!(summary.errors, 0, "{summary:?}");
    assert_eq!(summary.unsent_records, 0);
    assert_eq!(summary.latency_count, 500, "every record that was due is in the histogram: {summary:?}");
    assert_eq!(summary.end_to_end_count, Some(500), "and arrived: {summary:?}");
    assert!(summary.open_loop && summary.p50_us > 0.0 && summary.max_us >= summary.p50_us);
    assert!(outcome.intervals.iter().any(|interval| interval.tag == "end_to_end"));
}

#[test]
fn a_closed_loop_and_a_read_from_the_beginning_move_the_same_records() {
    let dir = tempfile::tempdir().unwrap();
    let port = support::spawn(dir.path().to_owned());
    let common = "--topic t --partitions 2 --topics 2 --record-bytes 200";
    let produced =
        execute(port, &format!("{common} --rate 0 --duration 300ms --batch-bytes 4k --in-flight-max 2"));
    assert_eq!(produced.summary.errors, 0);
    assert!(produced.summary.acked_batches > 0 && !produced.summary.open_loop);
    assert!(produced.summary.records_per_batch > 10.0, "{:?}", produced.summary);

    let on_disk: u64 = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            let counts =
                heddle_proto::batch::batches(&bytes).map(|batch| u64::from(batch.unwrap().0.record_count));
            counts.sum::<u64>()
        })
        .sum();
    let consumed = execute(port, &format!("{common} --mode consume --duration 20s")).summary;
    assert_eq!(consumed.errors, 0);
    assert!(consumed.seconds < 19.0, "it ends when all is read: {consumed:?}");
    assert_eq!(consumed.consumed_records, Some(on_disk), "{consumed:?}");
}

#[test]
fn a_report_folder_is_written_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let port = support::spawn(dir.path().to_owned());
    let reports = tempfile::tempdir_in(".").unwrap();
    let folder = reports.path().join("one");
    let more = format!(
        "--topic t --rate 200 --duration 500ms --batch-records 1 --report {} --with-limits --limit-duration 50ms --limit-dir {} --json",
        folder.display(),
        reports.path().display()
    );
    assert_eq!(run::command(&args(port, &more)), Ok(true));
    let read = RunFolder::read(&folder).unwrap();
    assert_eq!(read.summary.acked_records, read.summary.acked_batches);
    assert!(read.summary.ratio_p50.is_some() && read.summary.limit_p99_us.is_some());
    assert_eq!(read.intervals.iter().map(|i| i.latencies.len()).sum::<u64>(), 100);
    let page = std::fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("<svg") && !page.contains("http"));
}

#[test]
fn a_topic_with_other_partitions_and_a_dead_target_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let port = support::spawn(dir.path().to_owned());
    execute(port, "--topic t --partitions 2 --rate 100 --duration 50ms");
    let wrong = |more: &str| match RunConfig::resolve(&args(port, more)).map(|c| run::execute(Arc::new(c))) {
        Ok(Err(error)) => error,
        _ => panic!("no error"),
    };
    assert!(wrong("--topic t --partitions 3").contains("exists with 2 partitions"));
    let dead = args(1, "--topic t");
    let error = run::execute(Arc::new(RunConfig::resolve(&dead).unwrap())).err().unwrap();
    assert!(error.contains("cannot connect to 127.0.0.1:1"), "{error}");
}

#[test]
fn an_answer_comes_although_the_last_handle_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let port = support::spawn(dir.path().to_owned());
    execute(port, "--topic t --rate 100 --duration 50ms");
    let offset = runtime::block_on(async move {
        let address = format!("127.0.0.1:{port}");
        let link = Link::connect(Protocol::Kafka, &address).await.unwrap();
        let layout = link.layout(&["t".to_owned()]).await.unwrap();
        let end = link.offset_of(&layout.routes[0], Place::Latest).await.unwrap();
        let stamped = BatchPool::new(SHAPE).stamp(1, 0, 0, |_| Nanos::new(1)).unwrap();
        let answer = link.produce(&layout.routes[0], -1, stamped.bytes);
        drop(link);
        (end, answer.await)
    });
    let (end, answered) = offset.unwrap();
    assert_eq!(answered, Ok(end));
}

const SHAPE: PayloadShape = PayloadShape { record_bytes: 50, random_ratio: 1.0, pool: 1, keys: 0, seed: 1 };
