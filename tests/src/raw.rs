//! Kafka and native requests over a plain socket: for what no well-behaved client would send, and for seeing replies whole.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use heddle_proto::native::{self, FRAME_LENGTH_BYTES, PREFACE, Reply, Request};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{ApiKey, ProduceRequest, ProduceResponse, RequestHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use crate::wait::HANG;

/// How long a connection must be silent to count as silent.
pub const SILENCE: Duration = Duration::from_millis(700);

/// A connection to the data port.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    correlation: i32,
}

impl Raw {
    /// Connects.
    ///
    /// # Panics
    /// If that fails, as all of these do: they are for tests.
    pub fn connect(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).expect("the broker accepts connections");
        stream.set_read_timeout(Some(HANG)).expect("a timeout can be set");
        stream.set_write_timeout(Some(HANG)).expect("a timeout can be set");
        stream.set_nodelay(true).expect("nodelay can be set");
        Raw { stream, correlation: 0 }
    }

    /// Sends bytes; that the broker has closed the connection meanwhile is fine.
    pub fn send(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Ok(()) => {}
            Err(error) if is_closed(&error) => {}
            Err(error) => panic!("sending failed: {error}"),
        }
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads until the broker closes the connection; returns what came before.
    pub fn read_to_close(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => bytes,
            Err(error) if is_closed(&error) => bytes,
            Err(error) => panic!("the broker neither answered nor closed the connection: {error}"),
        }
    }

    /// Reads exactly `count` bytes; `None` if the connection was closed before.
    pub fn read(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        match self.stream.read_exact(&mut bytes) {
            Ok(()) => Some(bytes),
            Err(error) if is_closed(&error) => None,
            Err(error) => panic!("waiting for an answer failed: {error}"),
        }
    }

    /// Whether nothing comes for [`SILENCE`].
    pub fn is_silent(&mut self) -> bool {
        self.stream.set_read_timeout(Some(SILENCE)).expect("a timeout can be set");
        let silent = matches!(
            self.stream.peek(&mut [0]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
        );
        self.stream.set_read_timeout(Some(HANG)).expect("a timeout can be set");
        silent
    }

    /// Sends a Kafka request and reads its reply.
    pub fn kafka<Q: Encodable, R: Decodable>(&mut self, api: ApiKey, version: i16, request: &Q) -> R {
        let body = body_of(request, version);
        let mut reply = self.kafka_bytes(api as i16, version, &body, api.request_header_version(version));
        let reply = reply.as_mut().expect("the broker closed the connection instead of answering");
        if api.response_header_version(version) >= 1 {
            // No tagged fields are expected in a reply's header.
            assert_eq!(reply.split_to(1)[0], 0);
        }
        R::decode(reply, version)
            .unwrap_or_else(|error| panic!("the reply to {api:?} v{version} is none: {error}"))
    }

    /// Sends a Kafka request of any kind, also of none that exists; the reply after its correlation id, or `None` if the
    /// connection was closed.
    pub fn kafka_bytes(&mut self, api: i16, version: i16, body: &[u8], header_version: i16) -> Option<Bytes> {
        self.correlation += 1;
        let frame = kafka_frame(api, version, self.correlation, body, header_version);
        self.send(&frame);
        let length = self.read(4)?;
        let length = i32::from_be_bytes(length.try_into().expect("four bytes were read"));
        let mut reply = Bytes::from(self.read(usize::try_from(length).expect("lengths are positive"))?);
        let correlation = reply.split_to(4);
        assert_eq!(correlation, self.correlation.to_be_bytes()[..], "the reply is to another request");
        Some(reply)
    }

    /// Sends a Kafka request to produce records that all in-sync replicas are to have, and reads what is answered for them.
    pub fn kafka_produce(
        &mut self,
        version: i16,
        topic: &str,
        partition: i32,
        records: Bytes,
    ) -> PartitionProduceResponse {
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
        let name = TopicName(StrBytes::from(topic.to_owned()));
        let data = TopicProduceData::default().with_name(name).with_partition_data(vec![data]);
        let request =
            ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![data]);
        let mut reply: ProduceResponse = self.kafka(ApiKey::Produce, version, &request);
        reply.responses.remove(0).partition_responses.remove(0)
    }

    /// Begins a native connection.
    pub fn native(address: SocketAddr) -> Raw {
        let mut raw = Raw::connect(address);
        raw.send(&PREFACE);
        raw
    }

    /// Sends a native request without reading anything.
    pub fn tell(&mut self, correlation: u32, request: &Request, payload: &[u8]) {
        self.send(&native_frame(correlation, request, payload));
    }

    /// Reads one native reply: correlation, reply, payload.
    pub fn hear(&mut self) -> (u32, Reply, Bytes) {
        let length = self.read(FRAME_LENGTH_BYTES).expect("the broker answers");
        let length = u32::from_le_bytes(length.try_into().expect("four bytes were read"));
        let frame = Bytes::from(self.read(length as usize).expect("the broker answers"));
        let (header, payload) = native::split_frame_ref(&frame).expect("the reply is a frame");
        let (correlation, reply) = native::decode_reply(header).expect("the reply decodes");
        (correlation, reply, frame.slice_ref(payload))
    }

    /// Sends a native request and reads the reply.
    pub fn ask(&mut self, request: &Request, payload: &[u8]) -> (Reply, Bytes) {
        self.correlation += 1;
        let correlation = self.correlation.unsigned_abs();
        self.tell(correlation, request, payload);
        let (answered, reply, payload) = self.hear();
        assert_eq!(answered, correlation, "the reply {reply:?} is to another request");
        (reply, payload)
    }
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// The body of a Kafka request.
pub fn body_of(request: &impl Encodable, version: i16) -> BytesMut {
    let mut body = BytesMut::new();
    request.encode(&mut body, version).expect("the request encodes");
    body
}

/// A whole Kafka request with its length.
pub fn kafka_frame(api: i16, version: i16, correlation: i32, body: &[u8], header_version: i16) -> BytesMut {
    let header = RequestHeader::default()
        .with_request_api_key(api)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str("test")));
    let mut frame = BytesMut::from(&[0; 4][..]);
    header.encode(&mut frame, header_version).expect("a header encodes");
    frame.put_slice(body);
    let length = u32::try_from(frame.len() - 4).expect("requests of tests are small");
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// A whole native request.
pub fn native_frame(correlation: u32, request: &Request, payload: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    native::encode_request(correlation, request, &mut frame, payload.len()).expect("the request encodes");
    frame.put_slice(payload);
    frame
}
