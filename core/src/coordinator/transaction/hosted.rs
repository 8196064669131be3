//! The transaction coordinator as a machine that a [host](crate::coordinator::host) runs.

use std::convert::Infallible;

use heddle_proto::error::ErrorCode;

use super::{Effects, EndMarkers, Reply, Request, TransactionCoordinator, TransactionRecord};
use crate::coordinator::{
    host::{self, Held, Input, KeyValue, StateMachine},
    ids::{Millis, RequestId},
};

impl StateMachine for TransactionCoordinator {
    type Request = Request;
    type Notice = Infallible;
    type Reply = Reply;
    /// The markers of a decided transaction, to be reported with [`Request::MarkersWritten`].
    type Action = EndMarkers;

    fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), String> {
        let record = TransactionRecord::decode(key, value).map_err(|error| error.to_string())?;
        TransactionCoordinator::replay(self, record);
        Ok(())
    }

    fn loaded(&mut self, now: Millis) -> host::Effects<Reply, EndMarkers> {
        TransactionCoordinator::loaded(self, now).into()
    }

    fn apply(&mut self, input: Input<Request, Infallible>, now: Millis) -> host::Effects<Reply, EndMarkers> {
        match input {
            Input::Request(id, request) => self.request(id, request, now).into(),
            Input::Tick => self.tick(now).into(),
            Input::Notice(never) => match never {},
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        TransactionCoordinator::next_deadline(self)
    }

    fn unload(self, error: ErrorCode) -> Vec<(RequestId, Reply)> {
        TransactionCoordinator::unload(self, error)
    }
}

impl From<Effects> for host::Effects<Reply, EndMarkers> {
    fn from(effects: Effects) -> Self {
        let write = effects.write.map(|write| {
            let records = write.records.iter();
            let records = records.map(|r| KeyValue { key: r.encode_key(), value: r.encode_value() });
            host::Write { sequence: write.sequence, records: records.collect() }
        });
        let replies = effects.replies.into_iter().map(|held| Held { after: held.after, what: held.what });
        let actions = effects.markers.into_iter().map(|held| Held { after: held.after, what: held.what });
        Self { write, replies: replies.collect(), actions: actions.collect() }
    }
}
