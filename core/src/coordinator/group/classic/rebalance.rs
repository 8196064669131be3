//! The join phase of a rebalance: when it begins, whom it waits for, when it ends.

use std::time::Duration;

use heddle_proto::error::ErrorCode;

use super::{ClassicGroup, InitialDelay, Phase, subscription::subscribed_topics};
use crate::coordinator::group::{
    context::Context,
    deadlines::Timer,
    ids::{Generation, MemberId},
    message::{JoinAnswer, JoinedMember, SyncAnswer},
};

/// How often at most a rebalance in which nobody is present looks again, whatever timeout its members ask for.
const RETRY_MIN: Duration = Duration::from_secs(1);

impl ClassicGroup {
    /// Starts a rebalance, or sees whether the one under way has gathered everybody.
    pub(super) fn rebalance_or_complete(&mut self, cx: &mut Context<'_>) {
        match self.phase {
            Phase::Preparing(_) => self.maybe_complete_join(cx),
            Phase::Empty | Phase::Completing | Phase::Stable => self.prepare_rebalance(cx),
        }
    }

    /// Everybody is to join anew. An empty group waits a little for those that start at the same time.
    pub(super) fn prepare_rebalance(&mut self, cx: &mut Context<'_>) {
        if self.phase == Phase::Completing {
            self.fail_syncs(cx, ErrorCode::RebalanceInProgress);
        }
        self.end_sync_phase(cx);
        let was_empty = self.phase == Phase::Empty;
        self.since = cx.now;
        if was_empty {
            let delay = cx.config.initial_rebalance_delay;
            let remaining = self.rebalance_timeout().saturating_sub(delay);
            self.phase = Phase::Preparing(Some(InitialDelay { delay, remaining, member_added: false }));
            cx.schedule(Timer::JoinPhase(cx.group.clone()), delay);
        } else {
            self.phase = Phase::Preparing(None);
            if self.have_all_joined() {
                self.complete_join(cx);
            } else {
                cx.schedule(Timer::JoinPhase(cx.group.clone()), self.rebalance_timeout());
            }
        }
    }

    /// Ends the join phase if everybody is there. The first rebalance of a group waits for its time instead.
    pub(super) fn maybe_complete_join(&mut self, cx: &mut Context<'_>) {
        if self.phase == Phase::Preparing(None) && self.have_all_joined() {
            self.complete_join(cx);
        }
    }

    /// The time of the join phase is over.
    pub fn on_join_phase_over(&mut self, cx: &mut Context<'_>) {
        match self.phase {
            Phase::Preparing(Some(initial)) if initial.member_added && !initial.remaining.is_zero() => {
                let delay = cx.config.initial_rebalance_delay.min(initial.remaining);
                let remaining = initial.remaining.saturating_sub(initial.delay);
                self.phase = Phase::Preparing(Some(InitialDelay { delay, remaining, member_added: false }));
                cx.schedule(Timer::JoinPhase(cx.group.clone()), delay);
            }
            Phase::Preparing(_) => self.complete_join(cx),
            Phase::Empty | Phase::Completing | Phase::Stable => {}
        }
    }

    /// The next generation begins with those who have joined; a static member that has not keeps its place until its
    /// session ends.
    fn complete_join(&mut self, cx: &mut Context<'_>) {
        cx.cancel(&Timer::JoinPhase(cx.group.clone()));
        let gone: Vec<MemberId> = self
            .members
            .iter()
            .filter(|(_, member)| member.joining.is_none() && member.instance.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in &gone {
            self.remove(cx, id, ErrorCode::UnknownMemberId);
        }
        if !self.members.is_empty() && !self.elect_leader() {
            // Only static members are left and none is here: wait until one comes or their sessions end.
            let pause = self.rebalance_timeout().max(RETRY_MIN);
            cx.schedule(Timer::JoinPhase(cx.group.clone()), pause);
            return;
        }
        self.generation = self.generation.next();
        cx.output.count_rebalance();
        self.since = cx.now;
        self.protocol = self.select_protocol();
        self.subscribed = subscribed_topics(self);
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            self.leader = None;
            self.record(cx);
            return;
        }
        self.phase = Phase::Completing;
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.joined(&id);
            self.answer_join(cx, &id, answer);
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
                cx.schedule(cx.classic_session(&id), member.session_timeout);
            }
            self.not_synced.insert(id);
        }
        let timer = Timer::SyncPhase(cx.group.clone(), self.generation);
        cx.schedule(timer, self.rebalance_timeout());
    }

    /// Members that have not asked for their assignment in time are put out.
    pub fn on_sync_phase_over(&mut self, cx: &mut Context<'_>, generation: Generation) {
        if generation != self.generation || !matches!(self.phase, Phase::Completing | Phase::Stable) {
            return;
        }
        let gone = std::mem::take(&mut self.not_synced);
        if gone.is_empty() {
            return;
        }
        for id in &gone {
            self.remove(cx, id, ErrorCode::UnknownMemberId);
        }
        self.prepare_rebalance(cx);
    }

    /// A member that must not be silent was, or a name that was given away did not come back.
    pub fn on_session_over(&mut self, cx: &mut Context<'_>, id: &MemberId) {
        // A new member is put out although it waits: it is to ask again if it is still there.
        let waits = self
            .members
            .get(id)
            .is_some_and(|member| !member.is_new && (member.joining.is_some() || member.syncing.is_some()));
        if !waits {
            self.put_out(cx, std::slice::from_ref(id));
        }
    }

    /// Puts members and pending names out. The members that stay must divide the work of those that go.
    pub(super) fn put_out(&mut self, cx: &mut Context<'_>, ids: &[MemberId]) {
        let member_count = self.members.len();
        for id in ids {
            self.remove(cx, id, ErrorCode::UnknownMemberId);
        }
        match self.phase {
            Phase::Completing | Phase::Stable if self.members.len() < member_count => {
                self.prepare_rebalance(cx)
            }
            Phase::Preparing(_) => self.maybe_complete_join(cx),
            Phase::Empty | Phase::Completing | Phase::Stable => {}
        }
    }

    /// The answer to a member's join of the current generation.
    pub(super) fn joined(&self, id: &MemberId) -> JoinAnswer {
        let is_leader = self.leader.as_ref() == Some(id);
        JoinAnswer {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member: id.clone(),
            members: if is_leader { self.joined_members() } else { Vec::new() },
        }
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let members = self.members.iter().map(|(id, member)| JoinedMember {
            member: id.clone(),
            instance: member.instance.clone(),
            metadata: member.metadata(self.protocol.as_ref()),
        });
        members.collect()
    }

    /// Sees that the leader is one that has joined; `false` when nobody has.
    fn elect_leader(&mut self) -> bool {
        let is_here = |id: &MemberId| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if self.leader.as_ref().is_some_and(is_here) {
            return true;
        }
        let first = self.members.iter().find(|(_, member)| member.joining.is_some());
        match first.map(|(id, _)| id.clone()) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    fn have_all_joined(&self) -> bool {
        self.joining_count == self.members.len() && self.pending.is_empty()
    }

    /// How long a rebalance may take: the longest that a member asks for.
    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    /// Whoever waits for an assignment is told why there is none.
    pub(super) fn fail_syncs(&mut self, cx: &mut Context<'_>, error: ErrorCode) {
        self.clear_assignments();
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in ids {
            if self.answer_sync(cx, &id, SyncAnswer::refuse(error)) {
                let timeout = self.members[&id].session_timeout;
                cx.schedule(cx.classic_session(&id), timeout);
            }
        }
    }

    /// Nobody is waited for any longer.
    pub(super) fn end_sync_phase(&mut self, cx: &mut Context<'_>) {
        self.not_synced.clear();
        cx.cancel(&Timer::SyncPhase(cx.group.clone(), self.generation));
    }
}
