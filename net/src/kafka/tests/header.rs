//! Request headers: every header version, truncation, and hostile client ids.

use bytes::{BufMut, BytesMut};
use heddle_samples::{Rng, header};
use kafka_protocol::messages::ApiKey;

use crate::kafka::error::DecodeError;
use crate::kafka::header::{CLIENT_ID_BYTES_MAX, decode_header};
use crate::kafka::{ControlReply, api_versions, encode_reply};

#[test]
fn every_api_and_version_of_the_crate_is_read_back() {
    let mut rng = Rng::new(1);
    for api in ApiKey::iter() {
        let range = api.valid_versions();
        for version in range.min..=range.max {
            let mut frame = header(api, version, &mut rng);
            frame.put_slice(b"body");
            let read = decode_header(&mut frame).unwrap();
            assert_eq!((read.api, read.version), (api, version));
            assert_eq!(read.is_flexible(), api.request_header_version(version) == 2);
            assert_eq!(&frame[..], b"body", "{api:?} v{version}");
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    let whole = header(ApiKey::Metadata, 12, &mut Rng::new(4));
    for length in 0..whole.len() {
        let mut frame = BytesMut::from(&whole[..length]);
        assert!(decode_header(&mut frame).is_err(), "{length} of {} bytes", whole.len());
    }
}

#[test]
fn hostile_headers_are_refused() {
    let start = |key: i16, version: i16| {
        let mut frame = BytesMut::new();
        frame.put_i16(key);
        frame.put_i16(version);
        frame.put_i32(7);
        frame
    };
    let mut unknown = start(9999, 0);
    assert_eq!(decode_header(&mut unknown), Err(DecodeError::UnknownApi(9999)));

    let mut long_id = start(3, 1);
    long_id.put_i16(CLIENT_ID_BYTES_MAX as i16 + 1);
    long_id.put_bytes(b'x', CLIENT_ID_BYTES_MAX + 1);
    assert_eq!(decode_header(&mut long_id), Err(DecodeError::ClientIdTooLong(CLIENT_ID_BYTES_MAX + 1)));

    let mut beyond = start(3, 1);
    beyond.put_i16(i16::MAX);
    let claimed = DecodeError::LengthBeyondEnd { claimed: 32767, left: 0 };
    assert_eq!(decode_header(&mut beyond), Err(claimed));

    let mut not_text = start(3, 1);
    not_text.put_slice(&[0, 1, 0xff]);
    assert_eq!(decode_header(&mut not_text), Err(DecodeError::NotUtf8));

    let mut many_tags = start(3, 12);
    many_tags.put_slice(&[0xff, 0xff]); // no client id
    many_tags.put_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    many_tags.put_bytes(0, 10_000);
    assert_eq!(decode_header(&mut many_tags).map_err(|error| error.kind()), Err("too_many_tags"));
}

#[test]
fn an_api_versions_reply_never_has_a_flexible_header() {
    for version in [0, 3, 4, 5, 99] {
        let mut frame = header(ApiKey::ApiVersions, version, &mut Rng::new(2));
        let read = decode_header(&mut frame).unwrap();
        let reply = ControlReply::from(api_versions(version));
        let bytes = encode_reply(read.reply(), reply, &mut BytesMut::new()).unwrap();
        assert_eq!(bytes[4..8], read.correlation.to_be_bytes());
        let error = if version > 4 { 35_i16 } else { 0 };
        assert_eq!(bytes[8..10], error.to_be_bytes(), "version {version}");
    }
}
