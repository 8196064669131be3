//! The client commands against a fake broker.

mod fake_broker;

use super::CliError;
use super::args::{Cli, Command};
use crate::runtime::block_on::block_on;
use clap::Parser;
use fake_broker::{FakeBroker, TOPIC};
use heddle_proto::ErrorCode;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A writer that a test can read.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A writer whose reader has gone away.
struct ClosedPipe;

impl Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn parse(broker: &FakeBroker, words: &[&str]) -> Command {
    let server = ["--server", &*broker.address];
    Cli::try_parse_from(["heddle"].iter().chain(words).chain(&server)).unwrap().command
}

fn run(broker: &FakeBroker, words: &[&str]) -> Result<(), CliError> {
    super::dispatch(parse(broker, words))
}

/// Runs `heddle produce events WORDS` with `input` as the file.
fn produce(broker: &FakeBroker, input: &[u8], words: &[&str]) -> Result<(), CliError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(input).unwrap();
    let path = file.path().to_str().unwrap();
    run(broker, &[&["produce", TOPIC, path], words].concat())
}

fn consume_to(broker: &FakeBroker, words: &[&str], out: Box<dyn Write>) -> Result<(), CliError> {
    let Command::Consume(args) = parse(broker, &[&["consume", TOPIC], words].concat()) else {
        unreachable!()
    };
    block_on(super::consume::run_to(args, out)).unwrap()
}

fn consume(broker: &FakeBroker, words: &[&str]) -> Vec<String> {
    let out = Captured::default();
    consume_to(broker, words, Box::new(out.clone())).unwrap();
    out.lines()
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("record {number} {}", "x".repeat(number % 97))).collect()
}

#[test]
fn a_file_comes_back_in_order_from_one_partition() {
    let broker = FakeBroker::start();
    let records = numbered(20_000);
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        produce(&broker, records.join("\n").as_bytes(), &["--partition", "1", "--compression", compression])
            .unwrap();
    }
    let expected: Vec<String> = std::iter::repeat_n(records, 5).flatten().collect();
    assert!(consume(&broker, &["--until-end"]) == expected, "what came back differs");
    assert_eq!((broker.record_count(0), broker.record_count(1)), (0, 100_000));
}

#[test]
fn records_without_keys_spread_and_none_is_lost() {
    let broker = FakeBroker::start();
    let records = numbered(50_000);
    produce(&broker, records.join("\n").as_bytes(), &["--acks", "1"]).unwrap();
    assert!(broker.record_count(0) > 0 && broker.record_count(1) > 0);
    let (mut expected, mut found) = (records, consume(&broker, &["--until-end"]));
    expected.sort();
    found.sort();
    assert!(found == expected, "what came back differs");
    assert!(broker.state.lock().unwrap().acks.iter().all(|acks| *acks == 1));
}

#[test]
fn equal_keys_meet_and_json_shows_them() {
    let broker = FakeBroker::start();
    produce(&broker, b"a:1\nb:2\na:3\nc:4\n", &["--key-separator", ":"]).unwrap();
    let lines = consume(&broker, &["--until-end", "--format", "json"]);
    let of_a: Vec<&String> = lines.iter().filter(|line| line.contains("\"key\":\"a\"")).collect();
    assert_eq!((lines.len(), of_a.len()), (4, 2));
    let place =
        |line: &str| line.split(',').find(|part| part.starts_with("\"partition\"")).map(str::to_owned);
    assert_eq!(place(of_a[0]), place(of_a[1]));
    assert!(of_a[0].contains("\"value\":\"1\"") && of_a[1].contains("\"value\":\"3\""), "{of_a:?}");
}

#[test]
fn unacknowledged_records_have_arrived_when_the_command_ends() {
    let broker = FakeBroker::start();
    // Slow enough that a command which does not wait ends long before the last batch is stored.
    broker.state.lock().unwrap().pause = Duration::from_millis(50);
    produce(&broker, numbered(10_000).join("\n").as_bytes(), &["--acks", "0"]).unwrap();
    assert_eq!(broker.record_count(0) + broker.record_count(1), 10_000);
}

#[test]
fn a_refusal_stops_and_says_how_far_it_came() {
    let broker = FakeBroker::start();
    broker.state.lock().unwrap().refuse_after = Some((1, ErrorCode::KafkaStorageError));
    let error = produce(&broker, numbered(50_000).join("\n").as_bytes(), &[]).unwrap_err();
    let CliError::Stopped { cause, acknowledged, sent } = &error else { panic!("{error}") };
    assert!(matches!(&**cause, CliError::Refused { code: ErrorCode::KafkaStorageError, .. }), "{cause}");
    assert!(*acknowledged > 0 && acknowledged < sent);
    assert_eq!(*acknowledged as i64, broker.record_count(0) + broker.record_count(1));
    assert_eq!(error.status(), 1);
}

#[test]
fn consuming_starts_and_stops_where_told() {
    let broker = FakeBroker::start();
    produce(&broker, b"a\nb\nc\nd\n", &["--partition", "0"]).unwrap();
    assert_eq!(consume(&broker, &["--from", "2", "--until-end", "--partition", "0"]), ["c", "d"]);
    assert_eq!(consume(&broker, &["--max", "3"]), ["a", "b", "c"]);
    assert_eq!(consume(&broker, &["--max", "0"]), Vec::<String>::new());
    assert_eq!(consume(&broker, &["--from", "end", "--until-end"]), Vec::<String>::new());
    assert_eq!(consume(&broker, &["--from", "@5", "--until-end"]), Vec::<String>::new());
}

#[test]
fn what_does_not_exist_is_named() {
    let broker = FakeBroker::start();
    let message = |words: &[&str]| run(&broker, words).unwrap_err().to_string();
    assert!(message(&["consume", "nothing"]).contains("topic `nothing`: it does not exist"));
    assert!(message(&["consume", TOPIC, "--partition", "9"]).contains("has no partition 9; it has 2"));
    assert!(message(&["consume", TOPIC, "--group", "g", "--partition", "0"]).contains("exclude each other"));
    assert!(message(&["produce", TOPIC, "/nonexistent"]).contains("cannot read /nonexistent"));
    assert!(message(&["topic", "alter", TOPIC]).contains("nothing to alter"));
    assert!(message(&["topic", "create", "x"]).contains("creating topic `x`"));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let broker = FakeBroker::start();
    produce(&broker, b"a\n", &[]).unwrap();
    let ended = consume_to(&broker, &[], Box::new(ClosedPipe));
    assert!(matches!(ended, Err(CliError::BrokenPipe)), "{ended:?}");
}

#[test]
fn damage_is_told_with_its_place() {
    let broker = FakeBroker::start();
    produce(&broker, b"a\n", &["--partition", "1"]).unwrap();
    {
        let log = &mut broker.state.lock().unwrap().logs[1];
        let mut bytes = log[0].to_vec();
        // The value itself, before the count of headers: only the checksum can tell.
        let value = bytes.len() - 2;
        assert_eq!(bytes[value], b'a');
        bytes[value] = b'b';
        log[0] = bytes.into();
    }
    let error = consume_to(&broker, &["--until-end"], Box::new(io::sink())).unwrap_err().to_string();
    assert!(error.contains("partition 1, offset 0") && error.contains("damaged"), "{error}");
}

#[test]
fn status_prints() {
    let broker = FakeBroker::start();
    run(&broker, &["cluster", "status"]).unwrap();
    run(&broker, &["cluster", "status", "--json"]).unwrap();
    run(&broker, &["topic", "list"]).unwrap();
}
