//! Writing frames: a header of its own, and batches as they are.

use bytes::{BufMut, Bytes, BytesMut};
use flatbuffers::{FlatBufferBuilder, UnionWIPOffset, WIPOffset};
use heddle_proto::crc::crc32c;
use heddle_replication::history::History;
use heddle_replication::message::{Join, Message};
use heddle_replication_driver::{Frame, Said};

use super::generated::heddle::peer as fb;
use super::{
    Body, CALL_BYTES_MAX, CLUSTER_ID_BYTES_MAX, Call, HEADER_BYTES_MAX, Hello, LENGTH_BYTES,
    PAYLOAD_BYTES_MAX, PREFIX_BYTES, Purpose, Refusal, SAID_COUNT_MAX, WireError, checksum,
};

type Builder = FlatBufferBuilder<'static>;
type Union = WIPOffset<UnionWIPOffset>;

/// A first buffer that fits the messages of a few partitions.
const FIRST_BYTES: usize = 1 << 10;

/// After a header as large as this (many replicas greet each other) the buffer is given back.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Writes frames and keeps its buffer.
pub struct Encoder {
    builder: Builder,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder with a small buffer.
    pub fn new() -> Self {
        Self { builder: FlatBufferBuilder::with_capacity(FIRST_BYTES) }
    }

    /// Appends a whole frame to `chunks`: lengths and header in one, then each batch, not copied.
    ///
    /// # Errors
    /// [`WireError::TooLarge`]; nothing is appended then. What [`super::pieces`] gave fits if every message does.
    pub fn encode(&mut self, body: &Body, chunks: &mut Vec<Bytes>) -> Result<(), WireError> {
        let (body_type, union) = match body {
            Body::Hello(hello) => (fb::Body::Hello, write_hello(&mut self.builder, hello)?),
            Body::Proof(digest) => {
                let args = fb::ProofArgs { digest: Some(&fb::Digest(*digest)) };
                (fb::Body::Proof, fb::Proof::create(&mut self.builder, &args).as_union_value())
            }
            Body::Accepted(digest) => {
                let args = fb::AcceptedArgs { digest: Some(&fb::Digest(*digest)) };
                (fb::Body::Accepted, fb::Accepted::create(&mut self.builder, &args).as_union_value())
            }
            Body::Refused(refusal) => {
                let args = fb::RefusedArgs { reason: reason_of(*refusal) };
                (fb::Body::Refused, fb::Refused::create(&mut self.builder, &args).as_union_value())
            }
            Body::Streams(frame) => (fb::Body::Streams, write_streams(&mut self.builder, frame)?),
            Body::Ping(number) => {
                let args = fb::PingArgs { number: *number };
                (fb::Body::Ping, fb::Ping::create(&mut self.builder, &args).as_union_value())
            }
            Body::Pong(number) => {
                let args = fb::PongArgs { number: *number };
                (fb::Body::Pong, fb::Pong::create(&mut self.builder, &args).as_union_value())
            }
            Body::Request(call) => {
                let args = fb::RequestArgs { number: call.number, crc: payload_crc(call)? };
                (fb::Body::Request, fb::Request::create(&mut self.builder, &args).as_union_value())
            }
            Body::Reply(call) => {
                let args = fb::ReplyArgs { number: call.number, crc: payload_crc(call)? };
                (fb::Body::Reply, fb::Reply::create(&mut self.builder, &args).as_union_value())
            }
        };
        let root = fb::Header::create(&mut self.builder, &fb::HeaderArgs { body_type, body: Some(union) });
        self.builder.finish_minimal(root);
        let (said, call, payload_bytes_max) = match body {
            Body::Streams(frame) => (frame.said.as_slice(), None, PAYLOAD_BYTES_MAX),
            Body::Request(call) | Body::Reply(call) => (&[][..], Some(&call.payload), CALL_BYTES_MAX),
            _ => (&[][..], None, 0),
        };
        let payload = said.iter().flat_map(|said| &said.batches).chain(call);
        let payload_bytes = payload.clone().map(|part| part.len()).sum();
        let head = head(self.builder.finished_data(), payload_bytes, payload_bytes_max);
        self.give_back();
        chunks.push(head?);
        chunks.extend(payload.cloned());
        Ok(())
    }

    fn give_back(&mut self) {
        if self.builder.finished_data().len() > KEPT_BYTES_MAX {
            self.builder = FlatBufferBuilder::with_capacity(FIRST_BYTES);
        } else {
            self.builder.reset();
        }
    }
}

/// Everything before the payload.
fn head(header: &[u8], payload_bytes: usize, payload_bytes_max: usize) -> Result<Bytes, WireError> {
    within("header", header.len(), HEADER_BYTES_MAX)?;
    within("payload", payload_bytes, payload_bytes_max)?;
    let frame_bytes = (PREFIX_BYTES + header.len() + payload_bytes) as u32;
    let mut out = BytesMut::with_capacity(LENGTH_BYTES + PREFIX_BYTES + header.len());
    out.put_u32_le(frame_bytes);
    out.put_u32_le(header.len() as u32);
    out.put_u32_le(checksum(frame_bytes, header));
    out.extend_from_slice(header);
    Ok(out.freeze())
}

pub(super) fn within(part: &'static str, bytes: usize, bytes_max: usize) -> Result<(), WireError> {
    if bytes > bytes_max { Err(WireError::TooLarge { part, bytes, bytes_max }) } else { Ok(()) }
}

fn write_hello(builder: &mut Builder, hello: &Hello) -> Result<Union, WireError> {
    within("cluster id", hello.cluster.len(), CLUSTER_ID_BYTES_MAX)?;
    let cluster = builder.create_string(&hello.cluster);
    let args = fb::HelloArgs {
        cluster: Some(cluster),
        node: hello.from.node.get(),
        core: hello.from.core.get(),
        life: hello.life.0,
        process: Some(&fb::Uuid(hello.process)),
        to_node: hello.to.node.get(),
        to_core: hello.to.core.get(),
        challenge: Some(&fb::Digest(hello.challenge)),
        purpose: purpose_of(hello.purpose),
    };
    Ok(fb::Hello::create(builder, &args).as_union_value())
}

fn write_streams(builder: &mut Builder, frame: &Frame) -> Result<Union, WireError> {
    within("list of messages", frame.said.len(), SAID_COUNT_MAX)?;
    let said: Vec<_> = frame.said.iter().map(|said| write_said(builder, said)).collect();
    let said = builder.create_vector(&said);
    let taken = frame.taken.map(|(stream, bytes)| fb::Taken::new(stream, bytes));
    let args = fb::StreamsArgs { stream: frame.connection, taken: taken.as_ref(), said: Some(said) };
    Ok(fb::Streams::create(builder, &args).as_union_value())
}

fn write_said(builder: &mut Builder, said: &Said) -> WIPOffset<fb::Said<'static>> {
    let sizes: Vec<u32> = said.batches.iter().map(|batch| batch.len() as u32).collect();
    let batch_bytes = (!sizes.is_empty()).then(|| builder.create_vector(&sizes));
    let (message_type, message) = write_message(builder, &said.message);
    let args = fb::SaidArgs {
        topic: Some(&fb::Uuid(said.partition.topic.get())),
        partition: said.partition.partition.get(),
        message_type,
        message: Some(message),
        batch_bytes,
    };
    fb::Said::create(builder, &args)
}

fn write_message(builder: &mut Builder, message: &Message) -> (fb::Message, Union) {
    match message {
        Message::Join(join) => (fb::Message::Join, write_join(builder, join)),
        Message::Welcome { epoch, life, shared, start, elected_end, committed } => {
            let args = fb::WelcomeArgs {
                epoch: epoch.get(),
                life: life.0,
                shared: shared.get(),
                start: start.get(),
                elected_end: elected_end.get(),
                committed: committed.get(),
            };
            (fb::Message::Welcome, fb::Welcome::create(builder, &args).as_union_value())
        }
        Message::Append { epoch, life, from, upto, history, committed } => {
            let history = write_history(builder, history);
            let args = fb::AppendArgs {
                epoch: epoch.get(),
                life: life.0,
                from: from.get(),
                upto: upto.get(),
                committed: committed.get(),
                history,
            };
            (fb::Message::Append, fb::Append::create(builder, &args).as_union_value())
        }
        Message::Commit { epoch, life, committed } => {
            let args = fb::CommitArgs { epoch: epoch.get(), life: life.0, committed: committed.get() };
            (fb::Message::Commit, fb::Commit::create(builder, &args).as_union_value())
        }
        Message::Ack { epoch, life, written, held, version } => {
            let (epoch, written, held) = (epoch.get(), written.get(), held.map(|held| held.get()));
            let args = fb::AckArgs { epoch, life: life.0, written, held, version: *version };
            (fb::Message::Ack, fb::Ack::create(builder, &args).as_union_value())
        }
    }
}

fn write_join(builder: &mut Builder, join: &Join) -> Union {
    let history = write_history(builder, &join.history);
    let args = fb::JoinArgs {
        epoch: join.epoch.get(),
        life: join.life.0,
        start: join.start.get(),
        end: join.end.get(),
        committed: join.committed.get(),
        history,
    };
    fb::Join::create(builder, &args).as_union_value()
}

type EpochStarts = WIPOffset<flatbuffers::Vector<'static, fb::EpochStart>>;

fn write_history(builder: &mut Builder, history: &History) -> Option<EpochStarts> {
    let entries = history.entries().iter();
    let entries: Vec<_> =
        entries.map(|(epoch, start)| fb::EpochStart::new(start.get(), epoch.get())).collect();
    (!entries.is_empty()).then(|| builder.create_vector(&entries))
}

/// Of what is too large there is none: it is not written.
fn payload_crc(call: &Call) -> Result<u32, WireError> {
    within("payload", call.payload.len(), CALL_BYTES_MAX)?;
    Ok(crc32c(&call.payload))
}

fn purpose_of(purpose: Purpose) -> fb::Purpose {
    match purpose {
        Purpose::Streams => fb::Purpose::Streams,
        Purpose::Calls => fb::Purpose::Calls,
        Purpose::Join => fb::Purpose::Join,
    }
}

fn reason_of(refusal: Refusal) -> fb::Reason {
    match refusal {
        Refusal::Unknown => fb::Reason::Unknown,
        Refusal::Cluster => fb::Reason::Cluster,
        Refusal::OwnNode => fb::Reason::OwnNode,
        Refusal::NodeInUse => fb::Reason::NodeInUse,
        Refusal::NotMe => fb::Reason::NotMe,
        Refusal::Secret => fb::Reason::Secret,
        Refusal::Purpose => fb::Reason::Purpose,
    }
}
