//! The ordered, bounded reply queue of one connection.
//!
//! The reader takes a [`ReplySlot`] for each request, in the order of the requests; whoever has the answer
//! fills the slot, at once or much later (an ack parked on an offset), in any order. The [`OutboxWriter`]
//! sends replies in the order of their slots, all that are ready in one vectored send. Filling a slot wakes
//! the writer only if its reply is the next.
//!
//! Beside replies there are pushes (messages nobody asked for by a request of their own: deliveries of a
//! subscription). They keep their own order and their own bounded queue, and are sent between replies: a
//! reply that waits does not hold pushes back, and a push may overtake the reply to the request that caused
//! it.
//!
//! Bounds: replies by count and bytes, where a slot counts with the bytes reserved for it until it is filled;
//! pushes by bytes; what is being sent still counts. Over a bound, taking a slot or pushing waits, so the
//! reader stops reading and the other side is slowed down by TCP. A single message larger than a bound passes
//! when nothing else is queued. Replies and pushes also count against a [`Budget`] that connections share.
//!
//! The outbox lives on one core and allocates nothing per reply. After a failed send, or a slot dropped
//! unfilled (a missing reply would shift all later ones), it is closed for good: see [`Closed`].
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use crate::socket::WriteHalf;

pub mod budget;
#[cfg(test)]
mod tests;
pub mod watch;

use budget::{Budget, Claim};
use watch::{Observer, Watch};

/// Chunks smaller than this are copied together before a send; larger ones are sent from where they lie.
const COALESCE_BYTES_MAX: usize = 1 << 10;

/// How much is copied together before a new buffer is begun.
const STAGING_BYTES: usize = 16 << 10;

/// Limits of an outbox.
#[derive(Copy, Clone, Debug)]
pub struct OutboxOptions {
    /// Replies queued, filled or not. Bounds how many requests of a connection are in flight.
    pub reply_count_max: usize,
    /// Bytes of queued replies, with those reserved by slots not yet filled.
    pub reply_bytes_max: usize,
    /// Bytes of queued pushes.
    pub push_bytes_max: usize,
    /// Bytes of replies, and again of pushes, after which a send takes no more; so neither holds up the other
    /// for long.
    pub send_bytes_max: usize,
}

impl Default for OutboxOptions {
    fn default() -> OutboxOptions {
        OutboxOptions {
            reply_count_max: 1024,
            reply_bytes_max: 32 << 20,
            push_bytes_max: 8 << 20,
            send_bytes_max: 1 << 20,
        }
    }
}

/// One message ready to be sent: its bytes in one or more chunks, shared and never copied unless small.
#[derive(Clone, Debug)]
pub enum Reply {
    /// One chunk.
    One(Bytes),
    /// A head and a payload.
    Two(Bytes, Bytes),
    /// Any number of chunks.
    Many(Vec<Bytes>),
}

impl From<Bytes> for Reply {
    fn from(chunk: Bytes) -> Reply {
        Reply::One(chunk)
    }
}

impl From<Vec<Bytes>> for Reply {
    fn from(chunks: Vec<Bytes>) -> Reply {
        Reply::Many(chunks)
    }
}

impl Reply {
    /// All chunks together, in bytes.
    pub fn size_bytes(&self) -> usize {
        match self {
            Reply::One(chunk) => chunk.len(),
            Reply::Two(head, payload) => head.len() + payload.len(),
            Reply::Many(chunks) => chunks.iter().map(Bytes::len).sum(),
        }
    }
}

/// Why the outbox takes nothing more.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Error)]
pub enum Closed {
    /// [`Outbox::close`] was called: what was queued before is still sent.
    #[error("the connection is closing")]
    Closing,
    /// Sending failed, or the writer was dropped: nothing more is sent.
    #[error("sending to the connection failed ({0})")]
    SendFailed(io::ErrorKind),
    /// A slot was dropped unfilled: nothing more is sent.
    #[error("a request of the connection was abandoned without a reply")]
    ReplyLost,
}

impl Closed {
    fn is_final(self) -> bool {
        self != Closed::Closing
    }
}

/// What an outbox has done and holds.
#[derive(Copy, Clone, Default, PartialEq, Eq, Debug)]
pub struct OutboxStats {
    /// Sends since the beginning.
    pub send_count: u64,
    /// Replies sent since the beginning.
    pub reply_count: u64,
    /// Pushes sent since the beginning.
    pub push_count: u64,
    /// Bytes sent since the beginning.
    pub sent_bytes: u64,
    /// Replies queued or being sent now.
    pub queued_reply_count: usize,
    /// Bytes of replies reserved, queued or being sent now.
    pub queued_reply_bytes: usize,
    /// Bytes of pushes queued or being sent now.
    pub queued_push_bytes: usize,
}

/// Where an [`OutboxWriter`] sends to.
pub trait Sink {
    /// Sends all chunks in order.
    fn send(&mut self, chunks: &[Bytes]) -> impl Future<Output = io::Result<()>>;
    /// Everything was sent: tell the other side that nothing more comes.
    fn finish(&mut self);
    /// Sending is over before everything was sent: end the connection, so that its reader wakes.
    fn abort(&mut self);
}

impl Sink for WriteHalf {
    async fn send(&mut self, chunks: &[Bytes]) -> io::Result<()> {
        self.write_all_vectored(chunks).await
    }

    fn finish(&mut self) {
        WriteHalf::finish(self);
    }

    fn abort(&mut self) {
        WriteHalf::abort(self);
    }
}

/// The queueing side of a connection's outbox; clones share the queue.
#[derive(Clone)]
pub struct Outbox {
    queue: Rc<RefCell<Queue>>,
}

/// The sending side: run it once, beside the reader of the connection.
pub struct OutboxWriter {
    queue: Rc<RefCell<Queue>>,
}

/// The place of one reply in the order. Fill it; dropped unfilled it closes the connection.
#[must_use = "a slot dropped unfilled closes the connection"]
pub struct ReplySlot {
    queue: Rc<RefCell<Queue>>,
    sequence: u64,
}

/// Makes the two sides of an outbox.
pub fn outbox(options: OutboxOptions) -> (Outbox, OutboxWriter) {
    outbox_within(options, Budget::boundless())
}

/// Makes the two sides of an outbox that shares a budget with others: while that is used up, a queue that holds something
/// takes no more.
pub fn outbox_within(options: OutboxOptions, budget: Rc<Budget>) -> (Outbox, OutboxWriter) {
    let queue = Rc::new(RefCell::new(Queue::new(options, budget)));
    (Outbox { queue: queue.clone() }, OutboxWriter { queue })
}

impl Outbox {
    /// Waits for room and takes the next place in the order, reserving `reserved_bytes` for its reply (0 for
    /// small ones).
    ///
    /// To be called by the one reader of the connection: the order of slots is the order of replies.
    pub async fn slot(&self, reserved_bytes: usize) -> Result<ReplySlot, Closed> {
        poll_fn(|cx| {
            let mut queue = self.queue.borrow_mut();
            queue.poll_reply_room(cx, reserved_bytes)?.map(|()| Ok(self.new_slot(&mut queue, reserved_bytes)))
        })
        .await
    }

    /// Takes the next place in the order if there is room now.
    pub fn try_slot(&self, reserved_bytes: usize) -> Result<Option<ReplySlot>, Closed> {
        let mut queue = self.queue.borrow_mut();
        queue.check_open()?;
        let room = queue.has_reply_room(reserved_bytes);
        Ok(room.then(|| self.new_slot(&mut queue, reserved_bytes)))
    }

    fn new_slot(&self, queue: &mut Queue, reserved_bytes: usize) -> ReplySlot {
        ReplySlot { queue: self.queue.clone(), sequence: queue.reserve(reserved_bytes) }
    }

    /// Waits until a slot without reservation would be given at once: the reader's back-pressure before it
    /// reads on.
    pub async fn ready(&self) -> Result<(), Closed> {
        poll_fn(|cx| self.queue.borrow_mut().poll_reply_room(cx, 0)).await
    }

    /// Waits for room and queues a push behind earlier pushes.
    pub async fn push(&self, message: Reply, watch: Option<Watch>) -> Result<(), Closed> {
        let bytes = message.size_bytes();
        poll_fn(|cx| self.queue.borrow_mut().poll_push_room(cx, bytes)).await?;
        self.queue.borrow_mut().push(message, bytes, watch);
        Ok(())
    }

    /// Waits until a push of `bytes` would be taken at once.
    pub async fn push_ready(&self, bytes: usize) -> Result<(), Closed> {
        poll_fn(|cx| self.queue.borrow_mut().poll_push_room(cx, bytes)).await
    }

    /// Queues a push if there is room now, else gives it back.
    pub fn try_push(&self, message: Reply) -> Result<Option<Reply>, Closed> {
        let mut queue = self.queue.borrow_mut();
        queue.check_open()?;
        let bytes = message.size_bytes();
        if !queue.has_push_room(bytes) {
            return Ok(Some(message));
        }
        queue.push(message, bytes, None);
        Ok(None)
    }

    /// Takes no more; the writer sends what is queued, waits for slots still to be filled, and ends.
    pub fn close(&self) {
        self.queue.borrow_mut().close(Closed::Closing);
    }

    /// Gives up: the writer ends without sending what is queued, as soon as a send under way returns.
    pub fn abort(&self) {
        self.queue.borrow_mut().close(Closed::SendFailed(io::ErrorKind::ConnectionAborted));
    }

    /// Why nothing more is taken, if so.
    pub fn closed(&self) -> Option<Closed> {
        self.queue.borrow().closed
    }

    /// Counters and gauges of this connection.
    pub fn stats(&self) -> OutboxStats {
        self.queue.borrow().stats
    }
}

impl ReplySlot {
    /// Gives the reply; it is sent when all earlier ones are. Does nothing if the connection has ended
    /// meanwhile.
    pub fn fill(self, reply: impl Into<Reply>) {
        self.queue.borrow_mut().fill(self.sequence, reply.into(), None);
    }

    /// Like [`ReplySlot::fill`]; the writer's observer is told when the reply was sent.
    pub fn fill_watched(self, reply: impl Into<Reply>, watch: Watch) {
        self.queue.borrow_mut().fill(self.sequence, reply.into(), Some(watch));
    }
}

impl Drop for ReplySlot {
    fn drop(&mut self) {
        self.queue.borrow_mut().abandon(self.sequence);
    }
}

impl OutboxWriter {
    /// Sends until the outbox is closed and empty, or a send fails; the reader learns of a failure by
    /// [`Closed`] and by the end of its connection.
    pub async fn run(self, mut sink: impl Sink, observer: impl Observer) -> Result<(), Closed> {
        let mut batch = Batch::default();
        loop {
            match poll_fn(|cx| self.queue.borrow_mut().poll_batch(cx, &mut batch)).await {
                Next::Send => {}
                Next::Finished => {
                    sink.finish();
                    return Ok(());
                }
                Next::Failed(why) => {
                    sink.abort();
                    return Err(why);
                }
            }
            let sent = sink.send(&batch.chunks).await;
            if sent.is_ok() {
                batch.tell(&observer);
            }
            self.queue.borrow_mut().on_sent(&mut batch, sent);
        }
    }
}

impl Drop for OutboxWriter {
    fn drop(&mut self) {
        self.queue.borrow_mut().close(Closed::SendFailed(io::ErrorKind::BrokenPipe));
    }
}

/// A reply in its place: awaited (with the bytes reserved for it) or there.
enum Place {
    Awaited { reserved_bytes: usize },
    Filled(Reply, Option<Watch>),
}

struct Queue {
    options: OutboxOptions,
    places: VecDeque<Place>,
    /// The sequence of the first place.
    first_sequence: u64,
    pushes: VecDeque<(Reply, Option<Watch>)>,
    closed: Option<Closed>,
    writer: Option<Waker>,
    reply_waiters: Vec<Waker>,
    push_waiters: Vec<Waker>,
    stats: OutboxStats,
    /// Bytes of filled replies and of pushes, those being sent included.
    held: Claim,
}

enum Next {
    Send,
    Finished,
    Failed(Closed),
}

impl Queue {
    fn new(options: OutboxOptions, budget: Rc<Budget>) -> Queue {
        Queue {
            options,
            places: VecDeque::new(),
            first_sequence: 0,
            pushes: VecDeque::new(),
            closed: None,
            writer: None,
            reply_waiters: Vec::new(),
            push_waiters: Vec::new(),
            stats: OutboxStats::default(),
            held: Claim::none(budget),
        }
    }

    fn check_open(&self) -> Result<(), Closed> {
        self.closed.map_or(Ok(()), Err)
    }

    fn has_reply_room(&self, bytes: usize) -> bool {
        let stats = &self.stats;
        stats.queued_reply_count < self.options.reply_count_max
            && fits(stats.queued_reply_bytes, bytes, self.options.reply_bytes_max)
            && self.has_budget(bytes)
    }

    fn has_push_room(&self, bytes: usize) -> bool {
        fits(self.stats.queued_push_bytes, bytes, self.options.push_bytes_max) && self.has_budget(bytes)
    }

    /// Over the budget only a connection that holds nothing may take more; it is woken when its own queue has been sent.
    fn has_budget(&self, bytes: usize) -> bool {
        self.held.bytes() == 0 || self.held.budget().has_room(bytes)
    }

    fn poll_reply_room(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<Result<(), Closed>> {
        self.check_open()?;
        if self.has_reply_room(bytes) {
            return Poll::Ready(Ok(()));
        }
        wait(&mut self.reply_waiters, cx);
        Poll::Pending
    }

    fn poll_push_room(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<Result<(), Closed>> {
        self.check_open()?;
        if self.has_push_room(bytes) {
            return Poll::Ready(Ok(()));
        }
        wait(&mut self.push_waiters, cx);
        Poll::Pending
    }

    fn reserve(&mut self, reserved_bytes: usize) -> u64 {
        let sequence = self.first_sequence + self.places.len() as u64;
        self.places.push_back(Place::Awaited { reserved_bytes });
        self.stats.queued_reply_count += 1;
        self.stats.queued_reply_bytes += reserved_bytes;
        sequence
    }

    /// The place of a slot; `None` once it is filled and sent, or the queue was cleared.
    fn place(&mut self, sequence: u64) -> Option<&mut Place> {
        let index = sequence.checked_sub(self.first_sequence)?;
        self.places.get_mut(usize::try_from(index).ok()?)
    }

    fn fill(&mut self, sequence: u64, reply: Reply, watch: Option<Watch>) {
        let bytes = reply.size_bytes();
        let Some(place) = self.place(sequence) else { return };
        let Place::Awaited { reserved_bytes } = *place else { return };
        *place = Place::Filled(reply, watch);
        let queued = &mut self.stats.queued_reply_bytes;
        *queued = *queued + bytes - reserved_bytes;
        self.held.add(bytes);
        if sequence == self.first_sequence {
            self.wake_writer();
        }
        if bytes < reserved_bytes {
            wake_all(&mut self.reply_waiters);
        }
    }

    fn abandon(&mut self, sequence: u64) {
        if matches!(self.place(sequence), Some(Place::Awaited { .. })) {
            self.close(Closed::ReplyLost);
        }
    }

    fn push(&mut self, message: Reply, bytes: usize, watch: Option<Watch>) {
        self.stats.queued_push_bytes += bytes;
        self.held.add(bytes);
        self.pushes.push_back((message, watch));
        self.wake_writer();
    }

    /// Closes for `why`, unless already closed for good.
    fn close(&mut self, why: Closed) {
        if self.closed.is_some_and(|closed| closed.is_final() || closed == why) {
            return;
        }
        self.closed = Some(why);
        if why.is_final() {
            self.clear();
        }
        self.wake_writer();
        wake_all(&mut self.reply_waiters);
        wake_all(&mut self.push_waiters);
    }

    /// Forgets everything queued; slots still out find no place any more.
    fn clear(&mut self) {
        self.first_sequence += self.places.len() as u64;
        self.places = VecDeque::new();
        self.pushes = VecDeque::new();
        self.stats.queued_reply_count = 0;
        self.stats.queued_reply_bytes = 0;
        self.stats.queued_push_bytes = 0;
        self.held.give_back(self.held.bytes());
    }

    fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Next> {
        if let Some(why) = self.closed.filter(|why| why.is_final()) {
            return Poll::Ready(Next::Failed(why));
        }
        self.take_replies(batch);
        self.take_pushes(batch);
        batch.seal();
        if batch.reply_count + batch.push_count > 0 {
            return Poll::Ready(Next::Send);
        }
        if self.closed.is_some() && self.places.is_empty() {
            return Poll::Ready(Next::Finished);
        }
        self.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn take_replies(&mut self, batch: &mut Batch) {
        while batch.reply_bytes < self.options.send_bytes_max
            && let Some(place) = self.places.pop_front()
        {
            let Place::Filled(reply, watch) = place else {
                self.places.push_front(place);
                return;
            };
            self.first_sequence += 1;
            batch.reply_count += 1;
            batch.reply_bytes += reply.size_bytes();
            batch.add(reply, watch);
        }
    }

    fn take_pushes(&mut self, batch: &mut Batch) {
        while batch.push_bytes < self.options.send_bytes_max
            && let Some((message, watch)) = self.pushes.pop_front()
        {
            batch.push_count += 1;
            batch.push_bytes += message.size_bytes();
            batch.add(message, watch);
        }
    }

    fn on_sent(&mut self, batch: &mut Batch, sent: io::Result<()>) {
        if let Err(error) = sent {
            self.close(Closed::SendFailed(error.kind()));
        } else {
            self.count_sent(batch);
            wake_all(&mut self.reply_waiters);
            wake_all(&mut self.push_waiters);
        }
        batch.clear();
    }

    fn count_sent(&mut self, batch: &Batch) {
        let stats = &mut self.stats;
        stats.send_count += 1;
        stats.reply_count += batch.reply_count as u64;
        stats.push_count += batch.push_count as u64;
        stats.sent_bytes += (batch.reply_bytes + batch.push_bytes) as u64;
        if self.closed.is_some_and(Closed::is_final) {
            return; // cleared while this was being sent
        }
        stats.queued_reply_count -= batch.reply_count;
        stats.queued_reply_bytes -= batch.reply_bytes;
        stats.queued_push_bytes -= batch.push_bytes;
        self.held.give_back(batch.reply_bytes + batch.push_bytes);
    }
}

/// Whether `bytes` more fit a bound; anything fits an empty queue, or it would wait for ever.
fn fits(queued_bytes: usize, bytes: usize, bytes_max: usize) -> bool {
    queued_bytes == 0 || (queued_bytes < bytes_max && queued_bytes + bytes <= bytes_max)
}

fn wait(waiters: &mut Vec<Waker>, cx: &mut Context<'_>) {
    if !waiters.iter().any(|waiter| waiter.will_wake(cx.waker())) {
        waiters.push(cx.waker().clone());
    }
}

fn wake_all(waiters: &mut Vec<Waker>) {
    for waiter in waiters.drain(..) {
        waiter.wake();
    }
}

/// What goes out in one send. Its buffers are reused from send to send.
#[derive(Default)]
struct Batch {
    chunks: Vec<Bytes>,
    /// Small chunks copied together, to be one chunk when a large one or the end comes.
    staging: BytesMut,
    reply_count: usize,
    reply_bytes: usize,
    push_count: usize,
    push_bytes: usize,
    watches: Vec<Watch>,
}

impl Batch {
    fn add(&mut self, message: Reply, watch: Option<Watch>) {
        self.watches.extend(watch);
        match message {
            Reply::One(chunk) => self.add_chunk(chunk),
            Reply::Two(head, payload) => {
                self.add_chunk(head);
                self.add_chunk(payload);
            }
            Reply::Many(chunks) => chunks.into_iter().for_each(|chunk| self.add_chunk(chunk)),
        }
    }

    fn add_chunk(&mut self, chunk: Bytes) {
        if chunk.len() >= COALESCE_BYTES_MAX {
            self.seal();
            self.chunks.push(chunk);
            return;
        }
        if self.staging.capacity() - self.staging.len() < chunk.len() {
            self.seal();
            self.staging.reserve(STAGING_BYTES);
        }
        self.staging.extend_from_slice(&chunk);
    }

    fn seal(&mut self) {
        if !self.staging.is_empty() {
            self.chunks.push(self.staging.split().freeze());
        }
    }

    fn tell(&self, observer: &impl Observer) {
        if !self.watches.is_empty() {
            let now = Instant::now();
            self.watches.iter().for_each(|watch| observer.sent(*watch, now));
        }
    }

    fn clear(&mut self) {
        self.chunks.clear();
        self.watches.clear();
        (self.reply_count, self.reply_bytes, self.push_count, self.push_bytes) = (0, 0, 0, 0);
    }
}
