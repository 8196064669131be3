//! A small Kafka broker for tests: one node, topics in files that survive a kill, and faults on demand.

use bytes::{Buf, Bytes, BytesMut};
use heddle_proto::batch::{assign, batches};
use heddle_proto::{Epoch, Offset};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiVersionsResponse, BrokerId, CreateTopicsRequest, CreateTopicsResponse, FetchRequest, FetchResponse,
    ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse, ProduceRequest,
    ProduceResponse, RequestHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the broker does wrong when it starts again.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing.
    None,
    /// Forgets the last batch of every partition.
    Lose,
    /// Appends the first batch of every partition once more.
    Duplicate,
    /// Exchanges the first two batches of every partition.
    Reorder,
}

impl Fault {
    /// By its name in lower case.
    pub fn named(name: &str) -> Self {
        [Self::Lose, Self::Duplicate, Self::Reorder]
            .into_iter()
            .find(|fault| format!("{fault:?}").to_lowercase() == name)
            .unwrap_or(Self::None)
    }
}

type Partition = Vec<Bytes>;

struct State {
    dir: PathBuf,
    port: u16,
    topics: BTreeMap<String, Vec<Partition>>,
}

fn end_of(partition: &Partition) -> i64 {
    partition.last().map_or(0, |batch| {
        let (header, _) = batches(batch).next().expect("a batch").expect("a valid one");
        header.next_offset().get()
    })
}

/// The same batches with offsets that follow one another.
fn renumber(partition: &mut Partition) {
    let mut offset = 0;
    for batch in partition {
        let mut bytes = BytesMut::from(&batch[..]);
        assign(&mut bytes, Offset::new(offset), Epoch::new(0));
        let (header, _) = batches(&bytes).next().expect("a batch").expect("a valid one");
        offset = header.next_offset().get();
        *batch = bytes.freeze();
    }
}

impl State {
    fn load(dir: PathBuf, port: u16, fault: Fault) -> Self {
        let mut topics: BTreeMap<String, Vec<Partition>> = BTreeMap::new();
        let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        for path in names {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let (topic, _) = name.rsplit_once('.').unwrap();
            let bytes = Bytes::from(fs::read(&path).unwrap());
            let ranges: Vec<_> = batches(&bytes).map_while(Result::ok).map(|(_, range)| range).collect();
            let mut partition: Partition = ranges.into_iter().map(|range| bytes.slice(range)).collect();
            apply(fault, &mut partition);
            fs::write(&path, partition.concat()).unwrap();
            topics.entry(topic.to_owned()).or_default().push(partition);
        }
        Self { dir, port, topics }
    }

    fn append(&mut self, topic: &str, partition: usize, batch: &Bytes) -> i64 {
        let log = &mut self.topics.get_mut(topic).unwrap()[partition];
        let base = end_of(log);
        let mut bytes = BytesMut::from(&batch[..]);
        assign(&mut bytes, Offset::new(base), Epoch::new(0));
        let path = self.dir.join(format!("{topic}.{partition:05}"));
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(&bytes).unwrap();
        log.push(bytes.freeze());
        base
    }
}

fn apply(fault: Fault, partition: &mut Partition) {
    match fault {
        Fault::None => {}
        Fault::Lose => drop(partition.pop()),
        Fault::Duplicate => partition.extend(partition.first().cloned()),
        Fault::Reorder if partition.len() > 1 => partition.swap(0, 1),
        Fault::Reorder => {}
    }
    renumber(partition);
}

/// Serves on `listener` forever, with the topics under `dir`.
pub fn serve(listener: TcpListener, dir: PathBuf, fault: Fault) {
    let port = listener.local_addr().unwrap().port();
    let state = Arc::new(Mutex::new(State::load(dir, port, fault)));
    for stream in listener.incoming() {
        let (stream, state) = (stream.unwrap(), Arc::clone(&state));
        thread::spawn(move || converse(stream, &state));
    }
}

/// Serves on a free port on a thread of its own; the port.
pub fn spawn(dir: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || serve(listener, dir, Fault::None));
    port
}

fn converse(mut stream: TcpStream, state: &Mutex<State>) {
    stream.set_nodelay(true).unwrap();
    let mut length = [0; 4];
    while stream.read_exact(&mut length).is_ok() {
        let mut frame = vec![0; i32::from_be_bytes(length) as usize];
        if stream.read_exact(&mut frame).is_err() {
            return;
        }
        let mut frame = Bytes::from(frame);
        let header = RequestHeader::decode(&mut frame, 1).unwrap();
        let mut reply = BytesMut::zeroed(4);
        reply.extend_from_slice(&header.correlation_id.to_be_bytes());
        if answer(&header, &mut frame, state, &mut reply) {
            let length = (reply.len() - 4) as i32;
            reply[..4].copy_from_slice(&length.to_be_bytes());
            if stream.write_all(&reply).is_err() {
                return;
            }
        }
    }
}

/// Writes the answer's body; `false` if there is none.
fn answer(header: &RequestHeader, body: &mut Bytes, state: &Mutex<State>, out: &mut BytesMut) -> bool {
    let version = header.request_api_version;
    match header.request_api_key {
        0 => {
            let request = ProduceRequest::decode(body, version).unwrap();
            produce(&request, state).encode(out, version).unwrap();
            return request.acks != 0;
        }
        1 => fetch(&FetchRequest::decode(body, version).unwrap(), state).encode(out, version).unwrap(),
        2 => list_offsets(&ListOffsetsRequest::decode(body, version).unwrap(), state)
            .encode(out, version)
            .unwrap(),
        3 => metadata(&MetadataRequest::decode(body, version).unwrap(), state).encode(out, version).unwrap(),
        18 => versions().encode(out, version).unwrap(),
        19 => {
            create(&CreateTopicsRequest::decode(body, version).unwrap(), state).encode(out, version).unwrap()
        }
        key => panic!("request {key}"),
    }
    assert!(!body.has_remaining(), "a request with bytes left over");
    true
}

fn versions() -> ApiVersionsResponse {
    let ranges = [(0, 3, 13), (1, 4, 18), (2, 1, 11), (3, 0, 13), (18, 0, 4), (19, 2, 7)];
    let ranges = ranges.map(|(key, min, max)| {
        ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max)
    });
    ApiVersionsResponse::default().with_api_keys(ranges.to_vec())
}

fn create(request: &CreateTopicsRequest, state: &Mutex<State>) -> CreateTopicsResponse {
    let mut state = state.lock().unwrap();
    let results = request.topics.iter().map(|topic| {
        let name = topic.name.to_string();
        let exists = state.topics.contains_key(&name);
        if !exists {
            let count = topic.num_partitions as usize;
            for partition in 0..count {
                fs::write(state.dir.join(format!("{name}.{partition:05}")), []).unwrap();
            }
            state.topics.insert(name, vec![Vec::new(); count]);
        }
        CreatableTopicResult::default().with_name(topic.name.clone()).with_error_code(if exists {
            36
        } else {
            0
        })
    });
    CreateTopicsResponse::default().with_topics(results.collect())
}

fn metadata(request: &MetadataRequest, state: &Mutex<State>) -> MetadataResponse {
    let state = state.lock().unwrap();
    let topics = request.topics.iter().flatten().map(|wanted| {
        let name = wanted.name.clone().unwrap();
        let Some(partitions) = state.topics.get(name.as_str()) else {
            return MetadataResponseTopic::default().with_name(Some(name)).with_error_code(3);
        };
        let partitions = (0..partitions.len() as i32).map(|index| {
            MetadataResponsePartition::default().with_partition_index(index).with_leader_id(BrokerId(7))
        });
        MetadataResponseTopic::default().with_name(Some(name)).with_partitions(partitions.collect())
    });
    let topics = topics.collect();
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(7))
        .with_host(StrBytes::from_static_str("127.0.0.1"))
        .with_port(i32::from(state.port));
    MetadataResponse::default().with_brokers(vec![broker]).with_topics(topics)
}

fn produce(request: &ProduceRequest, state: &Mutex<State>) -> ProduceResponse {
    let mut state = state.lock().unwrap();
    let topics = request.topic_data.iter().map(|topic| {
        let partitions = topic.partition_data.iter().map(|data| {
            let batch = data.records.as_ref().unwrap();
            heddle_proto::batch::verify(batch).expect("a correct batch");
            let base = state.append(topic.name.as_str(), data.index as usize, batch);
            PartitionProduceResponse::default().with_index(data.index).with_base_offset(base)
        });
        let partitions = partitions.collect();
        TopicProduceResponse::default().with_name(topic.name.clone()).with_partition_responses(partitions)
    });
    ProduceResponse::default().with_responses(topics.collect())
}

fn fetch(request: &FetchRequest, state: &Mutex<State>) -> FetchResponse {
    let mut found = false;
    let look = |found: &mut bool| {
        let state = state.lock().unwrap();
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|wanted| {
                let log = &state.topics[topic.topic.as_str()][wanted.partition as usize];
                read(log, wanted.partition, wanted.fetch_offset, wanted.partition_max_bytes as usize, found)
            });
            let partitions = partitions.collect();
            FetchableTopicResponse::default()
                .with_topic(TopicName(topic.topic.0.clone()))
                .with_partitions(partitions)
        });
        FetchResponse::default().with_responses(topics.collect())
    };
    let mut response = look(&mut found);
    for _ in 0..request.max_wait_ms / 5 {
        if found {
            break;
        }
        thread::sleep(Duration::from_millis(5));
        response = look(&mut found);
    }
    response
}

fn read(log: &Partition, index: i32, offset: i64, bytes_max: usize, found: &mut bool) -> PartitionData {
    let end = end_of(log);
    let data = PartitionData::default().with_partition_index(index).with_high_watermark(end);
    if offset > end {
        *found = true;
        return data.with_error_code(1);
    }
    let mut out = BytesMut::new();
    for batch in log {
        let (header, _) = batches(batch).next().unwrap().unwrap();
        if header.next_offset().get() > offset && (out.is_empty() || out.len() + batch.len() <= bytes_max) {
            out.extend_from_slice(batch);
        } else if !out.is_empty() {
            break;
        }
    }
    *found |= !out.is_empty();
    data.with_records(Some(out.freeze()))
}

fn list_offsets(request: &ListOffsetsRequest, state: &Mutex<State>) -> ListOffsetsResponse {
    let state = state.lock().unwrap();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let log = &state.topics[topic.name.as_str()][wanted.partition_index as usize];
            let offset = if wanted.timestamp == -2 { 0 } else { end_of(log) };
            ListOffsetsPartitionResponse::default()
                .with_partition_index(wanted.partition_index)
                .with_offset(offset)
        });
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}
