//! A broker of two partitions in memory, on a thread per connection: enough of the native protocol to run the client
//! commands against it, and ways to misbehave.

use bytes::{Bytes, BytesMut};
use heddle_proto::batch::{BatchHeader, assign, batches, verify};
use heddle_proto::native::{
    Broker, FRAME_PREFIX_BYTES, PartitionInfo, Reply, Request, StartFrom, TopicInfo, decode_request,
    encode_reply, frame_lengths,
};
use heddle_proto::{CoreId, Epoch, ErrorCode, NodeId, Offset, PartitionIndex, Timestamp, TopicId};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const PARTITION_COUNT: usize = 2;
pub const TOPIC: &str = "events";

/// What the threads of all connections share.
#[derive(Default)]
pub struct State {
    /// The batches of each partition, as they were stored.
    pub logs: [Vec<Bytes>; PARTITION_COUNT],
    /// Produce requests after so many are refused with this code.
    pub refuse_after: Option<(usize, ErrorCode)>,
    /// How long each produce request takes.
    pub pause: Duration,
    /// Acks of the produce requests that came.
    pub acks: Vec<i8>,
}

/// A listening fake.
pub struct FakeBroker {
    /// For `--server`.
    pub address: String,
    /// What it holds.
    pub state: Arc<Mutex<State>>,
}

impl FakeBroker {
    /// Listens on a free port until the process ends.
    pub fn start() -> FakeBroker {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::<Mutex<State>>::default();
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = shared.clone();
                std::thread::spawn(move || serve(stream.unwrap(), &state));
            }
        });
        FakeBroker { address, state }
    }

    /// How many records a partition holds.
    pub fn record_count(&self, partition: usize) -> i64 {
        end(&self.state.lock().unwrap().logs[partition])
    }
}

fn end(log: &[Bytes]) -> i64 {
    log.last().map_or(0, |batch| BatchHeader::parse(batch).unwrap().next_offset().get())
}

/// Answers until the connection ends.
fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let mut preface = [0; 8];
    if stream.read_exact(&mut preface).is_err() {
        return;
    }
    let port = stream.local_addr().unwrap().port();
    while let Some((header, payload)) = read_frame(&mut stream) {
        let (correlation, request) = decode_request(&header).unwrap();
        for (correlation, reply, payload) in
            answer(&mut state.lock().unwrap(), port, correlation, request, payload)
        {
            let mut out = BytesMut::new();
            encode_reply(correlation, &reply, &mut out, payload.len()).unwrap();
            out.extend_from_slice(&payload);
            if stream.write_all(&out).is_err() {
                return;
            }
        }
    }
}

fn read_frame(stream: &mut TcpStream) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut prefix = [0; FRAME_PREFIX_BYTES];
    stream.read_exact(&mut prefix).ok()?;
    let lengths = frame_lengths(&prefix).unwrap();
    let mut header = vec![0; lengths.header_bytes as usize];
    let mut payload = vec![0; lengths.payload_bytes() as usize];
    stream.read_exact(&mut header).ok()?;
    stream.read_exact(&mut payload).ok()?;
    Some((header, payload))
}

type Frame = (u32, Reply, Bytes);

fn answer(state: &mut State, port: u16, correlation: u32, request: Request, payload: Vec<u8>) -> Vec<Frame> {
    let reply = match request {
        Request::Hello { .. } => hello(),
        Request::Metadata { topics, .. } => metadata(port, topics),
        Request::Produce { partition, acks, .. } => {
            let reply = produce(state, partition, acks, payload);
            if acks == 0 {
                return Vec::new();
            }
            reply
        }
        Request::ListOffsets { partition, at, .. } => {
            let offset = offset_of(&state.logs[partition.get() as usize], at);
            Reply::ListOffsets { offset: Offset::new(offset), timestamp: Timestamp::NONE }
        }
        Request::Subscribe { subscription, partition, from, .. } => {
            return push(&state.logs[partition.get() as usize], correlation, subscription, from);
        }
        Request::Credit { .. } => return Vec::new(),
        Request::ClusterStatus {} => Reply::ClusterStatus { json: "{\"nodes\":[{\"id\":1}]}".to_owned() },
        _ => Reply::Error { code: ErrorCode::InvalidRequest, message: "not in the fake".to_owned() },
    };
    vec![(correlation, reply, Bytes::new())]
}

fn hello() -> Reply {
    Reply::Hello {
        version: 1,
        node: NodeId::new(1),
        cluster: "fake".to_owned(),
        core: CoreId::new(0),
        core_count: 1,
        frame_bytes_max: 1 << 24,
        software: "fake".to_owned(),
    }
}

fn metadata(port: u16, topics: Option<Vec<String>>) -> Reply {
    let partition = |index| PartitionInfo {
        partition: PartitionIndex::new(index),
        broker: 1000,
        epoch: Epoch::new(0),
        error: ErrorCode::None,
    };
    let describe = |name: String| match name == TOPIC {
        true => TopicInfo {
            error: ErrorCode::None,
            name,
            id: TopicId::from_bytes([7; 16]),
            partitions: (0..PARTITION_COUNT as u32).map(partition).collect(),
        },
        false => TopicInfo {
            error: ErrorCode::UnknownTopicOrPartition,
            name,
            id: TopicId::ZERO,
            partitions: Vec::new(),
        },
    };
    let topics = topics.unwrap_or_else(|| vec![TOPIC.to_owned()]);
    Reply::Metadata {
        brokers: vec![Broker { id: 1000, host: "127.0.0.1".to_owned(), port }],
        topics: topics.into_iter().map(describe).collect(),
    }
}

fn produce(state: &mut State, partition: PartitionIndex, acks: i8, mut payload: Vec<u8>) -> Reply {
    std::thread::sleep(state.pause);
    state.acks.push(acks);
    if let Some((count, code)) = state.refuse_after
        && state.acks.len() > count
    {
        return Reply::Error { code, message: "told to refuse".to_owned() };
    }
    let places: Vec<_> = batches(&payload).map(|batch| batch.unwrap().1).collect();
    let log = &mut state.logs[partition.get() as usize];
    let base_offset = Offset::new(end(log));
    for place in places {
        let batch = &mut payload[place];
        verify(batch).unwrap();
        assign(batch, Offset::new(end(log)), Epoch::new(0));
        log.push(Bytes::copy_from_slice(batch));
    }
    Reply::Produce { base_offset, append_time: Timestamp::NONE }
}

fn offset_of(log: &[Bytes], at: StartFrom) -> i64 {
    match at {
        StartFrom::Earliest => 0,
        StartFrom::Latest => end(log),
        StartFrom::Offset(offset) => offset.get(),
        StartFrom::Timestamp(_) => -1,
    }
}

/// All there is, a push per batch; nothing ever after.
fn push(log: &[Bytes], correlation: u32, subscription: u32, from: StartFrom) -> Vec<Frame> {
    let from = Offset::new(offset_of(log, from));
    let mut frames = vec![(correlation, Reply::Subscribed { subscription, from }, Bytes::new())];
    let wanted = log.iter().filter(|batch| BatchHeader::parse(batch).unwrap().next_offset() > from);
    let committed = Offset::new(end(log));
    frames.extend(wanted.map(|batch| (0, Reply::Push { subscription, committed }, batch.clone())));
    frames
}
