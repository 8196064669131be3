//! Identifiers and positions as distinct types, so that an offset is never taken for a sequence number.

use std::fmt;
use std::str::FromStr;

/// Makes a distinct type of an integer, with `new`, `get` and `Display`; also for ids of other crates.
#[macro_export]
macro_rules! integer_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name($inner);

        impl $name {
            /// Wraps the bare number.
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The bare number, for the wire and for display.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

integer_id!(
    /// Index of a partition within its topic, from 0.
    PartitionIndex(u32)
);
integer_id!(
    /// A broker process of the cluster.
    NodeId(u32)
);
integer_id!(
    /// One pinned executor of a node, from 0.
    CoreId(u16)
);
integer_id!(
    /// Generation of a partition's leadership (Kafka: leader epoch); -1 means "any" or "unknown".
    Epoch(i32)
);
integer_id!(
    /// Position of a record within its partition, from 0.
    Offset(i64)
);
integer_id!(
    /// Identity of an idempotent producer; -1 means "none".
    ProducerId(i64)
);
integer_id!(
    /// Generation of a producer id; -1 means "none".
    ProducerEpoch(i16)
);
integer_id!(
    /// Number of a record within one producer's stream to one partition; -1 means "none".
    Sequence(i32)
);
integer_id!(
    /// Milliseconds since the Unix epoch; -1 means "none".
    Timestamp(i64)
);

impl Epoch {
    /// "Any epoch" in a request, "not known" in a reply.
    pub const NONE: Self = Self(-1);
}

impl Offset {
    /// The first offset of a partition that has never deleted anything.
    pub const ZERO: Self = Self(0);

    /// This offset moved by `count` records.
    ///
    /// # Panics
    /// If the sum leaves the range of `i64`. Use [`Self::checked_plus`] for counts that come from outside.
    #[must_use]
    pub const fn plus(self, count: i64) -> Self {
        Self(self.0.checked_add(count).expect("offsets stay far below i64::MAX"))
    }

    /// This offset moved by `count` records, or `None` if that leaves the range of `i64`.
    #[must_use]
    pub const fn checked_plus(self, count: i64) -> Option<Self> {
        match self.0.checked_add(count) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The offset after this one.
    ///
    /// # Panics
    /// If this is `i64::MAX`.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// How many records lie from `earlier` (inclusive) to here (exclusive); negative if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl ProducerId {
    /// The batch comes from a producer without idempotence.
    pub const NONE: Self = Self(-1);

    /// Whether this is a real producer id.
    pub const fn is_some(self) -> bool {
        self.0 >= 0
    }
}

impl ProducerEpoch {
    /// The batch comes from a producer without idempotence.
    pub const NONE: Self = Self(-1);
}

impl Sequence {
    /// The batch comes from a producer without idempotence.
    pub const NONE: Self = Self(-1);

    /// The sequence number `count` records later. After `i32::MAX` comes 0, as in Kafka.
    #[must_use]
    pub const fn plus(self, count: u32) -> Self {
        const SEQUENCE_COUNT: i64 = i32::MAX as i64 + 1;
        Self(((self.0 as i64 + count as i64) % SEQUENCE_COUNT) as i32)
    }

    /// Whether it comes after another one, which is less than half of all sequence numbers away.
    pub const fn is_after(self, other: Self) -> bool {
        let ahead = self.0.wrapping_sub(other.0) & i32::MAX;
        ahead != 0 && ahead <= i32::MAX / 2
    }
}

impl Timestamp {
    /// No time is known.
    pub const NONE: Self = Self(-1);
}

/// Identity of a topic for its whole life; a topic deleted and created again under the same name has another one.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId([u8; 16]);

impl TopicId {
    /// "No topic": never given to a real one.
    pub const ZERO: Self = Self([0; 16]);

    /// Wraps the 16 bytes of a UUID, in the order they are written.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Same as [`Self::new`].
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes, in the order they are written.
    pub const fn get(self) -> [u8; 16] {
        self.0
    }

    /// The 16 bytes, in the order they are written.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Whether this is [`Self::ZERO`].
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a UUID of the form `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a topic id is 32 hexadecimal digits as xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")]
pub struct ParseTopicIdError;

impl FromStr for TopicId {
    type Err = ParseTopicIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const TEXT_BYTES: usize = 36;
        let text = text.as_bytes();
        if text.len() != TEXT_BYTES {
            return Err(ParseTopicIdError);
        }
        let mut bytes = [0; 16];
        let mut at = 0;
        for (index, byte) in bytes.iter_mut().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                if text[at] != b'-' {
                    return Err(ParseTopicIdError);
                }
                at += 1;
            }
            *byte = (hex_digit(text[at])? << 4) | hex_digit(text[at + 1])?;
            at += 2;
        }
        Ok(Self(bytes))
    }
}

fn hex_digit(digit: u8) -> Result<u8, ParseTopicIdError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(ParseTopicIdError),
    }
}

/// One partition of one topic.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition within it.
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// Names partition `partition` of `topic`.
    pub const fn new(topic: TopicId, partition: PartitionIndex) -> Self {
        Self { topic, partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_id_text_round_trips() {
        let id = TopicId::new([
            0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x12, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0xff,
        ]);
        assert_eq!(id.to_string(), "123e4567-e89b-12d3-a456-4266141740ff");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
    }

    #[test]
    fn malformed_topic_ids_are_refused() {
        for text in [
            "",
            "123e4567e89b12d3a456426614174000",
            "123e4567-e89b-12d3-a456-42661417400",
            "123e4567-e89b-12d3-a456-42661417400g",
            "123e4567+e89b-12d3-a456-426614174000",
            "123e4567-e89b-12d3-a456-42661417\u{e9}00",
        ] {
            assert_eq!(text.parse::<TopicId>(), Err(ParseTopicIdError), "{text}");
        }
    }

    #[test]
    fn sequence_wraps_to_zero() {
        assert_eq!(Sequence::new(i32::MAX).plus(1), Sequence::new(0));
        assert_eq!(Sequence::new(i32::MAX - 1).plus(3), Sequence::new(1));
        assert_eq!(Sequence::new(5).plus(0), Sequence::new(5));
    }

    #[test]
    fn sequences_are_in_order_also_where_they_wrap() {
        for first in [0, 5, i32::MAX - 1, i32::MAX] {
            let first = Sequence::new(first);
            assert!(!first.is_after(first));
            for later in [1, 7, 1 << 29] {
                assert!(first.plus(later).is_after(first), "{later} after {first}");
                assert!(!first.is_after(first.plus(later)), "{first} after {later} more");
            }
        }
    }

    #[test]
    fn offset_arithmetic_is_checked() {
        assert_eq!(Offset::new(41).next(), Offset::new(42));
        assert_eq!(Offset::new(i64::MAX).checked_plus(1), None);
        assert_eq!(Offset::new(7).since(Offset::new(3)), 4);
    }
}
