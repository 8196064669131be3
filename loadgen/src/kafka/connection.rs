//! One pipelined connection to one Kafka broker: requests leave at once, answers come back in order.
//!
//! Lives on one executor. Dropping the last handle closes it.

use super::KafkaError;
use super::wire::{self, FetchAnswer, FetchLimits, FetchPartition, ProduceAnswer, REPLY_BYTES_MAX};
use crate::signal::{Notify, Slot};
use crate::socket::{Outbox, Socket};
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Request};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;

type Answer = Result<Bytes, KafkaError>;

/// Spare room a read begins with; answers to produce are some 50 bytes.
const READ_BYTES: usize = 64 * 1024;

struct Shared {
    socket: RefCell<Socket>,
    outbox: RefCell<Outbox>,
    /// Raised when the socket took less than it was given.
    stuck: Notify,
    waiting: RefCell<VecDeque<(i32, Rc<Slot<Answer>>)>>,
    next_correlation: Cell<i32>,
    broken: RefCell<Option<KafkaError>>,
}

/// A handle to a connection; copies share it. The connection ends when the last is dropped and nothing is awaited any more.
#[derive(Clone)]
pub struct Connection {
    shared: Rc<Shared>,
    _tasks: Rc<[glommio::Task<()>; 2]>,
}

impl Connection {
    /// Connects to `address` (`host:port`) and starts the tasks that read and write.
    pub async fn connect(address: &str) -> Result<Self, KafkaError> {
        let socket = Socket::connect(address)
            .await
            .map_err(|e| KafkaError::Connect { address: address.to_owned(), reason: e.to_string() })?;
        let shared = Rc::new(Shared {
            socket: RefCell::new(socket),
            outbox: RefCell::default(),
            stuck: Notify::default(),
            waiting: RefCell::default(),
            next_correlation: Cell::new(0),
            broken: RefCell::new(None),
        });
        let reader = glommio::spawn_local(read_answers(Rc::clone(&shared)));
        let writer = glommio::spawn_local(write_leftovers(Rc::clone(&shared)));
        Ok(Self { shared, _tasks: Rc::new([reader, writer]) })
    }

    /// Whether the connection has broken.
    pub fn is_broken(&self) -> bool {
        self.shared.broken.borrow().is_some()
    }

    /// Sends a batch now; the future is its answer. With `acks` 0 there is none, and it is ready at once.
    pub fn produce(
        &self,
        topic: &str,
        partition: i32,
        acks: i16,
        timeout_ms: i32,
        batch: Bytes,
    ) -> impl Future<Output = Result<ProduceAnswer, KafkaError>> + use<> {
        let correlation = self.next_correlation();
        let head = wire::produce_head(correlation, topic, partition, acks, timeout_ms, batch.len());
        let answer = match acks {
            0 => self.send_unanswered(head, batch),
            _ => Some(self.send(correlation, head, batch)),
        };
        let connection = self.clone();
        async move {
            let outcome = match answer {
                Some(slot) => slot.take().await.and_then(|mut answer| wire::read_produce(&mut answer)),
                None => connection.shared.check().map(|()| ProduceAnswer { error: 0, base_offset: -1 }),
            };
            drop(connection); // named whole, or the block would keep only the field it uses
            outcome
        }
    }

    /// Sends a fetch now; the future is its answer.
    pub fn fetch(
        &self,
        limits: FetchLimits,
        wanted: &[FetchPartition<'_>],
    ) -> impl Future<Output = Result<Vec<FetchAnswer>, KafkaError>> + use<> {
        let correlation = self.next_correlation();
        let slot = self.send(correlation, wire::fetch_request(correlation, limits, wanted), Bytes::new());
        let connection = self.clone();
        async move {
            let answer = slot.take().await;
            drop(connection);
            wire::read_fetch(&mut answer?)
        }
    }

    /// Sends any request of a version with plain (not flexible) headers, and waits for its answer.
    pub async fn call<R: Request>(
        &self,
        api: &'static str,
        version: i16,
        request: &R,
    ) -> Result<R::Response, KafkaError> {
        let codec = |e: &dyn std::fmt::Display| KafkaError::Codec { api, reason: e.to_string() };
        let mut body = BytesMut::new();
        request.encode(&mut body, version).map_err(|e| codec(&e))?;
        let correlation = self.next_correlation();
        let mut head = BytesMut::new();
        wire::put_request_header(&mut head, R::KEY, version, correlation, body.len());
        let slot = self.send(correlation, head.freeze(), body.freeze());
        let mut answer = slot.take().await?;
        R::Response::decode(&mut answer, version).map_err(|e| codec(&e))
    }

    fn next_correlation(&self) -> i32 {
        let correlation = self.shared.next_correlation.get();
        self.shared.next_correlation.set(correlation.wrapping_add(1) & i32::MAX);
        correlation
    }

    fn send(&self, correlation: i32, head: Bytes, payload: Bytes) -> Rc<Slot<Answer>> {
        let slot = Slot::new();
        if let Err(error) = self.shared.check() {
            slot.fill(Err(error));
            return slot;
        }
        self.shared.waiting.borrow_mut().push_back((correlation, Rc::clone(&slot)));
        self.shared.transmit(head, payload);
        slot
    }

    fn send_unanswered(&self, head: Bytes, payload: Bytes) -> Option<Rc<Slot<Answer>>> {
        if self.shared.check().is_ok() {
            self.shared.transmit(head, payload);
        }
        None
    }
}

impl Shared {
    fn check(&self) -> Result<(), KafkaError> {
        self.broken.borrow().clone().map_or(Ok(()), Err)
    }

    fn transmit(&self, head: Bytes, payload: Bytes) {
        let mut outbox = self.outbox.borrow_mut();
        let was_empty = outbox.is_empty();
        outbox.push(head);
        if !payload.is_empty() {
            outbox.push(payload);
        }
        if !was_empty {
            return; // the writer task is at it
        }
        let flushed = outbox.flush(&self.socket.borrow());
        drop(outbox);
        match flushed {
            Ok(true) => {}
            Ok(false) => self.stuck.raise(),
            Err(error) => self.fail(KafkaError::Closed(error.to_string())),
        }
    }

    /// Marks the connection broken and fails everything that waits.
    fn fail(&self, error: KafkaError) {
        self.broken.borrow_mut().get_or_insert(error.clone());
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_iter().for_each(|(_, slot)| slot.fill(Err(error.clone())));
    }

    /// Gives one whole frame, without its length, to who waits for it.
    fn deliver(&self, mut frame: Bytes) -> Result<(), KafkaError> {
        let correlation =
            frame.try_get_i32().map_err(|_| KafkaError::Malformed("an answer without a header"))?;
        let (expected, slot) = self
            .waiting
            .borrow_mut()
            .pop_front()
            .ok_or(KafkaError::Malformed("an answer nobody asked for"))?;
        if expected != correlation {
            slot.fill(Err(KafkaError::Malformed("answers out of order")));
            return Err(KafkaError::Malformed("answers out of order"));
        }
        slot.fill(Ok(frame));
        Ok(())
    }
}

/// Sends what did not fit at once.
async fn write_leftovers(shared: Rc<Shared>) {
    loop {
        shared.stuck.wait().await;
        let result =
            poll_fn(|cx| shared.outbox.borrow_mut().poll_flush(cx, &mut shared.socket.borrow_mut())).await;
        if let Err(error) = result {
            return shared.fail(KafkaError::Closed(error.to_string()));
        }
    }
}

async fn read_answers(shared: Rc<Shared>) {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        if let Err(error) = read_once(&shared, &mut buffer).await {
            return shared.fail(error);
        }
    }
}

async fn read_once(shared: &Shared, buffer: &mut BytesMut) -> Result<(), KafkaError> {
    let count = poll_fn(|cx| shared.socket.borrow_mut().poll_receive(cx, buffer))
        .await
        .map_err(|e| KafkaError::Closed(e.to_string()))?;
    if count == 0 {
        return Err(KafkaError::Closed("closed by the broker".to_owned()));
    }
    while let Some(frame) = split_frame(buffer)? {
        shared.deliver(frame)?;
    }
    Ok(())
}

/// The next whole frame without its length. Makes room for the rest of one that has only begun.
fn split_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, KafkaError> {
    let Some(prefix) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(i32::from_be_bytes(*prefix))
        .ok()
        .filter(|length| *length <= REPLY_BYTES_MAX)
        .ok_or(KafkaError::Malformed("an answer of absurd length"))?;
    if buffer.len() < 4 + length {
        buffer.reserve(4 + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(4);
    let frame = buffer.split_to(length).freeze();
    if buffer.capacity() - buffer.len() < READ_BYTES / 4 {
        buffer.reserve(READ_BYTES);
    }
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_split_and_absurd_lengths_refused() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 2, b'a', b'b', 0, 0, 0, 1][..]);
        assert_eq!(split_frame(&mut buffer).unwrap().as_deref(), Some(&b"ab"[..]));
        assert_eq!(split_frame(&mut buffer).unwrap(), None);
        buffer.extend_from_slice(b"c");
        assert_eq!(split_frame(&mut buffer).unwrap().as_deref(), Some(&b"c"[..]));
        assert!(split_frame(&mut BytesMut::from(&[0xff; 8][..])).is_err());
        assert!(split_frame(&mut BytesMut::from(&[0x7f, 0xff, 0xff, 0xff][..])).is_err());
    }
}
