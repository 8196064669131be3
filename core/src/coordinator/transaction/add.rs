//! AddPartitionsToTxn and AddOffsetsToTxn: partitions become part of a transaction; and the question whether they are.

use heddle_proto::error::ErrorCode;

use super::{
    coordinator::{Output, TransactionCoordinator},
    message::{AddPartitions, Reply, VerifyPartitions},
    state::State,
};
use crate::coordinator::group::RequestId;

impl TransactionCoordinator {
    pub(super) fn on_add_partitions(&mut self, output: &mut Output, to: RequestId, request: AddPartitions) {
        let id = request.id.clone();
        let answer = self.add_partitions(output, request);
        output.reply(to, Reply::AddPartitions(answer), &id);
    }

    fn add_partitions(&mut self, output: &mut Output, request: AddPartitions) -> Result<(), ErrorCode> {
        let (now, partitions_max) = (self.now, self.config.partitions_max);
        let known = &mut self.entry_of(&request.id, request.producer)?.transaction;
        if known.state.decided().is_some() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let is_open = known.state == State::Ongoing;
        if is_open && request.partitions.iter().all(|at| known.partitions.contains(at)) {
            return Ok(());
        }
        if known.partitions.len() + request.partitions.len() > partitions_max {
            return Err(ErrorCode::InvalidRequest);
        }
        if !is_open {
            known.state = State::Ongoing;
            known.started = Some(now);
            known.previous = None;
        }
        known.partitions.extend(request.partitions);
        output.changed(&request.id);
        Ok(())
    }

    pub(super) fn on_verify_partitions(
        &mut self,
        output: &mut Output,
        to: RequestId,
        request: &VerifyPartitions,
    ) {
        let answer = self.entry_of(&request.id, request.producer).and_then(|entry| {
            let known = &entry.transaction;
            match known.state {
                State::PrepareCommit | State::PrepareAbort => Err(ErrorCode::ConcurrentTransactions),
                State::Ongoing => {
                    Ok(request.partitions.iter().map(|at| known.partitions.contains(at)).collect())
                }
                _ => Ok(vec![false; request.partitions.len()]),
            }
        });
        output.reply(to, Reply::VerifyPartitions(answer), &request.id);
    }
}
