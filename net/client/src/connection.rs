//! Drives one connection: sends what is queued and hands out what comes, on behalf of its [`Client`]s.
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures_lite::{AsyncRead, AsyncWrite, ready};
use heddle_proto::limits::FRAME_BYTES_MAX;

use crate::client::Client;
use crate::error::ClientError;
use crate::state::Shared;
use crate::wire::Receiver;

/// Slices offered to the stream in one write.
const SLICES_MAX: usize = 32;

/// Reads of one poll after which other tasks get their turn.
const READ_COUNT_MAX: usize = 32;

/// Limits of a connection.
#[derive(Copy, Clone, Debug)]
pub struct ClientOptions {
    /// Bytes queued to be sent, above which requests are refused as [`ClientError::Overloaded`].
    pub queued_bytes_max: usize,
    /// Calls not yet answered (or whose answer was not yet taken), above which requests are refused.
    pub call_count_max: usize,
    /// Largest frame taken from the broker, in bytes.
    pub frame_bytes_max: usize,
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions {
            queued_bytes_max: 64 << 20,
            call_count_max: 1 << 16,
            frame_bytes_max: FRAME_BYTES_MAX,
        }
    }
}

/// Makes a client of a connected stream, and the driver that does its work.
pub fn connection<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> (Client, Driver<S>) {
    connection_with(stream, ClientOptions::default())
}

/// [`connection`] with other limits.
pub fn connection_with<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    options: ClientOptions,
) -> (Client, Driver<S>) {
    let shared = Shared::new(options);
    let client = Client::new(shared.clone());
    let receiver = Receiver::new(options.frame_bytes_max);
    (client, Driver { stream, shared, sending: VecDeque::new(), receiver })
}

/// The work of one connection: spawn it beside its [`Client`].
///
/// It ends with `Ok` when all clients and subscriptions are gone and what they asked for is done, and with
/// the reason when the connection fails, which every pending call gets as well. Dropping it fails them with
/// [`ClientError::ConnectionClosed`].
#[must_use = "a connection does nothing unless its driver is polled"]
pub struct Driver<S> {
    stream: S,
    shared: Arc<Shared>,
    sending: VecDeque<Bytes>,
    receiver: Receiver,
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        self.shared.fail(&ClientError::ConnectionClosed);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Driver<S> {
    type Output = Result<(), ClientError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let outcome = ready!(this.poll_work(cx));
        if let Err(error) = &outcome {
            this.shared.fail(error);
        }
        Poll::Ready(outcome)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        // Whoever queues a request from here on wakes us.
        self.shared.take_outgoing(cx, &mut self.sending);
        let sent = self.poll_send(cx)?;
        if let Poll::Ready(ended) = self.poll_receive(cx) {
            return Poll::Ready(ended);
        }
        if sent.is_ready() && self.shared.is_finished() {
            return Pin::new(&mut self.stream).poll_close(cx).map_err(ClientError::failed);
        }
        Poll::Pending
    }

    /// Sends until everything is sent and flushed, or the stream takes no more.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        while !self.sending.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let offered = self.sending.iter().zip(&mut slices);
            let count = offered.map(|(chunk, slice)| *slice = IoSlice::new(chunk)).count();
            let written = Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count]);
            match ready!(written).map_err(ClientError::failed)? {
                0 => return Poll::Ready(Err(ClientError::failed(io::ErrorKind::WriteZero.into()))),
                written => self.on_sent(written),
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx).map_err(ClientError::failed)
    }

    fn on_sent(&mut self, written: usize) {
        let mut rest = written;
        while let Some(chunk) = self.sending.front_mut()
            && rest >= chunk.len()
        {
            rest -= chunk.len();
            self.sending.pop_front();
        }
        if let Some(chunk) = self.sending.front_mut() {
            chunk.advance(rest);
        }
        self.shared.on_sent(written);
    }

    /// Receives until nothing is there; ready only when the connection has ended.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        for _ in 0..READ_COUNT_MAX {
            let received = Pin::new(&mut self.stream).poll_read(cx, self.receiver.room());
            match ready!(received).map_err(ClientError::failed)? {
                0 if self.receiver.is_between_frames() => {
                    return Poll::Ready(Err(ClientError::ConnectionClosed));
                }
                0 => return Poll::Ready(Err(ClientError::Protocol("an end inside a frame".to_owned()))),
                count => self.receiver.on_received(count),
            }
            while let Some(incoming) = self.receiver.next()? {
                self.shared.on_reply(incoming)?;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
