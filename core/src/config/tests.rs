//! Tests of the layers, the refusals and the table of keys.

use super::*;
use std::collections::BTreeMap;
use std::io::Write;

fn command_line(pairs: &[(&str, &str)]) -> Sources {
    Sources { command_line: map(pairs), ..Sources::default() }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn with_file(text: &str) -> (tempfile::NamedTempFile, Sources) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    (file, sources)
}

fn refusal(sources: &Sources) -> String {
    Config::load(sources).unwrap_err().to_string()
}

#[test]
fn defaults_are_valid_and_as_documented() {
    let config = Config::defaults().unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:9092");
    assert_eq!(config.admin.unwrap().to_string(), "127.0.0.1:9644");
    assert_eq!(config.node_id, 1);
    assert_eq!(config.port_mode, PortMode::PerCore);
    assert_eq!(config.topic_defaults().count(), 0);
    assert_eq!(config.advertised_host(), "127.0.0.1");
    let caches = config.cache_bytes() + config.read_bytes();
    assert!(caches + config.dirty_bytes() + config.connection_bytes() <= config.memory_bytes);
}

#[test]
fn layers_win_in_order() {
    let (_file, mut sources) = with_file("node_id = 2\nspin_us = 5\nwal_files_max = 3\n");
    sources.environment = map(&[("node_id", "3"), ("spin_us", "6")]);
    sources.command_line = map(&[("node_id", "4")]);
    let config = Config::load(&sources).unwrap();
    assert_eq!((config.node_id, config.spin.as_micros(), config.wal_files_max), (4, 6, 3));
}

#[test]
fn file_takes_texts_numbers_booleans_and_core_lists() {
    let cpu = machine::usable_cpus()[0];
    let text = format!(
        "cores = [{cpu}]\nauto_create_topics = false\nwal_file_bytes = \"32MiB\"\nadmin = \"none\"\n"
    );
    let (_file, sources) = with_file(&text);
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.cpus, vec![cpu]);
    assert!(!config.auto_create_topics);
    assert_eq!(config.wal_file_bytes, 32 << 20);
    assert_eq!(config.admin, None);
}

#[test]
fn topic_defaults_come_as_pairs_or_as_a_table() {
    let (_file, sources) = with_file("[topic_defaults]\ndurability = \"async\"\n\"retention.ms\" = 5000\n");
    let from_table = Config::load(&sources).unwrap();
    let from_pairs =
        Config::load(&command_line(&[("topic_defaults", "retention.ms=5000,durability=async")])).unwrap();
    assert_eq!(from_table.topic_defaults, from_pairs.topic_defaults);
    assert_eq!(from_pairs.topic_defaults().next(), Some(("durability", "async".to_owned())));
}

#[test]
fn unknown_keys_are_named_with_the_nearest() {
    let (file, sources) = with_file("data_dri = \"/x\"\n");
    let message = refusal(&sources);
    assert!(message.contains("`data_dri`") && message.contains("did you mean `data_dir`?"), "{message}");
    assert!(message.contains(file.path().to_str().unwrap()), "{message}");
    let (_file, sources) = with_file("[server]\nport = 1\n");
    assert!(refusal(&sources).contains("unknown key `server`"));
    let (_file, sources) = with_file("qqqq = 1\n");
    assert!(!refusal(&sources).contains("did you mean"));
}

#[test]
fn unreadable_and_invalid_files_are_named() {
    let missing = Sources { file: Some("/nonexistent/heddle.toml".into()), ..Sources::default() };
    assert!(refusal(&missing).contains("/nonexistent/heddle.toml"));
    let (_file, sources) = with_file("node_id = \n");
    assert!(refusal(&sources).contains("not valid TOML"));
    let (_file, sources) = with_file("node_id = 1.5\n");
    assert!(refusal(&sources).contains("`node_id`"));
}

#[test]
fn wrong_values_say_what_is_allowed_and_where() {
    for (name, value, expected) in [
        ("node_id", "0", "1 to 2147482"),
        ("node_id", "one", "1 to 2147482"),
        ("port_mode", "both", "per-core, single"),
        ("listen", "9092", "HOST:PORT"),
        ("admin", "nowhere", "HOST:PORT"),
        ("wal_file_bytes", "1KiB", "1MiB to 1GiB"),
        ("wal_file_bytes", "64 parsecs", "64MiB"),
        ("cores", "3-1", "0,2-3"),
        ("cores", "99999-99999", "may use"),
        ("topic_defaults", "durability=maybe", "fsync"),
        ("topic_defaults", "retention=1", "retention.ms"),
        ("topic_defaults", "retention.ms", "NAME=VALUE"),
        ("auto_create_topics", "yes", "true and false"),
        ("data_dir", "", "empty"),
        ("log", "heddle=loud", "level"),
    ] {
        let message = refusal(&command_line(&[(name, value)]));
        assert!(message.contains(expected), "{name}={value}: {message}");
        assert!(
            message.contains(name) && message.contains("on the command line"),
            "{name}={value}: {message}"
        );
    }
}

#[test]
fn impossible_combinations_are_refused() {
    for pairs in [
        &[("cache_percent", "60"), ("dirty_percent", "31")][..],
        &[("frame_bytes_max", "64KiB")],
        &[("memory_bytes", "32MiB")],
        &[("keep_memory", "false"), ("touch_memory", "true")],
        &[("wal_file_bytes", "1048577")],
        &[("listen", "127.0.0.1:65535"), ("cores", "2")],
        &[("admin", "127.0.0.1:9093"), ("cores", "2")],
    ] {
        let error = Config::load(&command_line(pairs)).unwrap_err();
        assert!(matches!(error, ConfigError::Conflict { .. }), "{pairs:?}: {error}");
    }
    let single = [("listen", "127.0.0.1:65535"), ("cores", "2"), ("port_mode", "single")];
    assert!(Config::load(&command_line(&single)).is_ok());
}

#[test]
fn ports_of_cores() {
    let config = Config::load(&command_line(&[("cores", "2"), ("advertised_port", "30000")])).unwrap();
    assert_eq!(config.listen_of_core(1).port(), 9093);
    assert_eq!(config.advertised_port_of_core(1), 30001);
    let config = Config::load(&command_line(&[("cores", "2"), ("port_mode", "single")])).unwrap();
    assert_eq!(config.listen_of_core(1).port(), 9092);
    assert_eq!(config.port_count(), 1);
}

#[test]
fn memory_default_is_a_bounded_quarter() {
    assert_eq!(default_memory_bytes(16 << 30, 4), 1 << 30);
    assert_eq!(default_memory_bytes(1 << 30, 8), 128 << 20);
    assert_eq!(default_memory_bytes(1 << 40, 2), 4 << 30);
}

#[test]
fn keys_are_unique_and_sections_contiguous() {
    let mut names: Vec<_> = ENTRIES.iter().map(|entry| entry.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ENTRIES.len());
    let mut sections: Vec<_> = ENTRIES.iter().map(|entry| entry.section).collect();
    sections.dedup();
    let count = sections.len();
    sections.sort_unstable();
    sections.dedup();
    assert_eq!(sections.len(), count, "a section is split in two");
}

#[test]
fn the_whole_range_of_the_storage_keys_suits_the_log_store() {
    for name in ["wal_file_bytes", "wal_files_max", "groups_in_flight_max", "direct_drain_bytes"] {
        let (Kind::Bytes(min, max) | Kind::Count(min, max)) = Entry::find(name).unwrap().kind else {
            panic!("{name}")
        };
        for value in [min, max] {
            let config = Config::load(&command_line(&[(name, &value.to_string())])).unwrap();
            let options = heddle_log_store::Options {
                wal_file_bytes: config.wal_file_bytes,
                wal_files_max: config.wal_files_max,
                groups_in_flight_max: config.groups_in_flight_max,
                direct_drain_bytes: config.direct_drain_bytes as usize,
                ..heddle_log_store::Options::default()
            };
            assert!(options.validate().is_ok(), "{name}={value}: {:?}", options.validate());
        }
    }
}

#[test]
fn a_profile_sets_what_nobody_set() {
    let (_file, sources) = with_file("profile = \"dense\"\nspin_us = 7\n");
    let config = Config::load(&sources).unwrap();
    assert_eq!(
        (config.spin.as_micros(), config.memory_bytes, config.groups_in_flight_max),
        (7, 128 << 20, 2)
    );
    let latency = Config::load(&command_line(&[("profile", "latency")])).unwrap();
    assert_eq!((latency.wakeup_latency, latency.touch_memory), (Some(Duration::ZERO), true));
    assert_eq!(Config::defaults().unwrap().wakeup_latency, None);
    assert!(refusal(&command_line(&[("profile", "fast")])).contains("latency, balanced, dense"));
}

#[test]
fn every_profile_is_a_valid_configuration() {
    for profile in profiles::PROFILES {
        Config::load(&command_line(&[("profile", profile.name)])).unwrap();
    }
}
