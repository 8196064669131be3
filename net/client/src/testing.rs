//! The broker's side of a connection for tests: real frames over an in-memory pipe.
use bytes::{Bytes, BytesMut};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use heddle_proto::batch::{BatchBuilder, Compression, assign};
use heddle_proto::native::{PREFACE, Reply, Request, decode_request, encode_reply, split_frame};
use heddle_proto::{Epoch, ErrorCode, Offset, Timestamp};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use crate::{Client, ClientError, ClientOptions, connection_with};

pub(crate) type Pipe = Compat<DuplexStream>;

/// A small pipe, so that larger messages are sent and received in pieces.
const PIPE_BYTES: usize = 3000;

pub(crate) fn pipe() -> (Pipe, Pipe) {
    let (client, broker) = tokio::io::duplex(PIPE_BYTES);
    (client.compat(), broker.compat())
}

/// A scripted broker.
pub(crate) struct Broker {
    pipe: Pipe,
}

/// One request as it came.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) correlation: u32,
    pub(crate) request: Request,
    pub(crate) payload: Bytes,
}

pub(crate) type Driven = JoinHandle<Result<(), ClientError>>;

/// A client whose driver runs, and the broker it is connected to.
pub(crate) async fn connected(options: ClientOptions) -> (Client, Driven, Broker) {
    tokio::spawn(give_up());
    let (client_pipe, broker_pipe) = pipe();
    let (client, driver) = connection_with(client_pipe, options);
    let driven = tokio::spawn(driver);
    (client, driven, Broker::accept(broker_pipe).await)
}

/// Ends a test that waits for something that never comes; dropped with the runtime of a test that ends by
/// itself.
async fn give_up() {
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    eprintln!("a test waited for a minute in vain");
    std::process::abort();
}

impl Broker {
    pub(crate) async fn accept(mut pipe: Pipe) -> Broker {
        let mut preface = [0; PREFACE.len()];
        pipe.read_exact(&mut preface).await.expect("a client begins with its preface");
        assert_eq!(preface, PREFACE);
        Broker { pipe }
    }

    /// The next request; `None` when the client has closed the connection.
    pub(crate) async fn try_next(&mut self) -> Option<Asked> {
        let mut length = [0; 4];
        self.pipe.read_exact(&mut length).await.ok()?;
        let mut frame = vec![0; u32::from_le_bytes(length) as usize];
        self.pipe.read_exact(&mut frame).await.ok()?;
        let (header, payload) = split_frame(BytesMut::from(&frame[..])).expect("a well-formed frame");
        let (correlation, request) = decode_request(&header).expect("a well-formed request");
        Some(Asked { correlation, request, payload: payload.freeze() })
    }

    pub(crate) async fn next(&mut self) -> Asked {
        self.try_next().await.expect("another request")
    }

    pub(crate) async fn reply_with(&mut self, correlation: u32, reply: Reply, payload: &[u8]) {
        let mut bytes = BytesMut::new();
        encode_reply(correlation, &reply, &mut bytes, payload.len()).expect("a reply within the limits");
        bytes.extend_from_slice(payload);
        self.send(&bytes).await;
    }

    pub(crate) async fn reply(&mut self, correlation: u32, reply: Reply) {
        self.reply_with(correlation, reply, &[]).await;
    }

    pub(crate) async fn refuse(&mut self, correlation: u32, code: ErrorCode) {
        self.reply(correlation, Reply::Error { code, message: "scripted".to_owned() }).await;
    }

    pub(crate) async fn push(&mut self, subscription: u32, batches: &[u8]) {
        let push = Reply::Push { subscription, committed: Offset::new(99) };
        self.reply_with(0, push, batches).await;
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // A client that has gone is for the test's other side to notice.
        drop(self.pipe.write_all(bytes).await);
    }
}

pub(crate) fn produced(base_offset: i64) -> Reply {
    Reply::Produce { base_offset: Offset::new(base_offset), append_time: Timestamp::NONE }
}

/// A batch of `count` records at `base`.
pub(crate) fn batch(base: i64, count: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for _ in 0..count {
        builder.push(Timestamp::new(1), None, Some(b"value"), &[]).unwrap();
    }
    let mut bytes = builder.build().unwrap();
    assign(&mut bytes, Offset::new(base), Epoch::new(0));
    bytes.freeze()
}
