//! The group coordinator as a machine that a [host](crate::coordinator::host) runs.

use std::{convert::Infallible, sync::Arc};

use heddle_proto::{
    error::ErrorCode,
    ids::{ProducerEpoch, ProducerId},
};

use super::{Effects, Event, GroupCoordinator, GroupRecord, Millis, Reply, Request, RequestId, TopicImage};
use crate::coordinator::host::{self, Held, Input, KeyValue, StateMachine};

/// What is asked of a group coordinator.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // moved once, into the coordinator; almost all are requests of clients
pub enum Call {
    /// A client asks.
    Client(Request),
    /// The transaction coordinator says how a transaction ended; answered with [`Reply::TransactionEnded`].
    EndTransaction {
        /// Whose.
        producer: ProducerId,
        /// The epoch in the marker.
        epoch: ProducerEpoch,
        /// Committed, or aborted.
        committed: bool,
    },
}

impl StateMachine for GroupCoordinator {
    type Request = Call;
    /// The cluster's topics changed.
    type Notice = Arc<TopicImage>;
    type Reply = Reply;
    type Action = Infallible;

    fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), String> {
        let record = GroupRecord::decode(key, value).map_err(|error| error.to_string())?;
        GroupCoordinator::replay(self, record);
        Ok(())
    }

    fn loaded(&mut self, now: Millis) -> host::Effects<Reply, Infallible> {
        GroupCoordinator::loaded(self, now).into()
    }

    fn apply(
        &mut self,
        input: Input<Call, Arc<TopicImage>>,
        now: Millis,
    ) -> host::Effects<Reply, Infallible> {
        let event = match input {
            Input::Request(id, Call::Client(request)) => Event::Request(id, request),
            Input::Request(request, Call::EndTransaction { producer, epoch, committed }) => {
                Event::TransactionEnded { request, producer, epoch, committed }
            }
            Input::Notice(topics) => Event::TopicsChanged(topics),
            Input::Tick => Event::Tick,
        };
        GroupCoordinator::apply(self, event, now).into()
    }

    fn next_deadline(&self) -> Option<Millis> {
        GroupCoordinator::next_deadline(self)
    }

    fn unload(self, error: ErrorCode) -> Vec<(RequestId, Reply)> {
        GroupCoordinator::unload(self, error)
    }
}

impl From<Effects> for host::Effects<Reply, Infallible> {
    fn from(effects: Effects) -> Self {
        let write = effects.write.map(|write| {
            let records = write.records.iter();
            let records = records.map(|r| KeyValue { key: r.encode_key(), value: r.encode_value() });
            host::Write { sequence: write.sequence, records: records.collect() }
        });
        let replies = effects.replies.into_iter();
        let replies = replies.map(|held| Held { after: held.after, what: (held.to, held.reply) });
        Self { write, replies: replies.collect(), actions: Vec::new() }
    }
}
