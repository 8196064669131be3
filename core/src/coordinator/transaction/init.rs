//! InitProducerId: a producer begins a life, or asks for a higher epoch in the middle of one.

use heddle_proto::{error::ErrorCode, ids::ProducerEpoch};

use super::{
    coordinator::{Output, TransactionCoordinator},
    message::{InitProducerId, ProducerIdentity, Refusal, Reply, TransactionalId},
    state::State,
};
use crate::coordinator::group::RequestId;

impl TransactionCoordinator {
    pub(super) fn on_init_producer_id(
        &mut self,
        output: &mut Output,
        to: RequestId,
        request: &InitProducerId,
    ) {
        let answer = self.init_producer_id(output, request);
        output.reply(to, Reply::InitProducerId(answer), &request.id);
    }

    fn init_producer_id(
        &mut self,
        output: &mut Output,
        request: &InitProducerId,
    ) -> Result<ProducerIdentity, Refusal> {
        if request.id.as_str().is_empty() {
            return Err(ErrorCode::InvalidRequest.into());
        }
        if request.timeout.is_zero() || request.timeout > self.config.timeout_max {
            return Err(ErrorCode::InvalidTransactionTimeout.into());
        }
        let Some(entry) = self.entries.get(&request.id) else { return self.first_life(output, request) };
        let known = &entry.transaction;
        if let Some(current) = request.current {
            let is_retry = known.previous == Some(current);
            if is_retry && !matches!(known.state, State::Ongoing | State::PrepareCommit | State::PrepareAbort)
            {
                return Ok(known.producer);
            }
            if known.producer != current && !is_retry {
                return Err(ErrorCode::ProducerFenced.into());
            }
        }
        match known.state {
            State::PrepareCommit | State::PrepareAbort => Err(ErrorCode::ConcurrentTransactions.into()),
            State::Ongoing => {
                self.abort(output, &request.id);
                Err(ErrorCode::ConcurrentTransactions.into())
            }
            _ => self.next_life(output, request),
        }
    }

    /// An id that is not known, or no longer. As in Kafka, who the client says it was does not matter then: there is nobody
    /// left to fence, and some clients always say producer 0.
    fn first_life(
        &mut self,
        output: &mut Output,
        request: &InitProducerId,
    ) -> Result<ProducerIdentity, Refusal> {
        if self.entries.len() >= self.config.ids_max {
            return Err(ErrorCode::PolicyViolation.into());
        }
        let producer = request.fresh.ok_or(Refusal::NeedsProducerId)?;
        self.insert(&request.id, producer, request.timeout);
        output.changed(&request.id);
        Ok(ProducerIdentity { id: producer, epoch: ProducerEpoch::new(0) })
    }

    fn next_life(
        &mut self,
        output: &mut Output,
        request: &InitProducerId,
    ) -> Result<ProducerIdentity, Refusal> {
        let entry = self.entries.get_mut(&request.id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        let known = &mut entry.transaction;
        known.producer = if known.is_exhausted() {
            let id = request.fresh.ok_or(Refusal::NeedsProducerId)?;
            ProducerIdentity { id, epoch: ProducerEpoch::new(0) }
        } else {
            ProducerIdentity { epoch: known.next_epoch(), ..known.producer }
        };
        known.previous = request.current;
        known.timeout = request.timeout;
        known.state = State::Empty;
        output.changed(&request.id);
        Ok(known.producer)
    }

    /// Aborts an open transaction that its client did not end: with a higher epoch, so that the client cannot go on.
    pub(super) fn abort(&mut self, output: &mut Output, id: &TransactionalId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let epoch = entry.transaction.next_epoch();
        entry.transaction.previous = None;
        entry.transaction.decide(heddle_proto::batch::Outcome::Abort, epoch);
        output.changed(id);
        if let Some(markers) = entry.markers(id) {
            output.write_markers(markers);
        }
    }
}
