//! A walk over a request that proves every length in it before a decoder may allocate for one.
//!
//! The `kafka-protocol` crate reserves room for as many items as a length field claims, so eight bytes could ask for
//! gigabytes. [`walk`] follows a declared [`Shape`] through the bytes and refuses a length that the rest of the request
//! cannot hold, more items or tagged fields than the caps, text that is not UTF-8, and anything left at the end.

use super::error::DecodeError;
use super::wire::{length, read_uvarint};

/// Most array items in one request, over all its arrays. An item costs at most some 120 bytes once decoded, so a
/// request decodes into a few megabytes at worst; the partitions of a large cluster fit.
pub const ITEMS_MAX: usize = 1 << 16;

/// Most tagged fields in one request. Each unknown one costs a tree node of about half a kilobyte in the crate, and
/// no client sends any in the requests served here.
pub const TAGS_MAX: usize = 1024;

const NEVER: i16 = i16::MAX;

/// What a field is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A number, flag or id of so many bytes.
    Fixed(usize),
    /// Text: 16-bit length, or compact.
    Text,
    /// Opaque bytes: 32-bit length, or compact.
    Blob,
    /// Items of one kind: 32-bit count, or compact.
    Array(&'static Kind),
    /// Fields in a row, ended by tagged fields in flexible versions.
    Struct(&'static [Field]),
    /// The same behind a byte: 1 when it is there, -1 when it is null.
    Maybe(&'static [Field]),
}

/// A field and the versions that have it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    kind: Kind,
    since: i16,
    until: i16,
    nullable_since: i16,
}

impl Field {
    /// A field of every version, never null.
    pub const fn new(kind: Kind) -> Self {
        Field { kind, since: 0, until: i16::MAX, nullable_since: NEVER }
    }

    /// The same, only from `version` on.
    pub const fn since(self, version: i16) -> Self {
        Field { since: version, ..self }
    }

    /// The same, only up to and with `version`.
    pub const fn until(self, version: i16) -> Self {
        Field { until: version, ..self }
    }

    /// The same, null allowed from `version` on.
    pub const fn nullable(self, version: i16) -> Self {
        Field { nullable_since: version, ..self }
    }

    fn is_in(&self, version: i16) -> bool {
        (self.since..=self.until).contains(&version)
    }
}

/// The body of one api's request.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// First version with compact lengths and tagged fields; `i16::MAX` for none.
    pub flexible_since: i16,
    /// The fields, in order.
    pub fields: &'static [Field],
}

/// Proves that `body` is one request of `shape` at `version`, whole and with nothing after it.
///
/// # Errors
/// The first thing that is wrong. Nothing is allocated.
pub fn walk(shape: &Shape, version: i16, body: &[u8]) -> Result<(), DecodeError> {
    let flexible = version >= shape.flexible_since;
    let mut walker = Walker { rest: body, version, flexible, items_left: ITEMS_MAX, tags_left: TAGS_MAX };
    walker.fields(shape.fields)?;
    match walker.rest.len() {
        0 => Ok(()),
        left => Err(DecodeError::TrailingBytes(left)),
    }
}

struct Walker<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    items_left: usize,
    tags_left: usize,
}

impl<'a> Walker<'a> {
    /// Depth is that of the declared shape, never of the input.
    fn fields(&mut self, fields: &[Field]) -> Result<(), DecodeError> {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_in(version)) {
            self.value(&field.kind, version >= field.nullable_since)?;
        }
        if self.flexible { self.tags() } else { Ok(()) }
    }

    fn value(&mut self, kind: &Kind, nullable: bool) -> Result<(), DecodeError> {
        match *kind {
            Kind::Fixed(size) => self.take(size).map_err(|_| DecodeError::Truncated).map(drop),
            Kind::Text => self.text(nullable),
            Kind::Blob => self.blob(nullable),
            Kind::Array(item) => self.array(item, nullable),
            Kind::Struct(fields) => self.fields(fields),
            Kind::Maybe(fields) => self.maybe(fields),
        }
    }

    fn maybe(&mut self, fields: &[Field]) -> Result<(), DecodeError> {
        match self.fixed::<1>()?[0] as i8 {
            1 => self.fields(fields),
            -1 => Ok(()),
            presence => Err(DecodeError::BadPresence(presence)),
        }
    }

    fn text(&mut self, nullable: bool) -> Result<(), DecodeError> {
        let length = if self.flexible { self.compact_length()? } else { self.short_length()? };
        let Some(length) = present(length, nullable)? else { return Ok(()) };
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map(drop).map_err(|_| DecodeError::NotUtf8)
    }

    fn blob(&mut self, nullable: bool) -> Result<(), DecodeError> {
        let length = self.long_length()?;
        match present(length, nullable)? {
            Some(length) => self.take(length).map(drop),
            None => Ok(()),
        }
    }

    fn array(&mut self, item: &Kind, nullable: bool) -> Result<(), DecodeError> {
        let length = self.long_length()?;
        let Some(count) = present(length, nullable)? else { return Ok(()) };
        let left = self.rest.len();
        if count > left / bytes_min(item, self.version, self.flexible).max(1) {
            return Err(DecodeError::LengthBeyondEnd { claimed: count as u64, left });
        }
        self.items_left =
            self.items_left.checked_sub(count).ok_or(DecodeError::TooManyItems { max: ITEMS_MAX })?;
        for _ in 0..count {
            self.value(item, false)?;
        }
        Ok(())
    }

    fn tags(&mut self) -> Result<(), DecodeError> {
        for _ in 0..self.uvarint()? {
            self.tags_left =
                self.tags_left.checked_sub(1).ok_or(DecodeError::TooManyTags { max: TAGS_MAX })?;
            self.uvarint()?;
            let length = self.uvarint()? as usize;
            self.take(length)?;
        }
        Ok(())
    }

    fn long_length(&mut self) -> Result<Option<usize>, DecodeError> {
        if self.flexible {
            return self.compact_length();
        }
        length(i64::from(i32::from_be_bytes(self.fixed()?)))
    }

    fn short_length(&mut self) -> Result<Option<usize>, DecodeError> {
        length(i64::from(i16::from_be_bytes(self.fixed()?)))
    }

    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok(self.uvarint()?.checked_sub(1).map(|length| length as usize))
    }

    fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let (value, size) = read_uvarint(self.rest)?;
        self.rest = &self.rest[size..];
        Ok(value)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let left = self.rest.len();
        let (bytes, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(DecodeError::LengthBeyondEnd { claimed: length as u64, left })?;
        self.rest = rest;
        Ok(bytes)
    }
}

fn present(length: Option<usize>, nullable: bool) -> Result<Option<usize>, DecodeError> {
    match length {
        None if !nullable => Err(DecodeError::NullNotAllowed),
        length => Ok(length),
    }
}

/// The fewest bytes a value can take.
fn bytes_min(kind: &Kind, version: i16, flexible: bool) -> usize {
    match *kind {
        Kind::Fixed(size) => size,
        Kind::Text if !flexible => 2,
        Kind::Blob | Kind::Array(_) if !flexible => 4,
        Kind::Text | Kind::Blob | Kind::Array(_) | Kind::Maybe(_) => 1,
        Kind::Struct(fields) => {
            let present = fields.iter().filter(|field| field.is_in(version));
            let bytes: usize = present.map(|field| bytes_min(&field.kind, version, flexible)).sum();
            bytes + usize::from(flexible)
        }
    }
}
