//! The shape walk: what it refuses, one case each.

use bytes::{BufMut, BytesMut};

use crate::kafka::error::DecodeError;
use crate::kafka::shape::{Field, ITEMS_MAX, Kind, Shape, TAGS_MAX, walk};

/// Version 0 is old, version 1 flexible; a nullable blob from version 2 on.
static SHAPE: Shape = Shape {
    flexible_since: 1,
    fields: &[
        Field::new(Kind::Array(&Kind::Struct(&[
            Field::new(Kind::Text),
            Field::new(Kind::Fixed(4)).since(2),
        ]))),
        Field::new(Kind::Blob).nullable(2).since(1),
    ],
};

fn old(count: i32, items: &[u8]) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_i32(count);
    body.put_slice(items);
    body
}

#[test]
fn whole_requests_pass() {
    assert_eq!(walk(&SHAPE, 0, &old(2, &[0, 1, b'x', 0, 0])), Ok(()));
    assert_eq!(walk(&SHAPE, 1, &[2, 2, b'x', 0, 1, 0]), Ok(()));
    assert_eq!(walk(&SHAPE, 1, &[1, 3, 7, 8, 1, 9, 2, 0, 0]), Ok(()));
    assert_eq!(walk(&SHAPE, 2, &[2, 2, b'x', 1, 2, 3, 4, 0, 0, 0]), Ok(()));
}

#[test]
fn an_array_longer_than_the_rest_can_hold_is_refused() {
    let beyond = |claimed, left| Err(DecodeError::LengthBeyondEnd { claimed, left });
    assert_eq!(walk(&SHAPE, 0, &old(i32::MAX, &[0; 10])), beyond(i32::MAX as u64, 10));
    assert_eq!(walk(&SHAPE, 0, &old(6, &[0; 10])), beyond(6, 10)); // an item takes two bytes
    assert_eq!(walk(&SHAPE, 1, &[0xff, 0xff, 0xff, 0xff, 0x0f, 1]), beyond(u64::from(u32::MAX) - 1, 1));
}

#[test]
fn a_string_longer_than_the_rest_is_refused() {
    let beyond = Err(DecodeError::LengthBeyondEnd { claimed: 9, left: 1 });
    assert_eq!(walk(&SHAPE, 0, &old(1, &[0, 9, b'x'])), beyond);
    assert_eq!(walk(&SHAPE, 1, &[2, 10, b'x']), beyond);
}

#[test]
fn nulls_and_negative_lengths_are_refused() {
    assert_eq!(walk(&SHAPE, 0, &old(-1, &[])), Err(DecodeError::NullNotAllowed));
    assert_eq!(walk(&SHAPE, 0, &old(-7, &[])), Err(DecodeError::NegativeLength(-7)));
    assert_eq!(walk(&SHAPE, 1, &[1, 0, 0]), Err(DecodeError::NullNotAllowed));
    assert_eq!(walk(&SHAPE, 0, &old(1, &[0xff, 0xff])), Err(DecodeError::NullNotAllowed));
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    assert_eq!(walk(&SHAPE, 0, &old(1, &[0, 1, 0xff])), Err(DecodeError::NotUtf8));
}

#[test]
fn what_follows_the_end_is_refused() {
    assert_eq!(walk(&SHAPE, 0, &old(0, &[1, 2])), Err(DecodeError::TrailingBytes(2)));
}

#[test]
fn every_truncation_is_refused() {
    let whole = [2, 2, b'x', 1, 2, 3, 4, 0, 3, 7, 8, 1, 9, 2, 0, 0];
    assert_eq!(walk(&SHAPE, 2, &whole), Ok(()));
    for length in 0..whole.len() {
        assert!(walk(&SHAPE, 2, &whole[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn an_overlong_varint_is_refused() {
    assert_eq!(walk(&SHAPE, 1, &[0xff, 0xff, 0xff, 0xff, 0x1f]), Err(DecodeError::VarintTooLong));
    assert_eq!(walk(&SHAPE, 1, &[0x80; 6]), Err(DecodeError::VarintTooLong));
}

#[test]
fn items_and_tags_are_capped_over_the_whole_request() {
    let mut items = old(ITEMS_MAX as i32 + 1, &[]);
    items.put_bytes(0, 2 * (ITEMS_MAX + 1));
    assert_eq!(walk(&SHAPE, 0, &items), Err(DecodeError::TooManyItems { max: ITEMS_MAX }));
    let mut fits = old(ITEMS_MAX as i32, &[]);
    fits.put_bytes(0, 2 * ITEMS_MAX);
    assert_eq!(walk(&SHAPE, 0, &fits), Ok(()));

    // Each item ends with one tagged field of no bytes.
    let mut tags = BytesMut::from(&[0xe9, 0x07][..]); // 1000 items, as a compact length
    (0..1000).for_each(|_| tags.put_slice(&[1, 1, 5, 0]));
    tags.put_u8(1);
    tags.put_slice(&[26]);
    (0..26).for_each(|_| tags.put_slice(&[5, 0]));
    assert_eq!(walk(&SHAPE, 1, &tags), Err(DecodeError::TooManyTags { max: TAGS_MAX }));
}
