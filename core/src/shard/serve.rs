//! Answers the requests of other cores.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_proto::ids::NodeId;

use super::{
    Shard,
    produce::settle,
    request::{CoreReply, CoreRequest},
};
use crate::{metadata::MetadataError, runtime::mesh::Answer};

impl<D: Disk> Shard<D> {
    /// What this core does with a request of another one. Appends happen before this returns, so that their order is that
    /// of the queue.
    pub fn answer(self: &Rc<Self>, request: CoreRequest) -> Answer<CoreReply> {
        let shard = self.clone();
        match request {
            CoreRequest::Produce { at, records, epoch, acks, permit } => {
                match self.append(at, records, epoch, acks, permit) {
                    Ok(accepted) => {
                        Answer::Later(Box::pin(async { CoreReply::Produced(settle(accepted).await) }))
                    }
                    Err(error) => Answer::Now(CoreReply::Produced(Err(error))),
                }
            }
            CoreRequest::Fetch { partitions, bytes_max, at_least_one } => {
                Answer::Later(Box::pin(async move {
                    CoreReply::Fetched(shard.fetch_here(&partitions, bytes_max, at_least_one).await)
                }))
            }
            CoreRequest::Wait { partitions, timeout } => Answer::Later(Box::pin(async move {
                shard.wait_here(partitions, timeout).await;
                CoreReply::Done
            })),
            CoreRequest::FindOffset { at, from, isolation } => Answer::Later(Box::pin(async move {
                CoreReply::Offset(shard.find_offset_here(at, from, isolation).await)
            })),
            CoreRequest::FindMaxTimestamp { at } => {
                Answer::Later(Box::pin(async move { CoreReply::Offset(shard.find_max_timestamp(at).await) }))
            }
            CoreRequest::Epochs { at, ask } => Answer::Now(CoreReply::Epochs(self.epochs_here(at, ask))),
            CoreRequest::DeleteRecords { at, before } => Answer::Later(Box::pin(async move {
                CoreReply::Start(shard.delete_records_here(at, before).await)
            })),
            CoreRequest::Describe { partitions } => Answer::Now(CoreReply::Facts(
                partitions.into_iter().map(|at| self.describe_here(at)).collect(),
            )),
            CoreRequest::Standing { at, producer, epoch } => {
                Answer::Now(CoreReply::Standing(self.standing_here(at, producer, epoch)))
            }
            CoreRequest::EndTransaction { at, end } => {
                Answer::Later(Box::pin(
                    async move { CoreReply::Ended(shard.end_transaction_here(at, end).await) },
                ))
            }
            CoreRequest::Producers { at } => Answer::Now(CoreReply::Producers(self.producers_here(at))),
            CoreRequest::Apply(image) => {
                self.apply(image);
                Answer::Now(CoreReply::Done)
            }
            CoreRequest::AskNode(node, ask) => Answer::Later(Box::pin(async move {
                CoreReply::Asked(match &shard.metadata {
                    Some(session) => session.ask(NodeId::new(node), ask).await,
                    None => None,
                })
            })),
            CoreRequest::Touch(is_in_touch) => {
                self.touch(is_in_touch);
                Answer::Now(CoreReply::Done)
            }
            CoreRequest::Note(notes) => {
                if let Some(session) = &self.metadata {
                    session.note(notes);
                }
                Answer::Now(CoreReply::Done)
            }
            CoreRequest::Purge(topic) => Answer::Later(Box::pin(async move {
                shard.purge(topic).await;
                CoreReply::Done
            })),
            CoreRequest::Propose(command) => Answer::Later(Box::pin(async move {
                CoreReply::Proposed(match &shard.metadata {
                    Some(session) => session.metadata().submit(command).await,
                    None => Err(MetadataError::Closing),
                })
            })),
            CoreRequest::AskLeader(request) => {
                Answer::Later(Box::pin(async move { CoreReply::LeaderSays(shard.ask_leader(request).await) }))
            }
            CoreRequest::Adopt(handoff) => {
                crate::boot::listen::adopt(self, handoff);
                Answer::Now(CoreReply::Done)
            }
            CoreRequest::Group { from, id, at, call } => {
                self.on_group(from, id, at, *call);
                Answer::Now(CoreReply::Done)
            }
            CoreRequest::GroupReply { id, result } => {
                self.on_group_reply(id, *result);
                Answer::Now(CoreReply::Done)
            }
            CoreRequest::ListGroups(asked) => Answer::Later(Box::pin(async move {
                CoreReply::GroupsListed(shard.list_groups_here(asked).await)
            })),
            CoreRequest::Transaction { from, id, at, request } => {
                self.on_transaction(from, id, at, *request);
                Answer::Now(CoreReply::Done)
            }
            CoreRequest::TransactionReply { id, result } => {
                self.on_transaction_reply(id, *result);
                Answer::Now(CoreReply::Done)
            }
            CoreRequest::ListTransactions(asked) => Answer::Later(Box::pin(async move {
                CoreReply::TransactionsListed(shard.list_transactions_here(asked).await)
            })),
            CoreRequest::Charge(charge) => {
                Answer::Now(CoreReply::Throttle(self.quotas.count(charge, std::time::Instant::now())))
            }
            CoreRequest::Report => Answer::Now(CoreReply::Report(Box::new(self.report()))),
        }
    }
}
