//! `verify` against a small Kafka broker in a process of its own: faithful, and with each fault it must find.

use crate::support::{self, Fault};
use clap::Parser;
use heddle_loadgen::cli::{Cli, Command};
use heddle_loadgen::verify::{self, VerifySummary};
use std::net::TcpListener;
use std::path::PathBuf;

const DIR: &str = "HEDDLE_FAKE_BROKER_DIR";
const PORT: &str = "HEDDLE_FAKE_BROKER_PORT";
const FAULT: &str = "HEDDLE_FAKE_BROKER_FAULT";

/// The broker's process: this test alone, with the variables above set.
#[test]
fn broker_process() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let address = format!("127.0.0.1:{}", std::env::var(PORT).unwrap());
    let listener = TcpListener::bind(address).unwrap();
    support::serve(listener, PathBuf::from(dir), Fault::named(&std::env::var(FAULT).unwrap()));
}

/// Verifies a broker that starts correctly, then with `fault`, then correctly again.
fn verify_with(fault: &str, kills: u32) -> VerifySummary {
    let dir = tempfile::tempdir().unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let exe = std::env::current_exe().unwrap();
    let serve = |fault: &str| {
        format!(
            "env {DIR}='{}' {PORT}={port} {FAULT}={fault} '{}' --exact verify::broker_process --nocapture",
            dir.path().display(),
            exe.display()
        )
    };
    let (good, bad, log) = (serve("none"), serve(fault), log.path().display().to_string());
    let target = format!("kafka://127.0.0.1:{port}");
    let kills = kills.to_string();
    let mut words = vec!["heddle-loadgen", "verify", "--target", &target, "--kills", &kills];
    words.extend(["--serve", &good, "--serve", &bad, "--serve", &good, "--broker-log", &log]);
    words.extend(["--life-min", "50ms", "--life-max", "150ms", "--rate", "500", "--partitions", "3"]);
    let Command::Verify(args) = Cli::try_parse_from(words).unwrap().command else { panic!("not verify") };
    verify::verify(&args, 42).unwrap()
}

#[test]
fn a_faithful_broker_passes() {
    let summary = verify_with("none", 4);
    assert!(summary.ok, "{summary:?}");
    assert_eq!(summary.kills, 4);
    assert!(summary.acked > 0 && summary.found >= summary.acked && summary.seen > 0, "{summary:?}");
}

#[test]
fn a_broker_that_forgets_is_caught() {
    let summary = verify_with("lose", 1);
    assert!(!summary.ok && summary.lost > 0, "{summary:?}");
}

#[test]
fn a_broker_that_repeats_is_caught() {
    let summary = verify_with("duplicate", 1);
    assert!(!summary.ok && summary.duplicated > 0 && summary.lost == 0, "{summary:?}");
}

#[test]
fn a_broker_that_exchanges_is_caught() {
    let summary = verify_with("reorder", 1);
    assert!(!summary.ok && summary.problems.contains_key("moved"), "{summary:?}");
    assert!(summary.problems.contains_key("vanished") || summary.seen == 0, "{summary:?}");
}
