//! Heartbeat and LeaveGroup, and the check that a commit comes from a member.

use heddle_proto::error::ErrorCode;

use super::{ClassicGroup, Phase};
use crate::coordinator::group::{
    context::Context,
    ids::{Generation, InstanceId, MemberId},
    message::{Heartbeat, LeaveGroup, LeavingMember, LeftMember},
};

impl ClassicGroup {
    /// A member is alive; the error tells it to join again, or that it is no member.
    pub fn on_heartbeat(&mut self, cx: &mut Context<'_>, request: &Heartbeat) -> ErrorCode {
        if let Err(error) = self.validate(&request.member, request.instance.as_ref()) {
            return error;
        }
        if request.generation != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        self.extend_session(cx, &request.member);
        match self.phase {
            Phase::Empty => ErrorCode::UnknownMemberId,
            Phase::Preparing(_) => ErrorCode::RebalanceInProgress,
            // Members may start to send heartbeats before they have their assignment.
            Phase::Completing | Phase::Stable => ErrorCode::None,
        }
    }

    /// A member was heard of.
    fn extend_session(&mut self, cx: &mut Context<'_>, id: &MemberId) {
        if let Some(member) = self.members.get(id) {
            cx.schedule(cx.classic_session(id), member.session_timeout);
        }
    }

    /// Members leave, each on its own merits.
    pub fn on_leave(&mut self, cx: &mut Context<'_>, request: LeaveGroup) -> Vec<LeftMember> {
        let mut gone = Vec::new();
        let mut answers = Vec::new();
        for LeavingMember { member, instance } in request.members {
            let found = self
                .find_leaving(&member, instance.as_ref())
                .and_then(|id| if gone.contains(&id) { Err(ErrorCode::UnknownMemberId) } else { Ok(id) });
            let error = match found {
                Ok(id) => {
                    gone.push(id);
                    ErrorCode::None
                }
                Err(error) => error,
            };
            answers.push(LeftMember { member, instance, error });
        }
        self.put_out(cx, &gone);
        answers
    }

    /// Which member is meant. An operator names a static one by its instance alone.
    fn find_leaving(&self, member: &MemberId, instance: Option<&InstanceId>) -> Result<MemberId, ErrorCode> {
        match instance {
            Some(instance) if member.is_empty() => {
                self.instances.get(instance).cloned().ok_or(ErrorCode::UnknownMemberId)
            }
            None if self.pending.contains(member) => Ok(member.clone()),
            _ => self.validate(member, instance).map(|()| member.clone()),
        }
    }

    /// Whether a commit from this member, in this generation, may be taken.
    pub fn check_commit(
        &mut self,
        cx: &mut Context<'_>,
        member: &MemberId,
        instance: Option<&InstanceId>,
        generation: Generation,
        is_transactional: bool,
    ) -> Result<(), ErrorCode> {
        let is_anonymous = generation.get() < 0 && member.is_empty() && instance.is_none();
        if generation.get() < 0 && self.is_empty() {
            // An operator, or a consumer that assigns its partitions itself.
            return Ok(());
        }
        if is_anonymous {
            // Transactional commits of older clients do not say who they are.
            return if is_transactional || self.is_empty() {
                Ok(())
            } else {
                Err(ErrorCode::UnknownMemberId)
            };
        }
        self.validate(member, instance)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if is_transactional {
            return Ok(());
        }
        if self.phase == Phase::Completing {
            return Err(ErrorCode::RebalanceInProgress);
        }
        // A commit is a sign of life, as a heartbeat is.
        self.extend_session(cx, member);
        Ok(())
    }
}
