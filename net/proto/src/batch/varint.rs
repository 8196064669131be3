//! Zigzag varints of records: at most 5 bytes for 32 bits and 10 for 64, never read past the end.

use bytes::{BufMut, BytesMut};

/// The longest encoding of an `i32`.
#[cfg(test)]
const VARINT_BYTES_MAX: usize = 5;
/// The longest encoding of an `i64`.
const VARLONG_BYTES_MAX: usize = 10;

/// Reads an `i32` from the front of `input` and moves past it; `None` if it is cut short or too large.
#[inline]
pub(super) fn read_i32(input: &mut &[u8]) -> Option<i32> {
    i32::try_from(read_i64(input)?).ok()
}

/// Reads an `i64` from the front of `input` and moves past it; `None` if it is cut short or too large.
#[inline]
pub(super) fn read_i64(input: &mut &[u8]) -> Option<i64> {
    if let [first, rest @ ..] = *input
        && *first < 0x80
    {
        *input = rest;
        return Some(unzigzag(u64::from(*first)));
    }
    read_i64_long(input)
}

fn read_i64_long(input: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for (index, &byte) in input.iter().enumerate() {
        if index == VARLONG_BYTES_MAX - 1 && byte > 1 {
            return None; // more than the one bit that is left of 64, or a byte too many announced
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *input = &input[index + 1..];
            return Some(unzigzag(value));
        }
    }
    None
}

/// Appends `value`; an `i32` takes the same bytes as the equal `i64`.
#[inline]
pub(super) fn write(out: &mut BytesMut, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// How many bytes [`write`] appends.
#[inline]
pub(super) fn encoded_bytes(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(value: i64) -> BytesMut {
        let mut out = BytesMut::new();
        write(&mut out, value);
        out
    }

    #[test]
    fn known_encodings() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ] {
            assert_eq!(encode(value), bytes, "{value}");
            assert_eq!(read_i64(&mut &*bytes), Some(value));
        }
        assert_eq!(encode(i64::from(i32::MIN)).len(), VARINT_BYTES_MAX);
    }

    #[test]
    fn overlong_and_cut_encodings_are_refused() {
        assert_eq!(read_i64(&mut &[][..]), None);
        assert_eq!(read_i64(&mut &[0x80][..]), None);
        assert_eq!(read_i64(&mut &[0xff; 10][..]), None);
        assert_eq!(read_i64(&mut &[0x80; 11][..]), None);
        let too_large_for_i32 = encode(i64::from(i32::MAX) + 1);
        assert_eq!(read_i32(&mut &too_large_for_i32[..]), None);
    }

    proptest! {
        #[test]
        fn round_trips(value: i64, shift in 0u32..64) {
            let value = value >> shift;
            let bytes = encode(value);
            prop_assert_eq!(bytes.len(), encoded_bytes(value));
            let mut rest = &bytes[..];
            prop_assert_eq!(read_i64(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
        }
    }
}
