//! How fields become bytes and are read back: little-endian numbers, lengths and counts as `u32` in front.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

/// Why bytes are not what they should be.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("the bytes end within a field")]
    Truncated,
    /// They go on after the end.
    #[error("there are {0} bytes too many")]
    TooLong(usize),
    /// They are of a kind that this version does not know.
    #[error("kind {0} is not known")]
    UnknownKind(u8),
    /// They are of a version that this version does not know.
    #[error("version {0} is not known")]
    UnknownVersion(u8),
    /// A text is not UTF-8, or a number stands for nothing.
    #[error("a field has an impossible value")]
    Impossible,
}

/// A cursor over bytes that may be anything.
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// So many bytes.
    ///
    /// # Errors
    /// When there are not as many.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*head)
    }

    /// A length and as many bytes.
    ///
    /// # Errors
    /// When there are not as many.
    pub fn slice(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.length()?;
        let (head, rest) = self.bytes.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(head)
    }

    /// A length or count.
    ///
    /// # Errors
    /// When it is larger than the number of bytes: every element takes one at least.
    pub fn length(&mut self) -> Result<usize, DecodeError> {
        let length = usize::try_from(u32::take(self)?).map_err(|_| DecodeError::Truncated)?;
        if length > self.bytes.len() { Err(DecodeError::Truncated) } else { Ok(length) }
    }

    /// All bytes must have been read.
    ///
    /// # Errors
    /// When some are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::TooLong(self.bytes.len())) }
    }
}

/// Something that messages and records are made of.
pub trait Field: Sized {
    /// Appends the bytes.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads them back.
    ///
    /// # Errors
    /// When they are not such a field.
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// Appends a length or count.
///
/// # Panics
/// At 4 GiB: what is written here came in a frame, whose size is limited.
pub fn put_length(length: usize, out: &mut Vec<u8>) {
    u32::try_from(length).expect("a field is limited by the size of a frame").put(out);
}

macro_rules! number_fields {
    ($($number:ty),*) => {$(
        impl Field for $number {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                reader.array().map(Self::from_le_bytes)
            }
        }
    )*};
}
number_fields!(u8, u16, u32, u64, i16, i32, i64, f64);

impl Field for Arc<str> {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        std::str::from_utf8(reader.slice()?).map(Arc::from).map_err(|_| DecodeError::Impossible)
    }
}

impl Field for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        out.extend_from_slice(self);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.slice().map(Bytes::copy_from_slice)
    }
}

/// Whole milliseconds.
impl Field for Duration {
    fn put(&self, out: &mut Vec<u8>) {
        u64::try_from(self.as_millis()).unwrap_or(u64::MAX).put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::take(reader).map(Duration::from_millis)
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                value.put(out);
            }
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(reader)? {
            0 => Ok(None),
            1 => T::take(reader).map(Some),
            _ => Err(DecodeError::Impossible),
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        self.iter().for_each(|element| element.put(out));
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.length()?;
        (0..count).map(|_| T::take(reader)).collect()
    }
}

impl<T: Field + Ord> Field for BTreeSet<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        self.iter().for_each(|element| element.put(out));
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.length()?;
        (0..count).map(|_| T::take(reader)).collect()
    }
}

impl<K: Field + Ord, V: Field> Field for BTreeMap<K, V> {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        for (key, value) in self {
            key.put(out);
            value.put(out);
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.length()?;
        (0..count).map(|_| Ok((K::take(reader)?, V::take(reader)?))).collect()
    }
}

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Impossible),
        }
    }
}

impl Field for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        std::str::from_utf8(reader.slice()?).map(str::to_owned).map_err(|_| DecodeError::Impossible)
    }
}

/// As eight bytes, so that both ends agree whatever their machine.
impl Field for usize {
    fn put(&self, out: &mut Vec<u8>) {
        (*self as u64).put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        usize::try_from(u64::take(reader)?).map_err(|_| DecodeError::Impossible)
    }
}

impl<T: Field, E: Field> Field for Result<T, E> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Ok(value) => {
                out.push(0);
                value.put(out);
            }
            Err(error) => {
                out.push(1);
                error.put(out);
            }
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(reader)? {
            0 => T::take(reader).map(Ok),
            1 => E::take(reader).map(Err),
            _ => Err(DecodeError::Impossible),
        }
    }
}

/// The fields of an enum: each variant's number, then what it holds, in the order given.
macro_rules! enum_fields {
    ($type:ident { $($tag:literal => $variant:ident $(($($place:ident),+))? $({$($name:ident),+})?),+ $(,)? }) => {
        impl $crate::fields::Field for $type {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $($type::$variant $(($($place),+))? $({ $($name),+ })? => {
                        out.push($tag);
                        $($($crate::fields::Field::put($place, out);)+)?
                        $($($crate::fields::Field::put($name, out);)+)?
                    })+
                }
            }
            fn take(reader: &mut $crate::fields::Reader<'_>) -> Result<Self, $crate::fields::DecodeError> {
                match <u8 as $crate::fields::Field>::take(reader)? {
                    $($tag => {
                        $($(let $place = $crate::fields::Field::take(reader)?;)+)?
                        $($(let $name = $crate::fields::Field::take(reader)?;)+)?
                        Ok($type::$variant $(($($place),+))? $({ $($name),+ })?)
                    })+
                    unknown => Err($crate::fields::DecodeError::UnknownKind(unknown)),
                }
            }
        }
    };
}
pub(crate) use enum_fields;

/// The fields of a struct, in the order given.
macro_rules! struct_fields {
    ($type:ident { $($name:ident),+ $(,)? }) => {
        impl $crate::fields::Field for $type {
            fn put(&self, out: &mut Vec<u8>) {
                $($crate::fields::Field::put(&self.$name, out);)+
            }
            fn take(reader: &mut $crate::fields::Reader<'_>) -> Result<Self, $crate::fields::DecodeError> {
                $(let $name = $crate::fields::Field::take(reader)?;)+
                Ok($type { $($name),+ })
            }
        }
    };
}
pub(crate) use struct_fields;
