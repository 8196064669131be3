//! ListGroups: the groups whose coordinator is this broker, which with per-core ports is this core.

use std::rc::Rc;

use heddle_log_store::Disk;
use heddle_net::kafka::{
    ControlReply, StrBytes,
    messages::{
        GroupId as WireGroupId, ListGroupsRequest, ListGroupsResponse, list_groups_response::ListedGroup,
    },
};

use super::words;
use crate::{
    config::PortMode,
    coordinator::group::message::{self, ListGroups},
    runtime::mesh::LocalFuture,
    shard::Shard,
};

/// Asks the coordinators.
pub fn begin<D: Disk>(shard: &Rc<Shard<D>>, request: ListGroupsRequest) -> LocalFuture<ControlReply> {
    let shard = shard.clone();
    let texts = |names: Vec<StrBytes>| names.iter().map(|name| name.to_string()).collect();
    let asked = ListGroups { states: texts(request.states_filter), types: texts(request.types_filter) };
    Box::pin(async move {
        let listed = match shard.config.port_mode {
            PortMode::PerCore => shard.list_groups_here(asked).await,
            PortMode::Single => shard.list_groups_of_node(asked).await,
        };
        match listed {
            Ok(groups) => {
                ListGroupsResponse::default().with_groups(groups.into_iter().map(describe).collect())
            }
            Err(error) => ListGroupsResponse::default().with_error_code(error.code()),
        }
        .into()
    })
}

fn describe(group: message::ListedGroup) -> ListedGroup {
    ListedGroup::default()
        .with_group_id(WireGroupId(words(group.group.as_str())))
        .with_protocol_type(words(group.protocol_type.as_str()))
        .with_group_state(words(group.state.name()))
        .with_group_type(words(group.group_type.name()))
}
