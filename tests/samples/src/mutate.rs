//! What may go wrong with a frame between two machines, and what somebody may do to it on purpose.

use bytes::{BufMut, BytesMut};

use super::Rng;

/// Lengths that ask for far more than any frame holds, in each of the protocol's encodings.
pub const CLAIMS: [&[u8]; 7] = [
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x80, 0, 0, 0],
    &[0x01, 0, 0, 0],
    &[0x7f, 0xff],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0x7f],
    &[0x80, 0x80, 0x80, 0x80, 0x10],
];

/// Changes a frame that is not empty: a byte, its end, or a length in it.
pub fn mutate(frame: &mut BytesMut, rng: &mut Rng) {
    let at = rng.below(frame.len());
    match rng.below(6) {
        0 => frame[at] = rng.next() as u8,
        1 => frame[at] ^= 1 << rng.below(8),
        2 => frame.truncate(at),
        3 => (0..=rng.below(20)).for_each(|_| frame.put_u8(rng.next() as u8)),
        4 => overwrite(frame, at, CLAIMS[rng.below(CLAIMS.len())]),
        _ => {
            let tail = frame.split_off(at);
            frame.put_u8(rng.next() as u8);
            frame.unsplit(tail);
        }
    }
}

/// Puts bytes in the place of others, as far as the frame goes.
pub fn overwrite(frame: &mut BytesMut, at: usize, bytes: &[u8]) {
    let length = bytes.len().min(frame.len() - at);
    frame[at..at + length].copy_from_slice(&bytes[..length]);
}
