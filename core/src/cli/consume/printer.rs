//! Prints records, raw or as JSON.

use crate::cli::CliError;
use crate::cli::args::Format;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use heddle_proto::batch::Record;
use serde::Serialize;
use std::io::{self, BufWriter, Write};

/// Collected before it is written; a delivery is flushed at its end.
const BUFFER_BYTES: usize = 256 << 10;

/// A record as a JSON line. Bytes that are not UTF-8 stand as base64 in the members with that name.
#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: u32,
    offset: i64,
    timestamp: i64,
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    headers: Vec<Header<'a>>,
}

#[derive(Serialize)]
struct Header<'a> {
    name: String,
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

/// Text, or base64 if it is none.
fn text_or_base64(bytes: Option<&[u8]>) -> (Option<&str>, Option<String>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => (None, None),
        Some((_, Ok(text))) => (Some(text), None),
        Some((bytes, Err(_))) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// Writes records to `out`.
pub struct Printer<W: Write> {
    out: BufWriter<W>,
    format: Format,
    topic: String,
}

impl<W: Write> Printer<W> {
    /// For records of `topic`.
    pub fn new(out: W, format: Format, topic: &str) -> Self {
        Printer { out: BufWriter::with_capacity(BUFFER_BYTES, out), format, topic: topic.to_owned() }
    }

    /// Prints one record.
    pub fn record(&mut self, partition: u32, record: &Record) -> Result<(), CliError> {
        match self.format {
            Format::Raw => self.raw(record),
            Format::Json => self.json(partition, record),
        }
        .map_err(CliError::output)
    }

    /// Writes out what was collected.
    pub fn flush(&mut self) -> Result<(), CliError> {
        self.out.flush().map_err(CliError::output)
    }

    fn raw(&mut self, record: &Record) -> io::Result<()> {
        self.out.write_all(record.value.as_deref().unwrap_or_default())?;
        self.out.write_all(b"\n")
    }

    fn json(&mut self, partition: u32, record: &Record) -> io::Result<()> {
        let (key, key_base64) = text_or_base64(record.key.as_deref());
        let (value, value_base64) = text_or_base64(record.value.as_deref());
        let headers = record.headers.iter().map(|(name, value)| {
            let (value, value_base64) = text_or_base64(value.as_deref());
            Header { name: String::from_utf8_lossy(name).into_owned(), value, value_base64 }
        });
        let line = Line {
            topic: &self.topic,
            partition,
            offset: record.offset.get(),
            timestamp: record.timestamp.get(),
            key,
            key_base64,
            value,
            value_base64,
            headers: headers.collect(),
        };
        simd_json::to_writer(&mut self.out, &line).map_err(io::Error::other)?;
        self.out.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use heddle_client::{Offset, Timestamp};

    fn printed(format: Format, record: &Record) -> Vec<u8> {
        let mut printer = Printer::new(Vec::new(), format, "t");
        printer.record(3, record).unwrap();
        printer.out.into_inner().unwrap()
    }

    fn record(key: Option<&'static [u8]>, value: Option<&'static [u8]>) -> Record {
        Record {
            offset: Offset::new(7),
            timestamp: Timestamp::new(9),
            key: key.map(Bytes::from_static),
            value: value.map(Bytes::from_static),
            headers: vec![(Bytes::from_static(b"h"), None)],
        }
    }

    #[test]
    fn raw_is_the_value_byte_for_byte() {
        assert_eq!(printed(Format::Raw, &record(Some(b"k"), Some(b"\xff\x00v"))), b"\xff\x00v\n");
        assert_eq!(printed(Format::Raw, &record(None, None)), b"\n");
    }

    #[test]
    fn json_tells_tombstones_texts_and_bytes_apart() {
        let line = |key, value| String::from_utf8(printed(Format::Json, &record(key, value))).unwrap();
        let head = "{\"topic\":\"t\",\"partition\":3,\"offset\":7,\"timestamp\":9,";
        let tail = ",\"headers\":[{\"name\":\"h\",\"value\":null}]}\n";
        assert_eq!(line(None, None), format!("{head}\"key\":null,\"value\":null{tail}"));
        assert_eq!(line(Some(b""), Some(b"a\"b")), format!("{head}\"key\":\"\",\"value\":\"a\\\"b\"{tail}"));
        assert_eq!(
            line(Some(b"k"), Some(b"\xff")),
            format!("{head}\"key\":\"k\",\"value\":null,\"value_base64\":\"/w==\"{tail}")
        );
    }
}
