//! The group coordinator as a pure state machine: no clock, no file, no socket, no thread, no random order.
//!
//! One [`GroupCoordinator`] has the groups of one partition of the internal topic. It lives on the core that owns that
//! partition and is driven by its caller:
//!
//! 1. **Load.** Every record of the partition goes through [`GroupRecord::decode`] and [`GroupCoordinator::replay`], in
//!    order; then [`GroupCoordinator::loaded`]. Until then requests are answered with `CoordinatorLoadInProgress`.
//! 2. **Apply.** Each request, each change of the cluster's topics and each passed deadline is an [`Event`];
//!    [`GroupCoordinator::apply`] takes it with the time and gives [`Effects`]. Events are applied in one order, that of
//!    the calls.
//! 3. **Write.** The records of [`Effects::write`] are appended to the partition as one record batch, in the order of
//!    their [`WriteSequence`], and made durable. Several writes may be under way at once.
//! 4. **Release.** A reply is sent as soon as the write that [`HeldReply::after`] names, and all before it, are durable.
//!    Replies with `after` 0 go at once.
//! 5. **Tick.** At [`Effects::next_deadline`] at the latest the caller comes back with [`Event::Tick`]. Timers fire in
//!    ticks alone, so a caller that was held up applies the requests that have arrived first and then ticks: a heartbeat
//!    that waited in a queue counts.
//!
//! **What is not durable is not visible.** Records are applied in memory at once, so the next event sees them, and so may
//! its reply. That is why a reply waits not for its own write but for the last one of the group whose state it shows: an
//! answer can never rest on something that a crash takes back. Heartbeats of a group at rest wait for nothing.
//!
//! **When a write fails**, memory is ahead of the disk and the coordinator is of no use any more: the caller takes it
//! down with [`GroupCoordinator::unload`], which answers those who wait inside, refuses the replies it still holds with the
//! same error, and loads it anew. (A failed durable write ends Heddle's process; this is for writes that are refused, and
//! for a partition that moves.)
//!
//! After a crash the state is that of a prefix of the writes. Waiting requests are gone with their connections; members
//! of classic groups find their last stable generation, members of consumer groups their epochs; all timers run anew.
//!
//! **Time** is in milliseconds of the wall clock, because offsets expire by it. It must not go back: a caller adds a
//! monotonic clock to the wall clock as it was at the start.
//!
//! **Bounds.** Members and names given away are limited by `members_max`, groups by `groups_max`, bytes of a classic group
//! by `group_bytes_max`, offsets by the partitions that exist. A heartbeat costs a few lookups in sorted maps, whatever
//! the number of members; a new target assignment about the number of partitions and subscriptions times the depth of a
//! map.
//!
//! Sources: Kafka's group coordinator and KIP-345 (static members), KIP-394 (member ids), KIP-211 (expiry of offsets),
//! KIP-447 (stable offsets), KIP-848 (consumer groups). Not covered: members of the classic protocol in a consumer group
//! with members of the other (KIP-848's online migration; an empty group changes its protocol), client-side assignors of
//! KIP-848, racks in assignors.

mod admin;
mod assignor;
mod classic;
mod config;
mod consumer;
mod context;
mod coordinator;
mod deadlines;
mod effects;
mod expiry;
mod group;
mod hosted;
mod ids;
mod offsets;
mod record;
mod requests;
#[cfg(test)]
mod tests;
mod topics;
mod transactions;

pub mod message;

pub use assignor::AssignorName;
pub use config::GroupConfig;
pub use coordinator::{GroupCoordinator, GroupStats};
pub use effects::{Effects, HeldReply, Write};
pub use hosted::Call;
pub use ids::{
    Generation, GroupEpoch, GroupId, InstanceId, MemberId, Millis, ProtocolName, RequestId, TopicName,
    TopicRegex, WriteSequence,
};
pub use message::{Event, Reply, Request};
pub use record::{
    ClassicGroupValue, ClassicMemberValue, CommittedOffset, ConsumerGroupValue, ConsumerMemberValue,
    CurrentAssignmentValue, DecodeError, GroupRecord, MemberState, ProducerValue, ResolvedRegexValue,
};
pub use topics::{TopicImage, TopicInfo};
