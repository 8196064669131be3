//! The contract of the client suites with the `rdkafka` crate: runs each case and reports it on a line of JSON.

mod client;
mod groups;
mod records;
mod topics;

use std::error::Error;

/// How a case ends: well, or with what was found instead.
pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

type Case = fn(&str) -> Outcome;

const CASES: [(&str, Case); 12] = [
    ("compression", records::compression),
    ("idempotent", records::idempotent),
    ("admin", topics::administration),
    ("groups", groups::groups),
    ("transactions", groups::transactions),
    ("headers", records::headers),
    ("tombstones", records::tombstones),
    ("timestamps", records::timestamps),
    ("offsets by time", topics::offsets_by_time),
    ("delete records", topics::delete_records),
    ("big messages", records::big_messages),
    ("unknown topic", topics::unknown_topic),
];

fn main() {
    let bootstrap = std::env::var("HEDDLE_BOOTSTRAP").unwrap_or_else(|_| "127.0.0.1:9092".to_owned());
    let only = std::env::var("CLIENTS_ONLY").unwrap_or_default();
    for (name, case) in CASES.iter().filter(|(name, _)| name.contains(&only)) {
        let (outcome, reason) = match case(&bootstrap) {
            Ok(()) => ("passed", String::new()),
            Err(error) => ("failed", error.to_string()),
        };
        println!("{{\"case\": \"{name}\", \"outcome\": \"{outcome}\", \"reason\": {}}}", quoted(&reason));
    }
}

fn quoted(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() || c == '\\' { ' ' } else { c }).collect();
    format!("\"{}\"", plain.replace('"', "'"))
}

/// Fails with both values if they differ.
///
/// # Errors
/// What was found instead.
pub fn expect<T: PartialEq + std::fmt::Debug>(found: T, wanted: T, what: &str) -> Outcome {
    if found == wanted {
        return Ok(());
    }
    let text = |value: T| format!("{value:?}").chars().take(200).collect::<String>();
    Err(format!("{what}: {} instead of {}", text(found), text(wanted)).into())
}
