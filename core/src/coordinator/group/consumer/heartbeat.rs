//! ConsumerGroupHeartbeat: a member joins, goes on, or wants something else.

use heddle_proto::error::ErrorCode;
use regex::Regex;

use super::{
    ConsumerGroup, Member, Refusal,
    subscription::{compile, wanted_bytes},
};
use crate::coordinator::group::{
    assignor::AssignorName,
    config::GroupConfig,
    context::Context,
    ids::{GroupEpoch, MemberId},
    message::{Assignment, ConsumerGroupHeartbeat, ConsumerGroupHeartbeatAnswer},
    record::{ConsumerGroupValue, ConsumerMemberValue, GroupRecord},
};

/// The checks that need no group; gives the compiled expression of the request.
///
/// # Errors
/// What Kafka answers.
pub fn validate(config: &GroupConfig, request: &ConsumerGroupHeartbeat) -> Result<Option<Regex>, Refusal> {
    let is_joining = request.epoch == GroupEpoch::JOINING;
    let invalid = |message| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    if request.group.is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if request.instance.as_ref().is_some_and(|instance| instance.is_empty()) {
        return invalid("InstanceId can't be empty.");
    }
    if request.rack.as_ref().is_some_and(|rack| rack.is_empty()) {
        return invalid("RackId can't be empty.");
    }
    if request.member.is_empty() && !is_joining {
        return invalid("MemberId can't be empty.");
    }
    if is_joining {
        if request.rebalance_timeout.is_none() {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        if !request.owned.as_ref().is_some_and(Assignment::is_empty) {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        if request.subscribed_names.is_none() && request.subscribed_regex.is_none() {
            return invalid(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
            );
        }
    }
    if request.epoch == GroupEpoch::LEAVING_FOR_A_WHILE && request.instance.is_none() {
        return invalid("InstanceId can't be null.");
    }
    if request.epoch < GroupEpoch::LEAVING_FOR_A_WHILE {
        return invalid("MemberEpoch is invalid.");
    }
    if request.server_assignor.as_ref().is_some_and(|name| AssignorName::parse(name).is_none()) {
        return Err(Refusal::new(
            ErrorCode::UnsupportedAssignor,
            "ServerAssignor is not supported. Supported assignors: uniform, range.",
        ));
    }
    let regex = request.subscribed_regex.as_ref().filter(|regex| !regex.is_empty());
    regex.map(|regex| compile(config, regex)).transpose()
}

/// What the checks of a heartbeat have found; nothing was changed by then.
struct Caller {
    id: MemberId,
    /// The member whose place it takes: a static one that has left for a while.
    replaces: Option<MemberId>,
}

impl ConsumerGroup {
    /// A member calls; `regex` is the compiled expression of the request. Nothing changes when it is refused.
    ///
    /// # Errors
    /// What Kafka answers.
    pub fn on_heartbeat(
        &mut self,
        cx: &mut Context<'_>,
        request: &ConsumerGroupHeartbeat,
        regex: Option<&Regex>,
    ) -> Result<ConsumerGroupHeartbeatAnswer, Refusal> {
        if request.epoch < GroupEpoch::JOINING {
            return self.on_leave(cx, request);
        }
        let caller = self.identify(cx.config, request)?;
        self.check_size(cx.config, &caller, request)?;
        if let Some(old) = &caller.replaces {
            self.replace_static(cx, old, &caller.id);
        }
        let before = self.members.get(&caller.id).cloned();
        let has_subscription_changed = self.update_member(cx, &caller.id, before.as_ref(), request, regex);
        self.update_epoch(cx, has_subscription_changed);
        if self.target_epoch.is_none_or(|epoch| epoch < self.value.epoch) {
            self.update_target(cx);
        }
        self.reconcile(cx, &caller.id, request.owned.as_ref(), has_subscription_changed);
        cx.schedule(cx.consumer_session(&caller.id), cx.config.consumer_session_timeout);
        Ok(self.answer(cx, &caller.id, before.as_ref(), request))
    }

    /// Who calls, and whether it may.
    fn identify(&self, config: &GroupConfig, request: &ConsumerGroupHeartbeat) -> Result<Caller, Refusal> {
        if self.members.len() >= config.members_max && !self.members.contains_key(&request.member) {
            return Err(Refusal::new(
                ErrorCode::GroupMaxSizeReached,
                "The consumer group has reached its maximum capacity.",
            ));
        }
        let id = if request.member.is_empty() { &request.new_member } else { &request.member };
        let is_joining = request.epoch == GroupEpoch::JOINING;
        let mut caller = Caller { id: id.clone(), replaces: None };
        if let Some(instance) = &request.instance {
            match self.instances.get(instance) {
                Some(holder) if holder == id => {}
                Some(holder) if is_joining => {
                    if self.members[holder].has.epoch != GroupEpoch::LEAVING_FOR_A_WHILE {
                        return Err(Refusal::new(
                            ErrorCode::UnreleasedInstanceId,
                            "The instance id is owned by another member.",
                        ));
                    }
                    caller.replaces = Some(holder.clone());
                    return Ok(caller);
                }
                Some(_) => {
                    return Err(Refusal::new(
                        ErrorCode::FencedInstanceId,
                        "The member was fenced by another member with the same instance id.",
                    ));
                }
                None if is_joining => {}
                None => return Err(Refusal::new(ErrorCode::UnknownMemberId, "The instance id is unknown.")),
            }
        }
        match self.members.get(id) {
            Some(member) => check_epoch(member, request)?,
            None if is_joining => {}
            None => {
                return Err(Refusal::new(
                    ErrorCode::UnknownMemberId,
                    "The member is not a member of the group.",
                ));
            }
        }
        Ok(caller)
    }

    /// What all members want must stay within bounds.
    fn check_size(
        &self,
        config: &GroupConfig,
        caller: &Caller,
        request: &ConsumerGroupHeartbeat,
    ) -> Result<(), Refusal> {
        let before = self.members.get(caller.replaces.as_ref().unwrap_or(&caller.id));
        let before = before.map(|member| member.wants.clone()).unwrap_or_default();
        let bytes_before = wanted_bytes(&before);
        let bytes = self.bytes.saturating_sub(bytes_before) + wanted_bytes(&merge(before, request));
        if bytes > config.consumer_group_bytes_max && bytes > self.bytes {
            return Err(Refusal::new(
                ErrorCode::GroupMaxSizeReached,
                "The subscriptions of the group take more memory than allowed.",
            ));
        }
        Ok(())
    }

    /// Writes what the member wants, if that is new; says whether it wants other topics or another assignor.
    fn update_member(
        &mut self,
        cx: &mut Context<'_>,
        id: &MemberId,
        before: Option<&Member>,
        request: &ConsumerGroupHeartbeat,
        regex: Option<&Regex>,
    ) -> bool {
        let old = before.map(|member| member.wants.clone()).unwrap_or_default();
        let wants = merge(old.clone(), request);
        if before.is_some() && wants == old {
            return false;
        }
        if let (Some(regex), Some(compiled)) = (&wants.subscribed_regex, regex) {
            self.resolve(cx, regex, compiled);
        }
        let (group, member) = (cx.group.clone(), id.clone());
        self.write(cx, GroupRecord::ConsumerMember { group, member, value: Some(wants.clone()) });
        self.forget_unused_regexes(cx);
        before.is_none()
            || wants.subscribed_names != old.subscribed_names
            || wants.subscribed_regex != old.subscribed_regex
            || wants.server_assignor != old.server_assignor
    }

    /// Begins a new epoch if members or the topics they want have changed.
    pub(super) fn update_epoch(&mut self, cx: &mut Context<'_>, have_members_changed: bool) {
        if !have_members_changed && !self.must_look_at_topics {
            return;
        }
        if std::mem::take(&mut self.must_look_at_topics) {
            self.resolve_all(cx);
        }
        let topics_hash = self.topics_hash(cx.topics);
        if have_members_changed || topics_hash != self.value.topics_hash {
            cx.output.count_rebalance();
            let value = ConsumerGroupValue { epoch: self.value.epoch.next(), topics_hash, since: cx.now };
            self.write(cx, GroupRecord::ConsumerGroup { group: cx.group.clone(), value: Some(value) });
        }
    }

    /// The assignment is told when the member asks for everything, or when it has changed.
    fn answer(
        &self,
        cx: &Context<'_>,
        id: &MemberId,
        before: Option<&Member>,
        request: &ConsumerGroupHeartbeat,
    ) -> ConsumerGroupHeartbeatAnswer {
        let has = &self.members[id].has;
        let asks_for_all = request.epoch == GroupEpoch::JOINING
            || (request.rebalance_timeout.is_some()
                && (request.subscribed_names.is_some() || request.subscribed_regex.is_some())
                && request.owned.is_some());
        let has_changed = before.is_none_or(|before| before.has.assigned != has.assigned);
        ConsumerGroupHeartbeatAnswer {
            error: ErrorCode::None,
            message: None,
            member: id.clone(),
            epoch: has.epoch,
            heartbeat_interval: cx.config.consumer_heartbeat_interval,
            assignment: (asks_for_all || has_changed).then(|| has.assigned.clone()),
        }
    }
}

/// A member may be one epoch behind, if it owns nothing that it should not: the answer that moved it on may be lost.
fn check_epoch(member: &Member, request: &ConsumerGroupHeartbeat) -> Result<(), Refusal> {
    let has = &member.has;
    let is_current = request.epoch == has.epoch || request.epoch == GroupEpoch::JOINING;
    let owns_no_more = || request.owned.as_ref().is_some_and(|owned| owned.is_subset(&has.assigned));
    if is_current || (request.epoch < has.epoch && request.epoch == has.previous_epoch && owns_no_more()) {
        Ok(())
    } else {
        Err(Refusal::new(
            ErrorCode::FencedMemberEpoch,
            "The member's epoch is not the one known by the coordinator; it must give up its partitions and join anew.",
        ))
    }
}

fn merge(mut wants: ConsumerMemberValue, request: &ConsumerGroupHeartbeat) -> ConsumerMemberValue {
    if request.instance.is_some() {
        wants.instance.clone_from(&request.instance);
    }
    if request.rack.is_some() {
        wants.rack.clone_from(&request.rack);
    }
    if let Some(timeout) = request.rebalance_timeout {
        wants.rebalance_timeout = timeout;
    }
    if let Some(names) = &request.subscribed_names {
        wants.subscribed_names.clone_from(names);
    }
    if let Some(regex) = &request.subscribed_regex {
        wants.subscribed_regex = Some(regex.clone()).filter(|regex| !regex.is_empty());
    }
    if request.server_assignor.is_some() {
        wants.server_assignor.clone_from(&request.server_assignor);
    }
    wants.client = request.client.clone();
    wants
}
