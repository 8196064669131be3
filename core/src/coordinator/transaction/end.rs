//! EndTxn, and what follows from it: the decision, the markers, the completion.

use heddle_proto::{batch::Outcome, error::ErrorCode};

use super::{
    coordinator::{Output, TransactionCoordinator},
    message::{EndMarkers, EndTxn, ProducerIdentity, Refusal, Reply},
    state::{State, Transaction},
};
use crate::coordinator::group::RequestId;

/// What becomes of an order to end a transaction.
enum Course {
    /// Nothing is left to do.
    Done(ProducerIdentity),
    /// Decide, and answer when the markers are written.
    Decide,
    /// There is nothing to abort, but the epoch rises all the same (KIP-890).
    OnlyRaise,
}

impl TransactionCoordinator {
    pub(super) fn on_end_txn(&mut self, output: &mut Output, to: RequestId, request: &EndTxn) {
        let answer = match self.course(request) {
            Ok(Course::Done(producer)) => Ok(producer),
            Ok(Course::Decide) => match self.decide(output, to, request) {
                Ok(()) => return,
                Err(refusal) => Err(refusal),
            },
            Ok(Course::OnlyRaise) => self.only_raise(output, request),
            Err(error) => Err(error.into()),
        };
        output.reply(to, Reply::EndTxn(answer), &request.id);
    }

    fn course(&mut self, request: &EndTxn) -> Result<Course, ErrorCode> {
        if let Some(entry) = self.entries.get(&request.id)
            && request.raises_epoch
            && entry.transaction.previous == Some(request.producer)
        {
            return repeated(&entry.transaction, request.outcome);
        }
        let known = &self.entry_of(&request.id, request.producer)?.transaction;
        match (known.state, request.outcome) {
            (State::Ongoing, _) => Ok(Course::Decide),
            (State::PrepareCommit | State::PrepareAbort, outcome) => same_decision(known, outcome),
            (_, Outcome::Abort) if request.raises_epoch => Ok(Course::OnlyRaise),
            (state, outcome) if state.done() == Some(outcome) && !request.raises_epoch => {
                Ok(Course::Done(known.producer))
            }
            _ => Err(ErrorCode::InvalidTxnState),
        }
    }

    fn decide(&mut self, output: &mut Output, to: RequestId, request: &EndTxn) -> Result<(), Refusal> {
        let entry = self.entries.get_mut(&request.id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        let known = &mut entry.transaction;
        let mut epoch = known.producer.epoch;
        if request.raises_epoch {
            if known.is_exhausted() {
                known.successor = Some(request.fresh.ok_or(Refusal::NeedsProducerId)?);
            }
            known.previous = Some(known.producer);
            epoch = known.next_epoch();
        }
        known.decide(request.outcome, epoch);
        entry.waiting = Some(to);
        output.changed(&request.id);
        if let Some(markers) = entry.markers(&request.id) {
            output.write_markers(markers);
        }
        Ok(())
    }

    fn only_raise(&mut self, output: &mut Output, request: &EndTxn) -> Result<ProducerIdentity, Refusal> {
        let entry = self.entries.get_mut(&request.id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        let known = &mut entry.transaction;
        if known.is_exhausted() {
            known.successor = Some(request.fresh.ok_or(Refusal::NeedsProducerId)?);
        }
        known.previous = Some(known.producer);
        known.producer.epoch = known.next_epoch();
        known.complete(Outcome::Abort);
        output.changed(&request.id);
        Ok(known.producer)
    }

    /// The markers are written; reports of markers that nobody waits for any more change nothing.
    pub(super) fn on_markers_written(&mut self, output: &mut Output, to: RequestId, markers: &EndMarkers) {
        let entry = self.entries.get_mut(&markers.id);
        if let Some(entry) = entry
            && entry.transaction.producer == markers.producer
            && entry.transaction.state.decided() == Some(markers.outcome)
        {
            entry.transaction.complete(markers.outcome);
            output.changed(&markers.id);
            if let Some(waiting) = entry.waiting.take() {
                let answer = Reply::EndTxn(Ok(entry.transaction.producer));
                output.reply(waiting, answer, &markers.id);
            }
        }
        output.reply(to, Reply::MarkersWritten, &markers.id);
    }
}

/// The client asks again for what raised its epoch before.
fn repeated(known: &Transaction, outcome: Outcome) -> Result<Course, ErrorCode> {
    match known.state {
        State::PrepareCommit | State::PrepareAbort => same_decision(known, outcome),
        state if state.done() == Some(outcome) => Ok(Course::Done(known.producer)),
        _ => Err(ErrorCode::InvalidTxnState),
    }
}

/// While markers are being written the same order must wait, and the opposite one comes too late.
fn same_decision(known: &Transaction, outcome: Outcome) -> Result<Course, ErrorCode> {
    match known.state.decided() == Some(outcome) {
        true => Err(ErrorCode::ConcurrentTransactions),
        false => Err(ErrorCode::InvalidTxnState),
    }
}
