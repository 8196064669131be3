//! From a request to the group it is about: which group, made or not, and what to answer when there is none.

use heddle_proto::error::ErrorCode;

use super::{
    consumer::{self, Refusal},
    coordinator::GroupCoordinator,
    effects::Output,
    group::{Committer, Members},
    ids::{GroupEpoch, GroupId, MemberId, RequestId},
    message::{
        ConsumerGroupHeartbeat, ConsumerGroupHeartbeatAnswer, FetchTopics, FetchedPartition, Heartbeat,
        HeartbeatAnswer, JoinAnswer, JoinGroup, LeaveAnswer, LeaveGroup, LeftMember, OffsetCommit,
        OffsetDelete, OffsetDeleted, OffsetFetch, OffsetFetched, OffsetsCommitted, PartitionResult, Reply,
        SyncAnswer, SyncGroup,
    },
};

impl GroupCoordinator {
    pub(super) fn on_join_group(&mut self, output: &mut Output, to: RequestId, request: &JoinGroup) {
        let refuse = |output: &mut Output, error| {
            output.reply(to, Reply::JoinGroup(JoinAnswer::refuse(error, request.member.clone())));
        };
        if request.group.is_empty() {
            return refuse(output, ErrorCode::InvalidGroupId);
        }
        let allowed = self.config.session_timeout_min..=self.config.session_timeout_max;
        if !allowed.contains(&request.session_timeout) {
            return refuse(output, ErrorCode::InvalidSessionTimeout);
        }
        let is_new_group = !self.groups.contains_key(&request.group);
        if is_new_group {
            if !request.member.is_empty() {
                return refuse(output, ErrorCode::UnknownMemberId);
            }
            if let Err(error) = self.ensure_group(&request.group) {
                return refuse(output, error);
            }
        }
        self.with_group(&request.group, output, |group, cx| match group.classic(cx) {
            Ok(group) => group.on_join(cx, to, request),
            Err(error) => {
                cx.reply(to, Reply::JoinGroup(JoinAnswer::refuse(error, request.member.clone())));
            }
        });
        if is_new_group && self.groups.get(&request.group).is_some_and(|group| group.is_forgettable()) {
            // The request was refused and has left nothing.
            self.groups.remove(&request.group);
        }
    }

    pub(super) fn on_sync_group(&mut self, output: &mut Output, to: RequestId, request: SyncGroup) {
        let id = request.group.clone();
        let error = unknown_member(&id);
        let answered = self.with_group(&id, output, |group, cx| match &mut group.members {
            Members::Classic(group) => {
                group.on_sync(cx, to, request);
                true
            }
            Members::Consumer(_) => false,
        });
        if answered != Some(true) {
            output.reply(to, Reply::SyncGroup(SyncAnswer::refuse(error)));
        }
    }

    pub(super) fn on_heartbeat(&mut self, output: &mut Output, to: RequestId, request: &Heartbeat) {
        self.with_group(&request.group, output, |group, cx| match &mut group.members {
            Members::Classic(group) => {
                let error = group.on_heartbeat(cx, request);
                cx.reply(to, Reply::Heartbeat(HeartbeatAnswer { error }));
            }
            Members::Consumer(_) => {
                cx.reply(to, Reply::Heartbeat(HeartbeatAnswer { error: ErrorCode::UnknownMemberId }));
            }
        })
        .unwrap_or_else(|| {
            output.reply(to, Reply::Heartbeat(HeartbeatAnswer { error: unknown_member(&request.group) }));
        });
    }

    pub(super) fn on_leave_group(&mut self, output: &mut Output, to: RequestId, request: LeaveGroup) {
        let id = request.group.clone();
        if id.is_empty() {
            let answer = LeaveAnswer { error: ErrorCode::InvalidGroupId, members: Vec::new() };
            return output.reply(to, Reply::LeaveGroup(answer));
        }
        let is_classic =
            self.groups.get(&id).is_some_and(|group| matches!(group.members, Members::Classic(_)));
        if !is_classic {
            let error = ErrorCode::UnknownMemberId;
            let members = request.members.into_iter();
            let members = members.map(|leaving| LeftMember {
                member: leaving.member,
                instance: leaving.instance,
                error,
            });
            let answer = LeaveAnswer { error: ErrorCode::None, members: members.collect() };
            return output.reply(to, Reply::LeaveGroup(answer));
        }
        self.with_group(&id, output, |group, cx| {
            if let Members::Classic(group) = &mut group.members {
                let members = group.on_leave(cx, request);
                cx.reply(to, Reply::LeaveGroup(LeaveAnswer { error: ErrorCode::None, members }));
            }
        });
    }

    pub(super) fn on_consumer_group_heartbeat(
        &mut self,
        output: &mut Output,
        to: RequestId,
        request: &ConsumerGroupHeartbeat,
    ) {
        let result = self.consumer_group_heartbeat(output, request);
        let answer = result.unwrap_or_else(|refusal| ConsumerGroupHeartbeatAnswer {
            error: refusal.error,
            message: Some(refusal.message),
            member: MemberId::default(),
            epoch: GroupEpoch::JOINING,
            heartbeat_interval: std::time::Duration::ZERO,
            assignment: None,
        });
        output.reply_from_group(to, Reply::ConsumerGroupHeartbeat(answer), &request.group);
    }

    fn consumer_group_heartbeat(
        &mut self,
        output: &mut Output,
        request: &ConsumerGroupHeartbeat,
    ) -> Result<ConsumerGroupHeartbeatAnswer, Refusal> {
        const NOT_FOUND: Refusal =
            Refusal::new(ErrorCode::GroupIdNotFound, "There is no such consumer group.");
        let regex = consumer::validate(&self.config, request)?;
        let is_joining = request.epoch == GroupEpoch::JOINING;
        let is_new_group = !self.groups.contains_key(&request.group);
        if is_new_group {
            if !is_joining {
                return Err(NOT_FOUND);
            }
            self.ensure_group(&request.group)
                .map_err(|error| Refusal::new(error, "The coordinator has as many groups as it may."))?;
        }
        let result =
            self.with_group(&request.group, output, |group, cx| match group.consumer(cx, is_joining) {
                Ok(group) => group.on_heartbeat(cx, request, regex.as_ref()),
                Err(error) => Err(Refusal { error, ..NOT_FOUND }),
            });
        if is_new_group && self.groups.get(&request.group).is_some_and(|group| group.is_forgettable()) {
            self.groups.remove(&request.group);
        }
        result.unwrap_or(Err(NOT_FOUND))
    }

    pub(super) fn on_offset_commit(&mut self, output: &mut Output, to: RequestId, request: OffsetCommit) {
        let id = request.group.clone();
        let missing = if request.generation_or_epoch < 0 {
            self.ensure_group(&id).err()
        } else if self.groups.contains_key(&id) {
            None
        } else if request.knows_consumer_groups {
            Some(ErrorCode::GroupIdNotFound)
        } else {
            Some(ErrorCode::IllegalGeneration)
        };
        if let Some(error) = missing {
            let partitions = request.partitions.into_iter();
            let partitions = partitions.map(|commit| PartitionResult { partition: commit.partition, error });
            let answer = OffsetsCommitted { partitions: partitions.collect() };
            return output.reply(to, Reply::OffsetCommit(answer));
        }
        self.with_group(&id, output, |group, cx| {
            let who = Committer {
                member: &request.member,
                instance: request.instance.as_ref(),
                generation_or_epoch: request.generation_or_epoch,
                is_transactional: false,
                knows_consumer_groups: request.knows_consumer_groups,
            };
            let partitions = match group.check_commit(cx, &who) {
                Ok(()) => group.offsets.commit(cx, request.partitions, request.expires),
                Err(error) => {
                    let partitions = request.partitions.into_iter();
                    partitions.map(|commit| PartitionResult { partition: commit.partition, error }).collect()
                }
            };
            cx.reply(to, Reply::OffsetCommit(OffsetsCommitted { partitions }));
        });
        self.drop_if_nothing_was_written(&id);
    }

    /// A group that was made for a commit of which nothing was kept goes again.
    pub(super) fn drop_if_nothing_was_written(&mut self, id: &GroupId) {
        let is_nothing = self.groups.get(id).is_some_and(|group| {
            matches!(&group.members, Members::Classic(classic) if !classic.is_recorded())
                && group.is_forgettable()
        });
        if is_nothing {
            self.groups.remove(id);
        }
    }

    pub(super) fn on_offset_fetch(&mut self, output: &mut Output, to: RequestId, request: OffsetFetch) {
        let OffsetFetch { group, member, epoch, require_stable, topics } = request;
        let image = self.topics.clone();
        let answer = match self.groups.get(&group) {
            None => OffsetFetched { error: ErrorCode::None, partitions: no_offsets(topics) },
            Some(found) => match found.check_fetch(member.as_ref(), epoch) {
                Ok(()) => OffsetFetched {
                    error: ErrorCode::None,
                    partitions: found.offsets.fetch(&image, topics, require_stable),
                },
                Err(error) => OffsetFetched { error, partitions: Vec::new() },
            },
        };
        output.reply_from_group(to, Reply::OffsetFetch(answer), &group);
    }

    pub(super) fn on_offset_delete(&mut self, output: &mut Output, to: RequestId, request: OffsetDelete) {
        let OffsetDelete { group: id, partitions } = request;
        let missing = if id.is_empty() { ErrorCode::InvalidGroupId } else { ErrorCode::GroupIdNotFound };
        let result = self.with_group(&id, output, |group, cx| {
            let read = group.topics_read()?;
            Ok(group.offsets.delete(cx, partitions, |topic| read.contains(topic)))
        });
        let answer = match result.unwrap_or(Err(missing)) {
            Ok(partitions) => OffsetDeleted { error: ErrorCode::None, partitions },
            Err(error) => OffsetDeleted { error, partitions: Vec::new() },
        };
        output.reply_from_group(to, Reply::OffsetDelete(answer), &id);
    }
}

/// What a member is told of a group that does not exist.
fn unknown_member(group: &GroupId) -> ErrorCode {
    if group.is_empty() { ErrorCode::InvalidGroupId } else { ErrorCode::UnknownMemberId }
}

fn no_offsets(topics: FetchTopics) -> Vec<FetchedPartition> {
    match topics {
        FetchTopics::All => Vec::new(),
        FetchTopics::These(partitions) => {
            let partitions = partitions.into_iter();
            partitions.map(|partition| FetchedPartition::none(partition, ErrorCode::None)).collect()
        }
    }
}
