//! Kafka's Produce v7, Fetch v11 and frame headers by hand: batches go out and come in without being copied.

use super::KafkaError;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Version of Produce the generator speaks: the newest whose layout is plain, accepted by Kafka 2.1 to 4.x.
pub const PRODUCE_VERSION: i16 = 7;
/// Version of Fetch the generator speaks, for the same reason.
pub const FETCH_VERSION: i16 = 11;
/// Kafka's number for Produce.
pub const PRODUCE_KEY: i16 = 0;
/// Kafka's number for Fetch.
pub const FETCH_KEY: i16 = 1;

/// How the generator names itself to brokers.
pub const CLIENT_ID: &str = "heddle-loadgen";
/// A reply longer than this is taken for garbage: four of the largest fetches the generator asks for.
pub const REPLY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Bytes from a frame's length field to the end of a v1 request header.
const REQUEST_HEADER_BYTES: usize = 4 + 2 + 2 + 4 + 2 + CLIENT_ID.len();

fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("names are short: topic names end at 249 bytes"));
    out.put_slice(text.as_bytes());
}

/// Puts the length field and a v1 header for a request whose body has `body_bytes`.
pub fn put_request_header(out: &mut BytesMut, key: i16, version: i16, correlation: i32, body_bytes: usize) {
    let length = REQUEST_HEADER_BYTES - 4 + body_bytes;
    out.put_i32(i32::try_from(length).expect("requests end far below 2 GiB"));
    out.put_i16(key);
    out.put_i16(version);
    out.put_i32(correlation);
    put_string(out, CLIENT_ID);
}

/// The bytes of a Produce request for one partition up to its batch, which must follow unchanged.
pub fn produce_head(
    correlation: i32,
    topic: &str,
    partition: i32,
    acks: i16,
    timeout_ms: i32,
    batch_bytes: usize,
) -> Bytes {
    let fixed = 2 + 2 + 4 + 4 + 2 + topic.len() + 4 + 4 + 4;
    let mut out = BytesMut::with_capacity(REQUEST_HEADER_BYTES + fixed);
    put_request_header(&mut out, PRODUCE_KEY, PRODUCE_VERSION, correlation, fixed + batch_bytes);
    out.put_i16(-1); // no transaction
    out.put_i16(acks);
    out.put_i32(timeout_ms);
    out.put_i32(1);
    put_string(&mut out, topic);
    out.put_i32(1);
    out.put_i32(partition);
    out.put_i32(i32::try_from(batch_bytes).expect("batches end at 16 MiB"));
    out.freeze()
}

/// What one partition answered to a Produce.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ProduceAnswer {
    /// Kafka's error code; 0 is success.
    pub error: i16,
    /// Offset given to the first record.
    pub base_offset: i64,
}

/// Reads the answer to a Produce of one partition, behind the correlation id.
pub fn read_produce(reply: &mut Bytes) -> Result<ProduceAnswer, KafkaError> {
    expect_one(get_i32(reply)?, "topics of a produce reply")?;
    skip_string(reply)?;
    expect_one(get_i32(reply)?, "partitions of a produce reply")?;
    get_i32(reply)?;
    let error = get_i16(reply)?;
    let base_offset = get_i64(reply)?;
    Ok(ProduceAnswer { error, base_offset })
}

/// One partition a fetch asks for.
#[derive(Copy, Clone, Debug)]
pub struct FetchPartition<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Partition index.
    pub partition: i32,
    /// First offset wanted.
    pub offset: i64,
}

/// Bounds of one fetch.
#[derive(Copy, Clone, Debug)]
pub struct FetchLimits {
    /// How long the broker may wait for `bytes_min`.
    pub wait_max_ms: i32,
    /// Bytes worth answering for.
    pub bytes_min: i32,
    /// Bytes of the whole answer.
    pub bytes_max: i32,
    /// Bytes of each partition.
    pub partition_bytes_max: i32,
}

/// A whole Fetch request. Partitions of one topic must stand together in `wanted`.
pub fn fetch_request(correlation: i32, limits: FetchLimits, wanted: &[FetchPartition<'_>]) -> Bytes {
    let mut body = BytesMut::with_capacity(64 + wanted.len() * 64);
    body.put_i32(-1); // an ordinary consumer
    body.put_i32(limits.wait_max_ms);
    body.put_i32(limits.bytes_min);
    body.put_i32(limits.bytes_max);
    body.put_i8(0); // read uncommitted
    body.put_i32(0);
    body.put_i32(-1); // no fetch session
    let topics: Vec<_> = wanted.chunk_by(|a, b| a.topic == b.topic).collect();
    body.put_i32(topics.len() as i32);
    for partitions in topics {
        put_string(&mut body, partitions[0].topic);
        body.put_i32(partitions.len() as i32);
        partitions.iter().for_each(|p| put_fetch_partition(&mut body, p, limits));
    }
    body.put_i32(0); // forgets nothing
    put_string(&mut body, ""); // no rack
    let mut out = BytesMut::with_capacity(REQUEST_HEADER_BYTES + body.len());
    put_request_header(&mut out, FETCH_KEY, FETCH_VERSION, correlation, body.len());
    out.unsplit(body);
    out.freeze()
}

fn put_fetch_partition(body: &mut BytesMut, wanted: &FetchPartition<'_>, limits: FetchLimits) {
    body.put_i32(wanted.partition);
    body.put_i32(-1); // any leader epoch
    body.put_i64(wanted.offset);
    body.put_i64(-1); // log start: for followers
    body.put_i32(limits.partition_bytes_max);
}

/// What one partition answered to a Fetch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchAnswer {
    /// Topic name.
    pub topic: Bytes,
    /// Partition index.
    pub partition: i32,
    /// Kafka's error code; 0 is success.
    pub error: i16,
    /// End of what consumers may read.
    pub high_watermark: i64,
    /// First offset the partition still holds; -1 when the broker does not say.
    pub log_start: i64,
    /// Whole batches, the last perhaps cut off. A slice of the reply.
    pub batches: Bytes,
}

/// Reads the answer to a Fetch, behind the correlation id.
pub fn read_fetch(reply: &mut Bytes) -> Result<Vec<FetchAnswer>, KafkaError> {
    get_i32(reply)?; // throttle time
    let error = get_i16(reply)?;
    if error != 0 {
        return Err(KafkaError::Refused { api: "Fetch", code: error });
    }
    get_i32(reply)?; // session
    let mut answers = Vec::new();
    for _ in 0..get_i32(reply)? {
        let topic = get_string(reply)?;
        for _ in 0..get_i32(reply)? {
            answers.push(read_fetch_partition(reply, topic.clone())?);
        }
    }
    Ok(answers)
}

fn read_fetch_partition(reply: &mut Bytes, topic: Bytes) -> Result<FetchAnswer, KafkaError> {
    let partition = get_i32(reply)?;
    let error = get_i16(reply)?;
    let high_watermark = get_i64(reply)?;
    get_i64(reply)?; // last stable offset
    let log_start = get_i64(reply)?;
    for _ in 0..get_i32(reply)?.max(0) {
        get_i64(reply)?; // aborted producer
        get_i64(reply)?; // its first offset
    }
    get_i32(reply)?; // preferred read replica
    let length = usize::try_from(get_i32(reply)?).unwrap_or(0);
    Ok(FetchAnswer { topic, partition, error, high_watermark, log_start, batches: take(reply, length)? })
}

fn expect_one(count: i32, what: &'static str) -> Result<(), KafkaError> {
    if count == 1 { Ok(()) } else { Err(KafkaError::Malformed(what)) }
}

fn take(from: &mut Bytes, length: usize) -> Result<Bytes, KafkaError> {
    if from.len() < length {
        return Err(KafkaError::Malformed("a reply that ends early"));
    }
    Ok(from.split_to(length))
}

fn get_string(from: &mut Bytes) -> Result<Bytes, KafkaError> {
    let length = usize::try_from(get_i16(from)?).unwrap_or(0);
    take(from, length)
}

fn skip_string(from: &mut Bytes) -> Result<(), KafkaError> {
    get_string(from).map(drop)
}

fn get_i16(from: &mut Bytes) -> Result<i16, KafkaError> {
    from.try_get_i16().map_err(|_| KafkaError::Malformed("a reply that ends early"))
}

fn get_i32(from: &mut Bytes) -> Result<i32, KafkaError> {
    from.try_get_i32().map_err(|_| KafkaError::Malformed("a reply that ends early"))
}

fn get_i64(from: &mut Bytes) -> Result<i64, KafkaError> {
    from.try_get_i64().map_err(|_| KafkaError::Malformed("a reply that ends early"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
    use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
    use kafka_protocol::messages::{
        FetchRequest, FetchResponse, ProduceRequest, ProduceResponse, RequestHeader, TopicName,
    };
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

    fn topic_name(text: &str) -> TopicName {
        TopicName(StrBytes::from_string(text.to_owned()))
    }

    /// Checks length and header as the codec crate reads them, and returns the body.
    fn body_of(frame: Bytes, key: i16, version: i16, correlation: i32) -> Bytes {
        let mut frame = frame;
        assert_eq!(frame.get_i32() as usize, frame.len());
        let header = RequestHeader::decode(&mut frame, 1).unwrap();
        assert_eq!((header.request_api_key, header.request_api_version), (key, version));
        assert_eq!(header.correlation_id, correlation);
        assert_eq!(header.client_id.as_deref(), Some(CLIENT_ID));
        frame
    }

    #[test]
    fn produce_is_read_by_the_codec_crate() {
        let batch = Bytes::from_static(b"these are the batch bytes");
        let head = produce_head(77, "orders", 12, -1, 30_000, batch.len());
        let frame = Bytes::from([head, batch.clone()].concat());
        let mut body = body_of(frame, PRODUCE_KEY, PRODUCE_VERSION, 77);
        let request = ProduceRequest::decode(&mut body, PRODUCE_VERSION).unwrap();
        assert!(body.is_empty());
        assert_eq!((request.acks, request.timeout_ms), (-1, 30_000));
        assert_eq!(request.topic_data[0].name, topic_name("orders"));
        assert_eq!(request.topic_data[0].partition_data[0].index, 12);
        assert_eq!(request.topic_data[0].partition_data[0].records, Some(batch));
    }

    #[test]
    fn produce_answers_of_the_codec_crate_are_read() {
        let partition =
            PartitionProduceResponse::default().with_index(12).with_error_code(19).with_base_offset(4711);
        let topic = TopicProduceResponse::default()
            .with_name(topic_name("orders"))
            .with_partition_responses(vec![partition]);
        let mut out = BytesMut::new();
        ProduceResponse::default().with_responses(vec![topic]).encode(&mut out, PRODUCE_VERSION).unwrap();
        let answer = read_produce(&mut out.freeze()).unwrap();
        assert_eq!(answer, ProduceAnswer { error: 19, base_offset: 4711 });
    }

    const LIMITS: FetchLimits =
        FetchLimits { wait_max_ms: 500, bytes_min: 1, bytes_max: 1 << 20, partition_bytes_max: 1 << 18 };

    #[test]
    fn fetch_is_read_by_the_codec_crate() {
        let wanted = [
            FetchPartition { topic: "a", partition: 0, offset: 10 },
            FetchPartition { topic: "a", partition: 3, offset: 0 },
            FetchPartition { topic: "b", partition: 1, offset: 99 },
        ];
        let mut body = body_of(fetch_request(5, LIMITS, &wanted), FETCH_KEY, FETCH_VERSION, 5);
        let request = FetchRequest::decode(&mut body, FETCH_VERSION).unwrap();
        assert!(body.is_empty());
        assert_eq!((request.max_wait_ms, request.min_bytes, request.max_bytes), (500, 1, 1 << 20));
        let flat: Vec<_> = request
            .topics
            .iter()
            .flat_map(|t| t.partitions.iter().map(|p| (t.topic.to_string(), p.partition, p.fetch_offset)))
            .collect();
        assert_eq!(flat, [("a".into(), 0, 10), ("a".into(), 3, 0), ("b".to_string(), 1, 99)]);
        assert_eq!(request.topics[0].partitions[0].partition_max_bytes, 1 << 18);
    }

    #[test]
    fn fetch_answers_of_the_codec_crate_are_read() {
        let partition = PartitionData::default()
            .with_partition_index(3)
            .with_high_watermark(50)
            .with_log_start_offset(7)
            .with_aborted_transactions(None)
            .with_records(Some(Bytes::from_static(b"batches")));
        let topic =
            FetchableTopicResponse::default().with_topic(topic_name("a")).with_partitions(vec![partition]);
        let mut out = BytesMut::new();
        FetchResponse::default().with_responses(vec![topic]).encode(&mut out, FETCH_VERSION).unwrap();
        let reply = out.freeze();
        let answers = read_fetch(&mut reply.clone()).unwrap();
        let expected = FetchAnswer {
            topic: Bytes::from_static(b"a"),
            partition: 3,
            error: 0,
            high_watermark: 50,
            log_start: 7,
            batches: Bytes::from_static(b"batches"),
        };
        assert_eq!(answers, [expected]);
        for cut in 0..reply.len() {
            // What ends early is an error, or the trailing part was optional: never a panic.
            let _ = read_fetch(&mut reply.slice(..cut));
        }
        assert!(read_fetch(&mut reply.slice(..reply.len() - 1)).is_err());
    }
}
