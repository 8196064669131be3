//! DeleteGroups: groups without members go away with their offsets.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::{
    ControlReply,
    messages::{DeleteGroupsRequest, DeleteGroupsResponse, delete_groups_response::DeletableGroupResult},
};
use heddle_proto::error::ErrorCode;

use super::groups::{each, expect_reply, text};
use crate::{
    coordinator::group::{GroupId, Reply, Request, message::DeleteGroups},
    runtime::mesh::LocalFuture,
    shard::Shard,
};

/// Asks the coordinators of all groups of the request.
pub async fn begin<D: Disk>(shard: &Rc<Shard<D>>, request: DeleteGroupsRequest) -> LocalFuture<ControlReply> {
    let mut tickets = Vec::with_capacity(request.groups_names.len());
    for group in request.groups_names {
        let ask = Request::DeleteGroups(DeleteGroups { groups: vec![GroupId::new(text(&group))] });
        let ticket = shard.ask_group(&group, ask).await;
        tickets.push((group, ticket));
    }
    Box::pin(async move {
        let results = each(tickets, |group, reply| {
            DeletableGroupResult::default().with_group_id(group).with_error_code(outcome(reply).code())
        });
        DeleteGroupsResponse::default().with_results(results.await).into()
    })
}

fn outcome(reply: Result<Reply, ErrorCode>) -> ErrorCode {
    match reply {
        Ok(reply) => {
            let deleted = expect_reply!(reply, DeleteGroups).groups;
            deleted.first().map_or(ErrorCode::UnknownServerError, |result| result.error)
        }
        Err(error) => error,
    }
}
