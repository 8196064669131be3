//! The outside of a native connection: the preface and the two length fields of every frame.

use bytes::BytesMut;

use super::NativeError;
use crate::limits::{FRAME_BYTES_MAX, HEADER_BYTES_MAX};

/// Version of the framing, the fifth byte of the preface.
pub const FRAMING_VERSION: u8 = 1;

/// The first bytes a native client sends, once. As a Kafka length field they would be negative.
pub const PREFACE: [u8; 8] = [0xff, b'H', b'D', b'L', FRAMING_VERSION, 0, 0, 0];

/// Bytes of the preface that no version changes.
const PREFACE_MAGIC: [u8; 4] = [PREFACE[0], PREFACE[1], PREFACE[2], PREFACE[3]];

/// Bytes of the field that says how many bytes follow.
pub const FRAME_LENGTH_BYTES: usize = 4;

/// Bytes of the field that says how long the header is; they count as part of the frame.
pub const HEADER_LENGTH_BYTES: usize = 4;

/// Bytes of both length fields.
pub const FRAME_PREFIX_BYTES: usize = FRAME_LENGTH_BYTES + HEADER_LENGTH_BYTES;

const _: () = assert!(PREFACE.len() == 8 && i32::from_be_bytes(PREFACE_MAGIC) < 0);

/// The two length fields of a frame, known to agree with each other and with the limits.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct FrameLengths {
    /// Bytes after the first length field: the second one, the header and the payload.
    pub frame_bytes: u32,
    /// Bytes of the header.
    pub header_bytes: u32,
}

impl FrameLengths {
    /// Bytes of the payload.
    pub const fn payload_bytes(self) -> u32 {
        self.frame_bytes - self.header_bytes - HEADER_LENGTH_BYTES as u32
    }
}

/// Checks a connection's first eight bytes.
///
/// # Errors
/// [`NativeError::Preface`] and [`NativeError::PrefaceVersion`].
pub fn check_preface(bytes: &[u8; 8]) -> Result<(), NativeError> {
    if bytes[..4] != PREFACE_MAGIC {
        return Err(NativeError::Preface);
    }
    if bytes[4] != FRAMING_VERSION {
        return Err(NativeError::PrefaceVersion(bytes[4]));
    }
    if *bytes == PREFACE { Ok(()) } else { Err(NativeError::Preface) }
}

/// Reads the length fields a frame begins with.
///
/// # Errors
/// [`NativeError::FrameTooLarge`], [`NativeError::HeaderTooLarge`] and [`NativeError::HeaderBeyondFrame`].
pub fn frame_lengths(prefix: &[u8; FRAME_PREFIX_BYTES]) -> Result<FrameLengths, NativeError> {
    let [f0, f1, f2, f3, h0, h1, h2, h3] = *prefix;
    check_lengths(u32::from_le_bytes([f0, f1, f2, f3]), u32::from_le_bytes([h0, h1, h2, h3]))
}

/// Lengths of a frame about to be sent.
pub(super) fn outgoing_lengths(
    header_bytes: usize,
    payload_bytes: usize,
) -> Result<FrameLengths, NativeError> {
    let frame_bytes = HEADER_LENGTH_BYTES.saturating_add(header_bytes).saturating_add(payload_bytes);
    let saturate = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    check_lengths(saturate(frame_bytes), saturate(header_bytes))
}

fn check_lengths(frame_bytes: u32, header_bytes: u32) -> Result<FrameLengths, NativeError> {
    let (frame_size, header_size) = (frame_bytes as usize, header_bytes as usize);
    if frame_size > FRAME_BYTES_MAX {
        return Err(NativeError::FrameTooLarge { frame_bytes: frame_size, bytes_max: FRAME_BYTES_MAX });
    }
    if header_size > HEADER_BYTES_MAX {
        return Err(NativeError::HeaderTooLarge { header_bytes: header_size, bytes_max: HEADER_BYTES_MAX });
    }
    if header_size + HEADER_LENGTH_BYTES > frame_size {
        return Err(NativeError::HeaderBeyondFrame { header_bytes: header_size, frame_bytes: frame_size });
    }
    Ok(FrameLengths { frame_bytes, header_bytes })
}

/// Splits a frame, which begins with its header's length (the frame's own length is already taken off), into
/// header and payload. No byte is copied.
///
/// # Errors
/// [`NativeError::HeaderTooLarge`] and [`NativeError::HeaderBeyondFrame`].
pub fn split_frame(mut frame: BytesMut) -> Result<(BytesMut, BytesMut), NativeError> {
    let header_bytes = frame_header_bytes(&frame)?;
    let mut header = frame.split_to(HEADER_LENGTH_BYTES + header_bytes);
    Ok((header.split_off(HEADER_LENGTH_BYTES), frame))
}

/// As [`split_frame`], for a frame that is only looked at.
///
/// # Errors
/// As [`split_frame`].
pub fn split_frame_ref(frame: &[u8]) -> Result<(&[u8], &[u8]), NativeError> {
    let header_bytes = frame_header_bytes(frame)?;
    Ok(frame[HEADER_LENGTH_BYTES..].split_at(header_bytes))
}

fn frame_header_bytes(frame: &[u8]) -> Result<usize, NativeError> {
    let Some(length) = frame.first_chunk() else {
        return Err(NativeError::HeaderBeyondFrame { header_bytes: 0, frame_bytes: frame.len() });
    };
    let frame_bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    check_lengths(frame_bytes, u32::from_le_bytes(*length)).map(|lengths| lengths.header_bytes as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(frame_bytes: u32, header_bytes: u32) -> [u8; 8] {
        let mut out = [0; 8];
        out[..4].copy_from_slice(&frame_bytes.to_le_bytes());
        out[4..].copy_from_slice(&header_bytes.to_le_bytes());
        out
    }

    #[test]
    fn lengths_are_checked_against_each_other_and_the_limits() {
        let lengths = frame_lengths(&prefix(104, 60)).unwrap();
        assert_eq!((lengths.header_bytes, lengths.payload_bytes()), (60, 40));
        assert_eq!(frame_lengths(&prefix(64, 60)).unwrap().payload_bytes(), 0);
        assert_eq!(frame_lengths(&prefix(4, 0)).unwrap().payload_bytes(), 0);
        for (frame, header) in
            [(63, 60), (0, 0), (3, 0), (FRAME_BYTES_MAX as u32 + 1, 8), (u32::MAX, u32::MAX)]
        {
            assert!(frame_lengths(&prefix(frame, header)).is_err(), "{frame} {header}");
        }
        let header_bytes = HEADER_BYTES_MAX + 1;
        assert_eq!(
            frame_lengths(&prefix(FRAME_BYTES_MAX as u32, header_bytes as u32)),
            Err(NativeError::HeaderTooLarge { header_bytes, bytes_max: HEADER_BYTES_MAX })
        );
    }

    #[test]
    fn prefaces_of_others_are_refused() {
        assert_eq!(check_preface(&PREFACE), Ok(()));
        assert_eq!(check_preface(b"GET / HT"), Err(NativeError::Preface));
        let mut newer = PREFACE;
        newer[4] = 9;
        assert_eq!(check_preface(&newer), Err(NativeError::PrefaceVersion(9)));
        let mut reserved = PREFACE;
        reserved[7] = 1;
        assert_eq!(check_preface(&reserved), Err(NativeError::Preface));
    }

    #[test]
    fn frames_split_into_header_and_payload() {
        let frame = BytesMut::from(&b"\x03\0\0\0abcpayload"[..]);
        assert_eq!(split_frame_ref(&frame), Ok((&b"abc"[..], &b"payload"[..])));
        let (header, payload) = split_frame(frame).unwrap();
        assert_eq!((&header[..], &payload[..]), (&b"abc"[..], &b"payload"[..]));
        assert!(split_frame(BytesMut::from(&b"\x03\0\0"[..])).is_err());
        assert!(split_frame(BytesMut::from(&b"\x03\0\0\0ab"[..])).is_err());
    }
}
