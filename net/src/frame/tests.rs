//! Frames cut out of arbitrary pieces, and everything a hostile peer may claim.
use std::collections::VecDeque;

use bytes::BufMut;
use futures_lite::future::block_on;
use proptest::prelude::*;

use super::*;

/// Hands out scripted pieces, each in as many reads as the buffers need; then the end of the stream.
struct Script {
    pieces: VecDeque<Bytes>,
    read_count: usize,
}

impl Script {
    fn new(pieces: impl IntoIterator<Item = Bytes>) -> Script {
        Script { pieces: pieces.into_iter().filter(|piece| !piece.is_empty()).collect(), read_count: 0 }
    }

    fn next(&mut self, bytes_max: usize) -> Bytes {
        self.read_count += 1;
        let Some(piece) = self.pieces.front_mut() else { return Bytes::new() };
        let taken = piece.split_to(bytes_max.min(piece.len()));
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        taken
    }
}

impl ByteSource for Script {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.next(buffer.len());
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }

    async fn read_limited(&mut self, buffer: &mut BytesMut, bytes_max: usize) -> io::Result<usize> {
        let capacity = buffer.capacity();
        let taken = self.next(bytes_max.min(capacity - buffer.len()));
        buffer.extend_from_slice(&taken);
        assert_eq!(buffer.capacity(), capacity, "reads stay within the capacity");
        Ok(taken.len())
    }
}

const OPTIONS: FrameOptions = FrameOptions::new(1 << 20);

fn wire(protocol: Protocol, frames: &[Vec<u8>]) -> Bytes {
    let mut wire = BytesMut::new();
    if protocol == Protocol::Native {
        wire.put_slice(&PREFACE);
    }
    for frame in frames {
        match protocol {
            Protocol::Native => wire.put_u32_le(frame.len() as u32),
            Protocol::Kafka => wire.put_u32(frame.len() as u32),
        }
        wire.put_slice(frame);
    }
    wire.freeze()
}

fn cut(mut bytes: Bytes, cuts: &[usize]) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    for cut in cuts {
        pieces.push(bytes.split_to((*cut).min(bytes.len())));
    }
    pieces.push(bytes);
    pieces
}

fn read_all(reader: &mut FrameReader<Script>) -> Result<Vec<Vec<u8>>, FrameError> {
    block_on(async {
        let mut frames = Vec::new();
        while let Some(frame) = reader.next().await? {
            frames.push(frame.to_vec());
        }
        Ok(frames)
    })
}

fn sniff(first: &[u8]) -> Result<Option<Protocol>, FrameError> {
    let mut reader = FrameReader::new(Script::new([Bytes::copy_from_slice(first)]), OPTIONS);
    block_on(reader.sniff())
}

fn frame_sizes() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![6 => 1usize..200, 3 => 200usize..20_000, 1 => 20_000usize..300_000];
    proptest::collection::vec(size, 0..20)
}

proptest! {
    #[test]
    fn frames_survive_any_cutting(
        native: bool,
        sizes in frame_sizes(),
        cuts in proptest::collection::vec(prop_oneof![1usize..10, 1usize..70_000], 0..40),
        chunk_bytes_max in prop_oneof![Just(4usize << 10), Just(64 << 10)],
        eager_bytes in prop_oneof![Just(1usize), Just(1 << 14), Just(2 << 20)],
    ) {
        let protocol = if native { Protocol::Native } else { Protocol::Kafka };
        let frames: Vec<Vec<u8>> =
            sizes.iter().enumerate().map(|(i, size)| (0..*size).map(|at| (at ^ i) as u8).collect()).collect();
        let pieces = cut(wire(protocol, &frames), &cuts);
        let options = FrameOptions { chunk_bytes_max, eager_bytes, ..OPTIONS };
        let mut reader = FrameReader::new(Script::new(pieces), options);
        if let Some(sniffed) = block_on(reader.sniff()).unwrap() {
            prop_assert_eq!(sniffed, protocol);
            prop_assert_eq!(read_all(&mut reader).unwrap(), frames);
        } else {
            prop_assert!(frames.is_empty() && !native);
        }
    }

    #[test]
    fn garbage_never_panics_nor_costs_memory(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        native: bool,
    ) {
        let mut wire = if native { PREFACE.to_vec() } else { Vec::new() };
        wire.extend(bytes);
        let options = FrameOptions { eager_bytes: 1 << 12, ..OPTIONS };
        let mut reader = FrameReader::new(Script::new([Bytes::from(wire)]), options);
        block_on(async {
            if let Ok(Some(_)) = reader.sniff().await {
                while let Ok(Some(_)) = reader.next().await {}
            }
        });
        prop_assert!(reader.memory_bytes() <= (64 << 10) + (8 << 10));
    }
}

#[test]
fn protocols_are_told_by_their_first_bytes() {
    assert_eq!(sniff(b"").unwrap(), None);
    assert_eq!(sniff(&PREFACE).unwrap(), Some(Protocol::Native));
    assert_eq!(sniff(&[0, 0, 0, 1]).unwrap(), Some(Protocol::Kafka));
    assert_eq!(sniff(&(1u32 << 20).to_be_bytes()).unwrap(), Some(Protocol::Kafka));
    let foreign = |first: &[u8]| match sniff(first) {
        Err(FrameError::Foreign(foreign)) => foreign,
        other => panic!("{other:?}"),
    };
    assert_eq!(foreign(b"GET /metrics HTTP/1.1\r\n"), Foreign::Http);
    assert_eq!(foreign(&[0x16, 0x03, 0x01, 0x02, 0x00]), Foreign::Tls);
    assert_eq!(foreign(&[0, 0, 0, 0]), Foreign::Unknown);
    assert_eq!(foreign(&((1u32 << 20) + 1).to_be_bytes()), Foreign::Unknown);
    assert_eq!(foreign(&[0xFF; 8]), Foreign::Unknown);
}

#[test]
fn another_version_is_refused_by_number() {
    let mut preface = PREFACE;
    preface[4] = 9;
    assert!(matches!(sniff(&preface), Err(FrameError::NativeVersion { version: 9 })));
    assert!(matches!(sniff(&PREFACE[..5]), Err(FrameError::Truncated { missing_bytes: 3 })));
}

#[test]
fn lengths_are_checked_before_memory_is_taken() {
    let claims: [(Protocol, [u8; 4]); 4] = [
        (Protocol::Native, u32::MAX.to_le_bytes()),
        (Protocol::Native, 0u32.to_le_bytes()),
        (Protocol::Kafka, (-1i32).to_be_bytes()),
        (Protocol::Kafka, i32::MAX.to_be_bytes()),
    ];
    for (protocol, claim) in claims {
        let script = Script::new([Bytes::copy_from_slice(&claim)]);
        let mut reader = FrameReader::with_protocol(script, OPTIONS, protocol);
        let error = block_on(reader.next()).unwrap_err();
        assert!(matches!(error, FrameError::TooLarge { .. } | FrameError::BadLength(_)), "{error}");
        assert!(reader.memory_bytes() <= CHUNK_BYTES_MIN);
    }
}

#[test]
fn a_claimed_length_allocates_no_more_than_twice_what_came() {
    let options = FrameOptions { eager_bytes: 8 << 10, ..FrameOptions::new(64 << 20) };
    for come in [0, 100, 10_000, 500_000] {
        let mut bytes = BytesMut::new();
        bytes.put_u32_le(60 << 20);
        bytes.put_bytes(7, come);
        let mut reader = FrameReader::with_protocol(Script::new([bytes.freeze()]), options, Protocol::Native);
        let error = block_on(reader.next()).unwrap_err();
        let FrameError::Truncated { missing_bytes } = error else { panic!("{error}") };
        assert_eq!(missing_bytes, (60 << 20) - come);
        let body_bytes = reader.large.as_ref().unwrap().body.capacity();
        assert!(body_bytes <= (2 * come).max(options.eager_bytes), "{body_bytes} for {come}");
    }
}

#[test]
fn pipelined_small_frames_share_a_receive() {
    let frames = vec![vec![1; 50]; 60];
    let mut reader = FrameReader::new(Script::new([wire(Protocol::Kafka, &frames)]), OPTIONS);
    assert_eq!(block_on(reader.sniff()).unwrap(), Some(Protocol::Kafka));
    assert_eq!(read_all(&mut reader).unwrap().len(), 60);
    assert!(reader.source.read_count <= 3, "{} reads", reader.source.read_count);
}

#[test]
fn a_large_frame_is_exactly_its_size() {
    let frames = vec![vec![1; 300_000], vec![2; 10]];
    let mut reader = FrameReader::new(Script::new([wire(Protocol::Native, &frames)]), OPTIONS);
    block_on(async {
        reader.sniff().await.unwrap();
        assert_eq!(reader.peek_length().await.unwrap(), Some(300_000));
        let large = reader.next().await.unwrap().unwrap();
        assert_eq!((large.len(), large.capacity()), (300_000, 300_000));
        assert_eq!(reader.next().await.unwrap().unwrap()[..], [2; 10]);
        assert!(reader.next().await.unwrap().is_none());
    });
}

#[test]
fn frames_can_be_changed_without_touching_their_neighbours() {
    let frames = vec![vec![1; 8], vec![2; 8]];
    let mut reader = FrameReader::new(Script::new([wire(Protocol::Native, &frames)]), OPTIONS);
    block_on(async {
        reader.sniff().await.unwrap();
        let mut first = reader.next().await.unwrap().unwrap();
        first.fill(9);
        first.extend_from_slice(&[9; 100]);
        assert_eq!(reader.next().await.unwrap().unwrap()[..], [2; 8]);
    });
}

#[test]
fn a_connection_moves_with_what_was_read() {
    let frames: Vec<Vec<u8>> = (0u8..5).map(|i| vec![i; 20]).collect();
    let pieces = cut(wire(Protocol::Native, &frames), &[50]);
    let mut reader = FrameReader::new(Script::new(pieces), OPTIONS);
    block_on(reader.sniff()).unwrap();
    let first = block_on(reader.next()).unwrap().unwrap();
    let (source, unread) = reader.into_parts();
    let mut moved = FrameReader::resume(source, OPTIONS, unread);
    assert_eq!(moved.protocol(), Some(Protocol::Native));
    assert_eq!(first[..], frames[0]);
    assert_eq!(read_all(&mut moved).unwrap(), frames[1..]);
}

#[test]
fn an_end_inside_a_frame_is_told() {
    for come in 1..24 {
        let bytes = wire(Protocol::Kafka, &[vec![0; 20]]).slice(..come);
        let mut reader = FrameReader::with_protocol(Script::new([bytes]), OPTIONS, Protocol::Kafka);
        let error = block_on(reader.next()).unwrap_err();
        let missing = if come < 4 { 4 - come } else { 24 - come };
        assert!(matches!(error, FrameError::Truncated { missing_bytes } if missing_bytes == missing));
    }
}
