//! The command line against a real broker: what users type, what they get, and what they are told when it does not work.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use heddle_tests::binary::workspace;
use heddle_tests::broker::{Broker, BrokerOptions, Place, PortMode};
use heddle_tests::command::{heddle, heddle_with_input, parse_json};
use heddle_tests::{kafka, records};
use rdkafka::message::Message;
use simd_json::prelude::{
    ValueAsArray, ValueAsObject, ValueAsScalar, ValueObjectAccess, ValueObjectAccessAsScalar,
};

#[test]
fn topics_are_created_listed_described_altered_and_deleted() {
    let broker = Broker::start(BrokerOptions::new());
    let server = broker.bootstrap();
    let create = [
        "topic",
        "create",
        "orders",
        "--partitions",
        "3",
        "--config",
        "retention.ms=3600000",
        "--config",
        "durability=async",
    ];
    heddle(&server, &create).worked();
    heddle(&server, &["topic", "create", "payments"]).worked();
    let listed = heddle(&server, &["topic", "list"]).worked().text();
    assert!(listed.contains("orders") && listed.contains("payments"), "{listed}");
    let listed = heddle(&server, &["topic", "list", "--json"]).worked().text();
    let parsed = parse_json(&listed);
    assert!(parsed.as_array().is_some() || parsed.as_object().is_some());
    assert!(listed.contains("\"orders\""), "{listed}");

    let described = heddle(&server, &["topic", "describe", "orders"]).worked().text();
    for word in ["orders", "retention.ms", "3600000", "durability", "async"] {
        assert!(described.contains(word), "{word} is not in:\n{described}");
    }
    let described = heddle(&server, &["topic", "describe", "orders", "--json"]).worked().json();
    assert_eq!(described.get("topic").and_then(|name| name.as_str()), Some("orders"));
    assert_eq!(described.get("partitions").and_then(|list| list.as_array()).map(Vec::len), Some(3));

    heddle(&server, &["topic", "alter", "orders", "--config", "retention.ms=", "--config", "flush.ms=5"])
        .worked();
    heddle(&server, &["topic", "alter", "orders", "--partitions", "5"]).worked();
    let described = heddle(&server, &["topic", "describe", "orders", "--json"]).worked();
    assert!(described.text().contains("604800000"), "{}", described.text());
    assert_eq!(described.json().get("partitions").and_then(|list| list.as_array()).map(Vec::len), Some(5));

    heddle(&server, &["topic", "delete", "orders"]).worked();
    let listed = heddle(&server, &["topic", "list"]).worked().text();
    assert!(!listed.contains("orders"), "{listed}");
}

#[test]
fn the_stages_of_requests_are_shown_and_exported() {
    let broker = Broker::start(BrokerOptions::new());
    let server = broker.bootstrap();
    heddle(&server, &["topic", "create", "orders"]).worked();
    let asked = ["cluster", "latency", "--since-start", "--json"];
    assert_eq!(heddle(&server, &asked).worked().json().as_array().map(Vec::len), Some(0), "nothing came yet");
    heddle_with_input(&server, &["produce", "orders"], b"a\nb\n").worked();
    heddle(&server, &["consume", "orders", "--until-end"]).worked();

    let lines = heddle(&server, &asked).worked().json();
    let line = |operation: &str, stage: &str| {
        let lines = lines.as_array().expect("a list");
        let found = lines.iter().find(|line| {
            line.get_str("operation") == Some(operation) && line.get_str("stage") == Some(stage)
        });
        found.unwrap_or_else(|| panic!("no {operation} {stage} in {lines:?}")).clone()
    };
    let stages = ["receive", "decode", "append", "seal", "submit", "write", "commit", "reply", "total"];
    let count = line("produce", "total").get_u64("count").expect("a number");
    assert!(count > 0);
    for stage in stages {
        assert_eq!(line("produce", stage).get_u64("count"), Some(count), "{stage}");
    }
    let p50 = |stage| line("produce", stage).get_f64("p50_us").expect("a number");
    assert!(p50("write") <= p50("total"), "a stage is longer than all of them");

    let table = heddle(&server, &["cluster", "latency", "--since-start", "--by-core"]).worked().text();
    assert!(table.contains("P99.9") && table.contains("write"), "{table}");
    let exported = broker.metrics();
    let name = format!("heddle_stage_latency_seconds_count{{operation=\"produce\",stage=\"total\"}} {count}");
    assert!(exported.text().contains(&name), "{name} is not in:\n{}", exported.text());
    heddle(&server, &["cluster", "latency", "--interval", "0"]).misused_naming(&["--interval", "0.1"]);
}

#[test]
fn errors_name_what_was_wrong_with_status_1() {
    let mut broker = Broker::start(BrokerOptions::new().set("auto_create_topics", "false"));
    let server = broker.bootstrap();
    heddle(&server, &["topic", "create", "orders"]).worked();
    let cases: [(&[&str], &[&str]); 9] = [
        (&["topic", "create", "orders"], &["orders", "exist"]),
        (&["topic", "create", "bad name"], &["bad name", "letters"]),
        (&["topic", "create", "x", "--config", "retention=1"], &["retention", "retention.ms"]),
        (&["topic", "create", "x", "--config", "durability=maybe"], &["durability=maybe", "fsync"]),
        (&["topic", "describe", "none"], &["none"]),
        (&["topic", "delete", "none"], &["none"]),
        (&["topic", "alter", "orders", "--config", "segment.bytes=1"], &["segment.bytes=1", "14 to"]),
        (&["consume", "none", "--until-end"], &["none"]),
        (&["consume", "orders", "--partition", "7", "--until-end"], &["orders", "7"]),
    ];
    for (arguments, words) in cases {
        heddle(&server, arguments).failed_naming(words);
    }
    heddle_with_input(&server, &["produce", "none"], b"x\n").failed_naming(&["none"]);
    let failed = heddle(&server, &["topic", "delete", "none", "--json"]);
    assert_eq!(failed.status, Some(1));
    let told = parse_json(&failed.errors);
    assert_eq!(told.get("code").and_then(|code| code.as_str()), Some("UNKNOWN_TOPIC_OR_PARTITION"));
    broker.terminate();
    heddle(&server, &["topic", "list"]).failed_naming(&[&server, "--server"]);
    assert_eq!(heddle(&server, &["topic", "create", "x", "--partitions", "0"]).status, Some(2));
}

/// A text that tries a line-based tool: empty lines, long lines, bytes that are no UTF-8, and an end with a newline.
fn awkward_text() -> Vec<u8> {
    let mut text = b"first\n\n\n  spaces  \ttabs\t\n\xff\xfe\x00nul\nlong ".to_vec();
    text.extend(std::iter::repeat_n(b'x', 300_000));
    text.push(b'\n');
    for number in 0..20_000 {
        text.extend_from_slice(format!("line {number}\n").as_bytes());
    }
    text
}

#[test]
fn a_file_comes_back_byte_for_byte() {
    for mode in PortMode::ALL {
        let broker = Broker::start(BrokerOptions::new().port_mode(mode));
        let server = broker.bootstrap();
        let text = awkward_text();
        let file = broker.place().scratch().join("input");
        std::fs::write(&file, &text).unwrap();
        for (topic, compression) in [("plain", "none"), ("packed", "zstd")] {
            let file = file.display().to_string();
            heddle(&server, &["produce", topic, &file, "--compression", compression]).worked();
            let consumed =
                heddle(&server, &["consume", topic, "--from", "beginning", "--until-end"]).worked();
            assert!(
                consumed.output == text,
                "{mode:?}, {topic}: {} bytes came of {}",
                consumed.output.len(),
                text.len()
            );
        }
        heddle_with_input(&server, &["produce", "piped"], &text).worked();
        let lines = text.iter().filter(|byte| **byte == b'\n').count();
        let max = lines.to_string();
        let consumed = heddle(&server, &["consume", "piped", "--from", "beginning", "--max", &max]).worked();
        assert!(consumed.output == text, "{mode:?}, piped");
    }
}

#[test]
fn keys_partitions_and_starts() {
    let broker = Broker::start(BrokerOptions::new());
    let server = broker.bootstrap();
    heddle(&server, &["topic", "create", "t", "--partitions", "4"]).worked();
    let lines: String = (0..40).map(|number| format!("key{}:value {number}\n", number % 7)).collect();
    heddle_with_input(&server, &["produce", "t", "--key-separator", ":"], lines.as_bytes()).worked();
    let read = kafka::read_to_end(&server, "t", &kafka::from_beginning(4));
    assert_eq!(read.len(), 40);
    let mut homes = std::collections::BTreeMap::new();
    for record in &read {
        let key = record.key().expect("every record has a key").to_vec();
        let home = *homes.entry(key).or_insert(record.partition());
        assert_eq!(home, record.partition(), "a key has one partition");
    }
    assert!(homes.values().collect::<std::collections::BTreeSet<_>>().len() > 1, "keys spread");
    heddle_with_input(&server, &["produce", "t", "--key-separator", ":"], b"no key here\n")
        .failed_naming(&["line 1", "key"]);

    heddle_with_input(&server, &["produce", "u"], b"a\nb\nc\nd\n").worked();
    let consumed = heddle(&server, &["consume", "u", "--from", "2", "--max", "1"]).worked();
    assert_eq!(consumed.text(), "c\n");
    let consumed = heddle(&server, &["consume", "u", "--from", "@1000", "--until-end"]).worked();
    assert_eq!(consumed.text(), "a\nb\nc\nd\n");
    let consumed = heddle(&server, &["consume", "u", "--from", "end", "--until-end"]).worked();
    assert_eq!(consumed.text(), "");
    let consumed =
        heddle(&server, &["consume", "u", "--from", "beginning", "--until-end", "--format", "json"]).worked();
    let objects: Vec<_> = consumed.text().lines().map(parse_json).collect();
    assert_eq!(objects.len(), 4);
    for (number, object) in objects.iter().enumerate() {
        assert_eq!(object.get("offset").and_then(|offset| offset.as_u64()), Some(number as u64));
        assert_eq!(object.get("topic").and_then(|topic| topic.as_str()), Some("u"));
    }
    assert_eq!(objects[3].get("value").and_then(|value| value.as_str()), Some("d"));
}

#[test]
fn records_of_kafka_clients_are_printed() {
    let broker = Broker::start(BrokerOptions::new());
    let server = broker.bootstrap();
    let sent = kafka::ToSend {
        key: Some(b"k".to_vec()),
        timestamp: Some(1_700_000_000_000),
        headers: vec![("h".to_owned(), Some(b"1".to_vec()))],
        ..kafka::ToSend::to(0, "v")
    };
    let tombstone =
        kafka::ToSend { key: Some(b"k".to_vec()), partition: Some(0), ..kafka::ToSend::default() };
    kafka::create(&server, "t", 1, &[]);
    kafka::deliver(&server, "t", &[("compression.codec", "gzip")], &[sent, tombstone]);
    let consumed =
        heddle(&server, &["consume", "t", "--from", "beginning", "--until-end", "--json"]).worked();
    let objects: Vec<_> = consumed.text().lines().map(parse_json).collect();
    assert_eq!(objects.len(), 2);
    assert_eq!(objects[0].get("key").and_then(|key| key.as_str()), Some("k"));
    assert!(consumed.text().contains("\"h\""), "{}", consumed.text());
    assert!(
        objects[1].get("value").is_some_and(|value| value.as_str().is_none()),
        "a tombstone has no value"
    );
}

#[test]
fn cluster_status_shows_nodes_and_cores() {
    let broker = Broker::start(BrokerOptions::new().node_id(3));
    let server = broker.bootstrap();
    heddle(&server, &["topic", "create", "t", "--partitions", "6"]).worked();
    let shown = heddle(&server, &["cluster", "status"]).worked().text();
    assert!(shown.contains(&server) && shown.contains('3'), "{shown}");
    let shown = heddle(&server, &["cluster", "status", "--json"]).worked().json();
    assert_eq!(shown.get("partition_count").and_then(|count| count.as_u64()), Some(6));
    let nodes = shown.get("nodes").and_then(|nodes| nodes.as_array()).expect("nodes are listed");
    assert_eq!(nodes[0].get("id").and_then(|id| id.as_u64()), Some(3));
    assert_eq!(nodes[0].get("core_count").and_then(|count| count.as_u64()), Some(2));
}

#[test]
fn doctor_tells_what_it_found() {
    let place = Place::new();
    let data_dir = place.data_dir().display().to_string();
    let listen = place.address().to_string();
    let admin = place.admin().to_string();
    let arguments =
        ["doctor", "--json", "--data-dir", &data_dir, "--listen", &listen, "--admin", &admin, "--cores", "1"];
    let outcome = heddle("", &arguments);
    // A machine may be unfit; the report must come all the same, and fit what the status says.
    let report = outcome.json();
    let fit = report.get("fit").and_then(|fit| fit.as_bool()).expect("it says whether the machine is fit");
    assert_eq!(outcome.status, Some(if fit { 0 } else { 1 }), "{}", outcome.errors);
    let findings = report.get("findings").and_then(|list| list.as_array()).expect("findings are listed");
    let checks: Vec<&str> = findings.iter().filter_map(|finding| finding.get("check")?.as_str()).collect();
    assert!(checks.contains(&"io_uring") && checks.len() >= 8, "{checks:?}");
    for finding in findings {
        let verdict =
            finding.get("verdict").and_then(|verdict| verdict.as_str()).expect("each has a verdict");
        let advice = finding.get("advice").and_then(|advice| advice.as_str());
        assert_eq!(verdict != "ok", advice.is_some(), "what is not ok comes with advice");
    }
    let text = heddle(
        "",
        &["doctor", "--data-dir", &data_dir, "--listen", &listen, "--admin", &admin, "--cores", "1"],
    );
    assert!(text.text().contains("io_uring"), "{}", text.text());
}

#[test]
fn a_reader_that_goes_away_ends_consume_quietly() {
    let broker = Broker::start(BrokerOptions::new());
    let server = broker.bootstrap();
    let lines = String::from_utf8(records::noise(1, 0)).unwrap() + &"line\n".repeat(200_000);
    heddle_with_input(&server, &["produce", "t"], lines.as_bytes()).worked();
    let mut child = std::process::Command::new(heddle_tests::binary::heddle())
        .args(["consume", "t", "--from", "beginning", "--until-end", "--server", &server])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}

#[test]
fn the_configuration_page_is_what_the_binary_prints() {
    let printed = heddle("", &["config-reference"]).worked().text();
    let page = std::fs::read_to_string(workspace().join("docs/configuration.md")).expect("the page exists");
    assert!(printed == page, "docs/configuration.md is out of date: write it with `heddle config-reference`");
}

#[test]
fn groups_are_listed_described_reset_and_deleted() {
    for mode in PortMode::ALL {
        let broker = Broker::start(BrokerOptions::new().port_mode(mode));
        let server = broker.bootstrap();
        heddle(&server, &["topic", "create", "orders", "--partitions", "3"]).worked();
        let lines: Vec<u8> = (0..300).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
        heddle_with_input(&server, &["produce", "orders"], &lines).worked();
        let read = |arguments: &[&str]| {
            let all = [&["consume", "orders", "--group", "readers"], arguments].concat();
            heddle(&server, &all).worked().text().lines().count()
        };
        assert_eq!(read(&["--max", "100"]), 100);
        assert_eq!(read(&["--until-end"]), 200, "the group goes on where it was");

        let listed = heddle(&server, &["group", "list"]).worked().text();
        assert!(listed.contains("readers") && listed.contains("Empty"), "{listed}");
        let described = heddle(&server, &["group", "describe", "readers", "--json"]).worked().json();
        let partitions = described.get("partitions").and_then(|list| list.as_array()).unwrap().clone();
        assert!(!partitions.is_empty());
        let sum = |field: &str| partitions.iter().filter_map(|at| at.get(field)?.as_i64()).sum::<i64>();
        assert_eq!((sum("committed_offset"), sum("end_offset"), sum("lag")), (300, 300, 0));

        let reset = heddle(&server, &["group", "reset", "readers", "--to", "earliest", "--dry-run"]).worked();
        assert!(reset.text().contains("orders"), "{}", reset.text());
        assert_eq!(read(&["--until-end"]), 0, "a dry run changes nothing");
        let reset = heddle(&server, &["group", "reset", "readers", "--to", "10", "--json"]).worked().json();
        let places = reset.as_array().unwrap();
        let left = 300 - places.iter().filter_map(|place| place.get("to_offset")?.as_i64()).sum::<i64>();
        assert_eq!(read(&["--until-end"]), left as usize, "an offset beyond the end is the end");
        heddle(&server, &["group", "reset", "readers", "--to", "latest", "--topic", "orders"]).worked();
        assert_eq!(read(&["--until-end"]), 0);

        heddle(&server, &["group", "describe", "nobody"]).failed_naming(&["nobody"]);
        heddle(&server, &["group", "reset", "nobody", "--to", "latest"])
            .misused_naming(&["nobody", "--topic"]);
        heddle(&server, &["group", "delete", "readers"]).worked();
        heddle(&server, &["group", "delete", "readers"]).failed_naming(&["readers"]);
        let listed = heddle(&server, &["group", "list", "--json"]).worked().text();
        assert!(!listed.contains("readers"), "{listed}");
    }
}
