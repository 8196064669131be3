//! What is written is what is read; nothing else is read.

use bytes::{Bytes, BytesMut};
use heddle_proto::batch::{BATCH_HEADER_BYTES, BatchBuilder, Compression};
use heddle_proto::ids::{CoreId, Epoch, NodeId, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition};
use heddle_replication::history::{EPOCHS_MAX, History};
use heddle_replication::message::{Join, Life, Message};
use heddle_replication_driver::{Frame, Peer, Said};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn encoded(body: &Body) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    Encoder::new().encode(body, &mut chunks).expect("it is within the limits");
    chunks
}

/// What a reader gets: without the length.
fn on_the_wire(body: &Body) -> Bytes {
    let whole = encoded(body).concat();
    let length = u32::from_le_bytes(whole[..LENGTH_BYTES].try_into().expect("four bytes")) as usize;
    assert_eq!(length, whole.len() - LENGTH_BYTES, "the length is that of the rest");
    Bytes::from(whole).split_off(LENGTH_BYTES)
}

fn offsets() -> impl Strategy<Value = Offset> {
    prop_oneof![Just(0), 0..100i64, Just(i64::MAX), 0..=i64::MAX].prop_map(Offset::new)
}

fn epochs() -> impl Strategy<Value = Epoch> {
    prop_oneof![0..5i32, 0..=i32::MAX].prop_map(Epoch::new)
}

fn lives() -> impl Strategy<Value = Life> {
    any::<u32>().prop_map(Life)
}

fn histories() -> impl Strategy<Value = History> {
    vec((1..1000i32, 1..1000i64), 0..=EPOCHS_MAX).prop_map(|steps| {
        let (mut epoch, mut start) = (0, -1);
        let entries = steps.into_iter().map(|(epochs, records)| {
            (epoch, start) = (epoch + epochs, start + records);
            (Epoch::new(epoch), Offset::new(start))
        });
        History::from_entries(entries.collect()).expect("it rises")
    })
}

fn messages() -> impl Strategy<Value = Message> {
    let join = (epochs(), lives(), offsets(), offsets(), offsets(), histories()).prop_map(
        |(epoch, life, start, end, committed, history)| {
            Message::Join(Join { epoch, life, start, end, committed, history })
        },
    );
    let welcome = (epochs(), lives(), offsets(), offsets(), offsets(), offsets()).prop_map(
        |(epoch, life, shared, start, elected_end, committed)| Message::Welcome {
            epoch,
            life,
            shared,
            start,
            elected_end,
            committed,
        },
    );
    let append = (epochs(), lives(), offsets(), offsets(), histories(), offsets()).prop_map(
        |(epoch, life, one, other, history, committed)| Message::Append {
            epoch,
            life,
            from: one.min(other),
            upto: one.max(other),
            history,
            committed,
        },
    );
    let commit = (epochs(), lives(), offsets()).prop_map(|(epoch, life, committed)| Message::Commit {
        epoch,
        life,
        committed,
    });
    let ack = (epochs(), lives(), offsets(), option::of(offsets()), any::<u32>()).prop_map(
        |(epoch, life, written, held, version)| Message::Ack { epoch, life, written, held, version },
    );
    prop_oneof![join, welcome, append, commit, ack]
}

fn batches() -> impl Strategy<Value = Vec<Bytes>> {
    let batch =
        (BATCH_HEADER_BYTES..2000, any::<u8>()).prop_map(|(bytes, byte)| Bytes::from(vec![byte; bytes]));
    vec(batch, 0..6)
}

fn said() -> impl Strategy<Value = Said> {
    (any::<[u8; 16]>(), any::<u32>(), messages(), batches()).prop_map(|(topic, index, message, batches)| {
        Said {
            partition: TopicPartition::new(TopicId::new(topic), PartitionIndex::new(index)),
            message,
            batches,
        }
    })
}

fn frames() -> impl Strategy<Value = Frame> {
    (any::<u64>(), option::of(any::<(u64, u64)>()), vec(said(), 0..12))
        .prop_map(|(connection, taken, said)| Frame { connection, taken, said })
}

fn peers() -> impl Strategy<Value = Peer> {
    any::<(u32, u16)>().prop_map(|(node, core)| Peer { node: NodeId::new(node), core: CoreId::new(core) })
}

fn purposes() -> impl Strategy<Value = Purpose> {
    proptest::sample::select(&Purpose::ALL[..])
}

fn calls() -> impl Strategy<Value = Call> {
    (any::<u64>(), vec(any::<u8>(), 0..3000))
        .prop_map(|(number, payload)| Call { number, payload: payload.into() })
}

fn bodies() -> impl Strategy<Value = Body> {
    let hello = ("[ -~]{0,255}", peers(), lives(), any::<[u8; 16]>(), peers(), any::<Digest>(), purposes())
        .prop_map(|(cluster, from, life, process, to, challenge, purpose)| {
            Body::Hello(Hello { cluster, from, life, process, to, challenge, purpose })
        });
    prop_oneof![
        1 => hello,
        1 => any::<Digest>().prop_map(Body::Proof),
        1 => any::<Digest>().prop_map(Body::Accepted),
        1 => proptest::sample::select(&Refusal::ALL[..]).prop_map(Body::Refused),
        8 => frames().prop_map(Body::Streams),
        1 => any::<u64>().prop_map(Body::Ping),
        1 => any::<u64>().prop_map(Body::Pong),
        2 => calls().prop_map(Body::Request),
        2 => calls().prop_map(Body::Reply),
    ]
}

/// `HEDDLE_PROPTEST_CASES` sets how many cases run.
fn proptest_config() -> ProptestConfig {
    let cases =
        std::env::var("HEDDLE_PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(proptest_config())]

    #[test]
    fn what_is_written_is_read(body in bodies()) {
        prop_assert_eq!(decode(on_the_wire(&body)), Ok(body));
    }

    /// Random damage everywhere: what is changed is found, and where the checksum is made right again nothing panics and what
    /// is read is within the limits.
    #[test]
    fn damage_is_found_or_harmless(
        body in bodies(),
        flips in vec((any::<prop::sample::Index>(), 1..=255u8), 1..4),
        cut in option::of(any::<prop::sample::Index>()),
    ) {
        let whole = on_the_wire(&body);
        let header_bytes = u32::from_le_bytes(whole[..4].try_into().unwrap()) as usize;
        let mut bad = BytesMut::from(&whole[..]);
        for (at, change) in flips {
            let at = at.index(PREFIX_BYTES + header_bytes);
            bad[at] ^= change;
        }
        if let Some(cut) = cut {
            bad.truncate(cut.index(whole.len()));
        }
        if bad[..] == whole[..] {
            return Ok(());
        }
        prop_assert!(decode(bad.clone().freeze()).is_err(), "a checksum of 32 bits finds three changed bytes");
        // As from a peer that means harm.
        if bad.len() > PREFIX_BYTES {
            let told = u32::from_le_bytes(bad[..4].try_into().unwrap()) as usize;
            let header_bytes = told.min(bad.len() - PREFIX_BYTES);
            bad[..4].copy_from_slice(&(header_bytes as u32).to_le_bytes());
            let crc = checksum(bad.len() as u32, &bad[PREFIX_BYTES..PREFIX_BYTES + header_bytes]);
            bad[4..8].copy_from_slice(&crc.to_le_bytes());
            if let Ok(Body::Streams(frame)) = decode(bad.freeze()) {
                prop_assert!(frame.said.len() <= SAID_COUNT_MAX);
                prop_assert!(frame.batch_bytes() <= PAYLOAD_BYTES_MAX as u64);
            }
        }
    }

    #[test]
    fn garbage_is_refused(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert!(decode(Bytes::from(bytes)).is_err());
    }

    #[test]
    fn pieces_are_the_whole(frame in frames(), times in 1..40usize) {
        let said: Vec<Said> = std::iter::repeat_n(frame.said, times).flatten().collect();
        let frame = Frame { said, ..frame };
        let cut: Vec<Frame> = pieces(frame.clone()).collect();
        prop_assert!(cut.iter().skip(1).all(|piece| piece.taken.is_none() && !piece.said.is_empty()));
        prop_assert!(cut.iter().all(|piece| piece.connection == frame.connection));
        for piece in &cut {
            let chunks = encoded(&Body::Streams(piece.clone()));
            prop_assert!(chunks[0].len() <= HEADER_BYTES_AIM + 1024, "a header of {} bytes", chunks[0].len());
        }
        let taken = cut.first().and_then(|piece| piece.taken);
        let said: Vec<Said> = cut.into_iter().flat_map(|piece| piece.said).collect();
        prop_assert_eq!((taken, said), (frame.taken, frame.said));
    }
}

fn append(batches: Vec<Bytes>) -> Said {
    Said {
        partition: TopicPartition::default(),
        message: Message::Append {
            epoch: Epoch::new(1),
            life: Life(1),
            from: Offset::ZERO,
            upto: Offset::new(batches.len() as i64),
            history: History::default(),
            committed: Offset::ZERO,
        },
        batches,
    }
}

#[test]
fn batches_are_neither_copied_when_written_nor_when_read() {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp::new(1), None, Some(&[7; 5000]), &[]).unwrap();
    let batch = builder.build().unwrap().freeze();
    let frame = Frame { connection: 1, taken: None, said: vec![append(vec![batch.clone(), batch.clone()])] };
    let chunks = encoded(&Body::Streams(frame.clone()));
    assert_eq!(chunks.len(), 3);
    assert!(chunks[1..].iter().all(|chunk| chunk.as_ptr() == batch.as_ptr()));
    let whole = on_the_wire(&Body::Streams(frame));
    let Ok(Body::Streams(read)) = decode(whole.clone()) else { panic!("it is a frame") };
    let inside = whole.as_ptr_range();
    assert!(read.said[0].batches.iter().all(|batch| inside.contains(&batch.as_ptr())));
}

#[test]
fn the_largest_messages_fit_their_frames_and_no_larger_ones_are_written() {
    let many = Bytes::from(vec![0; BATCH_HEADER_BYTES]);
    let most = vec![many; PAYLOAD_BYTES_MAX / BATCH_HEADER_BYTES];
    let frame = Frame { connection: 1, taken: None, said: vec![append(most)] };
    let whole = on_the_wire(&Body::Streams(frame.clone()));
    assert_eq!(decode(whole), Ok(Body::Streams(frame)));
    let one = Bytes::from(vec![0; PAYLOAD_BYTES_MAX + 1]);
    let frame = Frame { connection: 1, taken: None, said: vec![append(vec![one])] };
    let mut chunks = Vec::new();
    let refused = Encoder::new().encode(&Body::Streams(frame), &mut chunks);
    assert_eq!(
        refused,
        Err(WireError::TooLarge {
            part: "payload",
            bytes: PAYLOAD_BYTES_MAX + 1,
            bytes_max: PAYLOAD_BYTES_MAX
        })
    );
    assert!(chunks.is_empty());
}

/// A frame with this header and a right checksum.
fn frame_of(header: &[u8], payload: &[u8]) -> Bytes {
    let frame_bytes = (PREFIX_BYTES + header.len() + payload.len()) as u32;
    let (length, crc) = ((header.len() as u32).to_le_bytes(), checksum(frame_bytes, header).to_le_bytes());
    Bytes::from([&length[..], &crc[..], header, payload].concat())
}

#[test]
fn every_limit_has_its_error() {
    let ping = on_the_wire(&Body::Ping(7));
    assert_eq!(decode(ping.slice(..7)), Err(WireError::TooShort(7)));
    let header = &ping[PREFIX_BYTES..];
    assert_eq!(decode(frame_of(header, &[])), Ok(Body::Ping(7)));
    assert_eq!(decode(frame_of(header, &[1])), Err(WireError::Payload { named: 0, bytes: 1 }));
    let mut beyond = ping.to_vec();
    beyond[0] += 1;
    let header_bytes = header.len() + 1;
    assert_eq!(
        decode(beyond.into()),
        Err(WireError::HeaderBeyondFrame { header_bytes, frame_bytes: ping.len() })
    );
    let mut huge = ping.to_vec();
    huge[3] = 0x7f;
    assert!(matches!(decode(huge.into()), Err(WireError::TooLarge { part: "header", .. })));
    let mut crc = ping.to_vec();
    crc[4] ^= 1;
    assert!(matches!(decode(crc.into()), Err(WireError::Crc { .. })));
    assert!(matches!(decode(frame_of(&[0; 16], &[])), Err(WireError::Invalid(_))));
    let frame = Frame { connection: 1, taken: None, said: vec![append(vec![Bytes::from(vec![1; 100])])] };
    let streams = on_the_wire(&Body::Streams(frame));
    let header_bytes = u32::from_le_bytes(streams[..4].try_into().unwrap()) as usize;
    let header = &streams[PREFIX_BYTES..PREFIX_BYTES + header_bytes];
    for payload in [&[1; 99][..], &[1; 101]] {
        let (named, bytes) = (100, payload.len());
        assert_eq!(decode(frame_of(header, payload)), Err(WireError::Payload { named, bytes }));
    }
}

#[test]
fn calls_have_a_checksum_and_a_limit_of_their_own() {
    let call = |bytes| Call { number: 3, payload: Bytes::from(vec![8; bytes]) };
    let most = on_the_wire(&Body::Request(call(CALL_BYTES_MAX)));
    assert!(most.len() <= PREFIX_BYTES + CALL_HEADER_BYTES_MAX + CALL_BYTES_MAX);
    assert_eq!(decode(most), Ok(Body::Request(call(CALL_BYTES_MAX))));
    let refused = Encoder::new().encode(&Body::Reply(call(CALL_BYTES_MAX + 1)), &mut Vec::new());
    assert!(matches!(refused, Err(WireError::TooLarge { part: "payload", .. })));
    let mut bent = on_the_wire(&Body::Reply(call(100))).to_vec();
    *bent.last_mut().unwrap() ^= 1;
    assert!(matches!(decode(bent.into()), Err(WireError::Crc { .. })));
}

/// What the schema can say and the machines must not see.
#[test]
fn what_makes_no_sense_is_refused() {
    let said = |message| {
        let said = Said { partition: TopicPartition::default(), message, batches: Vec::new() };
        decode(on_the_wire(&Body::Streams(Frame { connection: 1, taken: None, said: vec![said] })))
    };
    let (epoch, life, zero) = (Epoch::new(1), Life(1), Offset::ZERO);
    let commit = |epoch, committed| Message::Commit { epoch, life, committed };
    let out = |field, value| Err(WireError::OutOfRange { field, value });
    assert_eq!(said(commit(epoch, Offset::new(-1))), out("committed", -1));
    assert_eq!(said(commit(Epoch::new(-1), zero)), out("epoch", -1));
    let held = Some(Offset::new(-2));
    assert_eq!(said(Message::Ack { epoch, life, written: zero, held, version: 0 }), out("held", -2));
    let (from, history) = (Offset::new(3), History::default());
    let append = Message::Append { epoch, life, from, upto: Offset::new(2), history, committed: zero };
    assert_eq!(said(append), out("from", 3));
    // A history that falls cannot be made but by writing over one that rises.
    let history = History::from_entries(vec![(Epoch::new(77), zero), (Epoch::new(78), Offset::new(5))]);
    let join = Join { epoch, life, start: zero, end: zero, committed: zero, history: history.unwrap() };
    let message = Message::Join(join);
    let said = vec![Said { partition: TopicPartition::default(), message, batches: Vec::new() }];
    let whole = on_the_wire(&Body::Streams(Frame { connection: 1, taken: None, said }));
    let mut header = whole[PREFIX_BYTES..].to_vec();
    let at = header.windows(4).position(|bytes| bytes == 78i32.to_le_bytes()).expect("the second epoch");
    header[at] = 76;
    assert_eq!(decode(frame_of(&header, &[])), Err(WireError::History));
}

/// A frame that names one message so many times, with so long a history.
fn repeated(count: usize, epoch_count: i64) -> Result<Body, WireError> {
    use super::generated::heddle::peer as fb;
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let entries: Vec<_> = (0..epoch_count).map(|at| fb::EpochStart::new(at, at as i32)).collect();
    let history = builder.create_vector(&entries);
    let args = fb::JoinArgs { history: Some(history), ..Default::default() };
    let join = fb::Join::create(&mut builder, &args);
    let args = fb::SaidArgs {
        topic: Some(&fb::Uuid([1; 16])),
        message_type: fb::Message::Join,
        message: Some(join.as_union_value()),
        ..Default::default()
    };
    let said = fb::Said::create(&mut builder, &args);
    let list = builder.create_vector(&vec![said; count]);
    let args = fb::StreamsArgs { said: Some(list), ..Default::default() };
    let streams = fb::Streams::create(&mut builder, &args);
    let args = fb::HeaderArgs { body_type: fb::Body::Streams, body: Some(streams.as_union_value()) };
    let root = fb::Header::create(&mut builder, &args);
    builder.finish_minimal(root);
    assert!(builder.finished_data().len() < HEADER_BYTES_MAX);
    decode(frame_of(builder.finished_data(), &[]))
}

/// One table that is named many times must not become many values.
#[test]
fn lists_of_one_thing_are_bounded() {
    let most = EPOCHS_MAX as i64;
    assert!(matches!(repeated(1_000, most), Ok(Body::Streams(frame)) if frame.said.len() == 1_000));
    assert!(repeated(SAID_COUNT_MAX, 0).is_ok());
    assert!(
        matches!(repeated(SAID_COUNT_MAX + 1, 0), Err(WireError::TooLarge { .. })),
        "messages are counted"
    );
    assert!(matches!(repeated(SAID_COUNT_MAX + 8, 0), Err(WireError::Invalid(_))), "tables are counted");
    assert!(matches!(repeated(SAID_COUNT_MAX, most), Err(WireError::Invalid(_))), "so are bytes, each time");
    assert_eq!(repeated(1, most + 1), Err(WireError::History));
}
