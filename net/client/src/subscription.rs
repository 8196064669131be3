//! Batches pushed by the broker, within a credit of bytes.
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_lite::Stream;
use heddle_proto::native::{Request, StartFrom};
use heddle_proto::{Offset, PartitionIndex, TopicId};

use crate::call;
use crate::client::Client;
use crate::error::ClientError;

/// Batches that came by one push.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// Whole batches; the first one of a subscription may begin before the offset asked for.
    pub batches: Bytes,
    /// Offset after the last committed record, when this was sent.
    pub committed: Offset,
}

/// The committed batches of one partition, as they come.
///
/// Taking a delivery gives its bytes back to the broker as credit, so a consumer that stops taking stops the
/// broker, and the memory used here stays below the credit and one batch. Dropping the subscription ends it.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
    subscription: u32,
    from: Offset,
}

impl Subscription {
    pub(crate) async fn open(
        client: Client,
        topic: TopicId,
        partition: PartitionIndex,
        from: StartFrom,
        credit_bytes: u64,
    ) -> Result<Subscription, ClientError> {
        let number = client.shared().open_inbox(credit_bytes);
        // From here on, dropping tells the broker; a push may come before the answer.
        let mut subscription = Subscription { client, subscription: number, from: Offset::ZERO };
        let request = Request::Subscribe { subscription: number, topic, partition, from, credit_bytes };
        let answer = subscription.client.call(&request, Bytes::new(), call::subscribed).await;
        match answer {
            Ok(subscribed) => {
                subscription.from = subscribed.from;
                Ok(subscription)
            }
            Err(error) => {
                subscription.client.shared().forget_inbox(number);
                Err(error)
            }
        }
    }

    /// The offset the subscription begins at.
    pub fn from(&self) -> Offset {
        self.from
    }

    /// The next delivery; `None` after the broker has ended the subscription, an error if it did so for a
    /// reason or the connection failed. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Delivery, ClientError>> {
        poll_fn(|cx| self.client.shared().poll_delivery(self.subscription, cx)).await
    }
}

impl Stream for Subscription {
    type Item = Result<Delivery, ClientError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.client.shared().poll_delivery(self.subscription, cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.client.shared().close_inbox(self.subscription);
    }
}

/// The connection's side of a subscription: what has come and was not taken.
#[derive(Debug)]
pub(crate) struct Inbox {
    deliveries: VecDeque<Delivery>,
    credit_bytes: u64,
    /// What the broker may still send; it may overdraw this by one push.
    granted_bytes: i128,
    /// Taken since credit was last given back.
    taken_bytes: u64,
    end: End,
    waiter: Option<Waker>,
}

#[derive(Debug)]
enum End {
    Open,
    /// Ended; the reason is told once, after the last delivery.
    Ended(Option<ClientError>),
}

impl Inbox {
    pub(crate) fn new(credit_bytes: u64) -> Inbox {
        Inbox {
            deliveries: VecDeque::new(),
            credit_bytes,
            granted_bytes: i128::from(credit_bytes),
            taken_bytes: 0,
            end: End::Open,
            waiter: None,
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        matches!(self.end, End::Ended(_))
    }

    /// Takes a push, returning whom to wake; an error if the broker had no credit left.
    pub(crate) fn push(&mut self, delivery: Delivery) -> Result<Option<Waker>, ClientError> {
        if self.granted_bytes <= 0 {
            return Err(ClientError::Protocol("a push without credit".to_owned()));
        }
        self.granted_bytes -= delivery.batches.len() as i128;
        self.deliveries.push_back(delivery);
        Ok(self.waiter.take())
    }

    /// Ends the subscription, returning whom to wake.
    pub(crate) fn end(&mut self, error: Option<ClientError>) -> Option<Waker> {
        if !self.is_ended() {
            self.end = End::Ended(error);
        }
        self.waiter.take()
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, ClientError>>> {
        if let Some(delivery) = self.deliveries.pop_front() {
            self.taken_bytes += delivery.batches.len() as u64;
            return Poll::Ready(Some(Ok(delivery)));
        }
        match &mut self.end {
            End::Ended(error) => Poll::Ready(error.take().map(Err)),
            End::Open => {
                self.waiter = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Credit to give back, once it is half of the whole: few messages, and the broker never runs dry.
    pub(crate) fn take_credit(&mut self) -> Option<u64> {
        if self.is_ended() || self.taken_bytes == 0 || self.taken_bytes < self.credit_bytes / 2 {
            return None;
        }
        self.granted_bytes += i128::from(self.taken_bytes);
        Some(std::mem::take(&mut self.taken_bytes))
    }
}
