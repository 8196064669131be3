//! Cuts the input into lines and lines into key and value, byte for byte: only the newline is taken away.

use crate::cli::CliError;
use bytes::{Bytes, BytesMut};
use heddle_proto::batch::BATCH_HEADER_BYTES;
use heddle_proto::limits::BATCH_BYTES_MAX;

/// Room a batch needs around its only record: its header, and lengths and deltas of the record.
const RECORD_OVERHEAD_BYTES: usize = BATCH_HEADER_BYTES + 64;
/// Longest line that fits in a batch.
const LINE_BYTES_MAX: usize = BATCH_BYTES_MAX - RECORD_OVERHEAD_BYTES;

/// The lines of an input that comes in chunks.
pub struct Lines {
    name: String,
    rest: BytesMut,
    /// Bytes of `rest` known to hold no newline.
    searched: usize,
    number: u64,
}

impl Lines {
    /// For the input called `name`.
    pub fn new(name: &str) -> Lines {
        Lines { name: name.to_owned(), rest: BytesMut::new(), searched: 0, number: 0 }
    }

    /// Adds a chunk; refused if the line it goes on with is longer than a batch.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), CliError> {
        if self.rest.len() > LINE_BYTES_MAX {
            return Err(CliError::LineTooLong {
                name: self.name.clone(),
                line: self.number + 1,
                bytes_max: LINE_BYTES_MAX,
            });
        }
        self.rest.extend_from_slice(chunk);
        Ok(())
    }

    /// The next whole line, without its newline.
    pub fn next(&mut self) -> Option<Bytes> {
        let found = self.rest[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(index) = found else {
            self.searched = self.rest.len();
            return None;
        };
        let mut line = self.rest.split_to(self.searched + index + 1);
        line.truncate(line.len() - 1);
        self.searched = 0;
        self.number += 1;
        Some(line.freeze())
    }

    /// The next line when no more chunks will come: the last one may lack its newline.
    pub fn last(&mut self) -> Option<Bytes> {
        if let Some(line) = self.next() {
            return Some(line);
        }
        if self.rest.is_empty() {
            return None;
        }
        self.searched = 0;
        self.number += 1;
        Some(self.rest.split().freeze())
    }

    /// Key and value of the line just returned; no key without a separator.
    pub fn split<'a>(
        &self,
        line: &'a [u8],
        separator: Option<&str>,
    ) -> Result<(Option<&'a [u8]>, &'a [u8]), CliError> {
        let Some(separator) = separator else { return Ok((None, line)) };
        let bytes = separator.as_bytes();
        match line.windows(bytes.len()).position(|window| window == bytes) {
            Some(index) => Ok((Some(&line[..index]), &line[index + bytes.len()..])),
            None => Err(CliError::NoKey {
                name: self.name.clone(),
                line: self.number,
                separator: separator.to_owned(),
            }),
        }
    }

    /// The refusal of the line just returned as too long.
    pub fn too_long(&self) -> CliError {
        CliError::LineTooLong { name: self.name.clone(), line: self.number, bytes_max: LINE_BYTES_MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Lines::new("test");
        let mut found = Vec::new();
        for chunk in chunks {
            lines.push(chunk).unwrap();
            found.extend(std::iter::from_fn(|| lines.next()).map(|line| line.to_vec()));
        }
        found.extend(std::iter::from_fn(|| lines.last()).map(|line| line.to_vec()));
        found
    }

    #[test]
    fn lines_are_the_same_however_the_chunks_fall() {
        let text = b"one\n\r\n\ntwo\x00three\xff\nlast";
        let expected: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        assert_eq!(lines_of(&[text]), expected);
        for at in 0..text.len() {
            assert_eq!(lines_of(&[&text[..at], &text[at..]]), expected, "cut at {at}");
        }
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(lines_of(&single), expected);
    }

    #[test]
    fn a_final_newline_begins_no_line() {
        assert_eq!(lines_of(&[b"a\n"]), [b"a".to_vec()]);
        assert!(lines_of(&[b""]).is_empty());
        assert_eq!(lines_of(&[b"\n"]), [b"".to_vec()]);
    }

    #[test]
    fn keys_end_at_the_first_separator() {
        let lines = Lines::new("test");
        assert_eq!(lines.split(b"k::v::w", Some("::")).unwrap(), (Some(&b"k"[..]), &b"v::w"[..]));
        assert_eq!(lines.split(b":v", Some(":")).unwrap(), (Some(&b""[..]), &b"v"[..]));
        assert_eq!(lines.split(b"k:v", None).unwrap(), (None, &b"k:v"[..]));
        assert!(lines.split(b"kv", Some(":")).unwrap_err().to_string().contains("no key"));
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut lines = Lines::new("test");
        let chunk = vec![b'x'; 1 << 20];
        let refused = (0..32).find_map(|_| lines.push(&chunk).err()).unwrap();
        assert!(refused.to_string().contains("line 1 of test"), "{refused}");
        assert!(lines.rest.len() <= LINE_BYTES_MAX + chunk.len());
    }
}
