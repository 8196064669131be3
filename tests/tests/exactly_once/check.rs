//! What readers see, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use heddle_tests::kafka::{self, Polled};
use heddle_tests::wait::HANG;
use rdkafka::message::Message;

use crate::PARTITIONS;

/// The values of a topic from the beginning to its end, as a reader with that isolation sees them.
pub fn read(bootstrap: &str, topic: &str, isolation: &str) -> Vec<String> {
    let from = kafka::from_beginning(PARTITIONS);
    let consumer = kafka::consumer(bootstrap, topic, &from, &[("isolation.level", isolation)]);
    let mut deadline = Instant::now() + HANG;
    let (mut values, mut ended) = (Vec::new(), BTreeSet::new());
    while ended.len() < from.len() {
        assert!(Instant::now() < deadline, "{} values of {topic} came, but no end", values.len());
        match kafka::poll(&consumer) {
            Polled::Record(record) => {
                values.push(String::from_utf8(record.payload().unwrap().to_vec()).unwrap());
                deadline = Instant::now() + HANG;
            }
            Polled::End(partition) => drop(ended.insert(partition)),
            Polled::Nothing => {}
        }
    }
    values
}

/// Which of the first `count` numbers are not among the values.
pub fn missing(count: u64, values: &[String]) -> Vec<u64> {
    let seen: BTreeSet<u64> = values.iter().filter_map(|value| value.parse().ok()).collect();
    (0..count).filter(|number| !seen.contains(number)).collect()
}

/// Everything that is not as it must be: each of the first `count` numbers once, and nothing else.
pub fn anomalies(count: u64, values: &[String]) -> Vec<String> {
    let mut times: BTreeMap<&str, u64> = BTreeMap::new();
    values.iter().for_each(|value| *times.entry(value).or_default() += 1);
    let lost = missing(count, values).into_iter().map(|number| format!("{number} is lost"));
    let wrong = times.iter().filter_map(|(value, times)| match value.parse::<u64>() {
        Ok(number) if number < count => (*times > 1).then(|| format!("{value} is there {times} times")),
        _ => Some(format!("{value:?} must not be seen")),
    });
    lost.chain(wrong).collect()
}

/// How far the values have come.
pub fn describe(count: u64, values: &[String]) -> String {
    let missing = missing(count, values);
    format!("{} of {count} are missing, the first {:?}", missing.len(), missing.first())
}

#[test]
fn each_anomaly_is_found() {
    let of = |values: &[&str]| anomalies(3, &values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>());
    assert_eq!(of(&["2", "0", "1"]), [""; 0]);
    assert_eq!(of(&["2", "1"]), ["0 is lost"]);
    assert_eq!(of(&["2", "0", "1", "0"]), ["0 is there 2 times"]);
    assert_eq!(of(&["2", "0", "1", "doomed 1"]), ["\"doomed 1\" must not be seen"]);
    assert_eq!(of(&["2", "0", "1", "3"]), ["\"3\" must not be seen"]);
}
