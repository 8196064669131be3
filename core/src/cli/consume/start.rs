//! `--from`: where to start.

use heddle_client::{Offset, StartFrom, Timestamp};
use std::time::UNIX_EPOCH;

/// Where a user wants to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// With the oldest record held.
    Beginning,
    /// With the next record to come.
    End,
    /// With this offset.
    Offset(i64),
    /// With the first record at least this new; milliseconds since 1970.
    Time(i64),
}

impl StartAt {
    /// Parses `beginning`, `end`, `42`, `2026-01-31T12:00:00Z`, `2026-01-31` or `@1769860800000`.
    pub fn parse(text: &str) -> Result<StartAt, String> {
        const ALLOWED: &str = "allowed are beginning, end, an offset (42), a time in UTC (2026-01-31T12:00:00Z, 2026-01-31) or milliseconds since 1970 (@1769860800000)";
        match text {
            "beginning" => return Ok(StartAt::Beginning),
            "end" => return Ok(StartAt::End),
            _ => {}
        }
        if let Some(millis) = text.strip_prefix('@') {
            return not_negative(millis).map(StartAt::Time).ok_or_else(|| ALLOWED.to_owned());
        }
        if let Some(offset) = not_negative(text) {
            return Ok(StartAt::Offset(offset));
        }
        parse_time(text).map(StartAt::Time).ok_or_else(|| ALLOWED.to_owned())
    }

    /// As the brokers are asked.
    pub fn on_wire(self) -> StartFrom {
        match self {
            StartAt::Beginning => StartFrom::Earliest,
            StartAt::End => StartFrom::Latest,
            StartAt::Offset(offset) => StartFrom::Offset(Offset::new(offset)),
            StartAt::Time(millis) => StartFrom::Timestamp(Timestamp::new(millis)),
        }
    }
}

fn not_negative(text: &str) -> Option<i64> {
    text.parse().ok().filter(|number| *number >= 0)
}

/// Milliseconds of a time in UTC; a day alone is its midnight.
fn parse_time(text: &str) -> Option<i64> {
    let is_day = text.len() == "2026-01-31".len();
    let whole = if is_day { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let time = humantime::parse_rfc3339_weak(&whole).ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (text, start) in [
            ("beginning", StartAt::Beginning),
            ("end", StartAt::End),
            ("0", StartAt::Offset(0)),
            ("42", StartAt::Offset(42)),
            ("@1700000000000", StartAt::Time(1_700_000_000_000)),
            ("2023-11-14T22:13:20Z", StartAt::Time(1_700_000_000_000)),
            ("2023-11-14T22:13:20.250Z", StartAt::Time(1_700_000_000_250)),
            ("2023-11-14", StartAt::Time(1_699_920_000_000)),
        ] {
            assert_eq!(StartAt::parse(text), Ok(start), "{text}");
        }
    }

    #[test]
    fn nonsense() {
        for text in [
            "",
            "start",
            "-1",
            "@",
            "@-5",
            "@x",
            "2023-13-01",
            "1e3",
            "99999999999999999999",
            "2023-11-14T25:00:00Z",
        ] {
            assert!(StartAt::parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
