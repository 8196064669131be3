//! `heddle-loadgen group`: many members of one consumer group, how long they take to settle, and what they cost when idle.
//!
//! The members speak the classic protocol and read nothing; each has a connection of its own to the coordinator. The
//! leader deals the partitions out in turn.

use crate::cli::GroupArgs;
use crate::clock::{Clock, Nanos};
use crate::histogram::round;
use crate::kafka::{Connection, KafkaError, admin};
use crate::runtime;
use crate::target::{Protocol, TopicPlan};
use bytes::{BufMut, Bytes, BytesMut};
use heddle_proto::ErrorCode;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

// The newest versions with plain headers.
const FIND_COORDINATOR_VERSION: i16 = 2;
const JOIN_VERSION: i16 = 5;
const SYNC_VERSION: i16 = 3;
const HEARTBEAT_VERSION: i16 = 3;
const LEAVE_VERSION: i16 = 3;

const PROTOCOL: &str = "in-turn";
const SESSION_TIMEOUT_MS: i32 = 45_000;
const REBALANCE_TIMEOUT_MS: i32 = 60_000;
/// How long members may take to settle before the run gives up.
const SETTLE_MAX: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Wait before a request is sent again that the coordinator could not take yet.
const RETRY_WAIT: Duration = Duration::from_millis(100);

/// What a run found.
#[derive(Serialize)]
struct Found {
    members: u32,
    partitions: usize,
    heartbeat_ms: u64,
    /// From the first join until every member had its share of one generation.
    first_settle_ms: f64,
    /// From when one member left until every other had its share again: contains what a member waits for its next
    /// heartbeat to learn of it.
    rebalance_ms: f64,
    /// From when the last of the others joined again until every one had its share.
    settle_after_last_join_ms: f64,
    /// How long they were idle.
    idle_seconds: f64,
    heartbeats: u64,
    errors: u64,
}

/// What all members share.
struct Crowd {
    topic: String,
    partition_count: usize,
    group: GroupId,
    coordinator: String,
    heartbeat: Duration,
    clock: Clock,
    /// The generation each member has its share of.
    settled: RefCell<BTreeMap<u32, (i32, usize)>>,
    /// When a JoinGroup was last sent that was answered.
    last_join: Cell<Nanos>,
    heartbeats: Cell<u64>,
    errors: Cell<u64>,
    /// The member that is to leave.
    leaver: Cell<Option<u32>>,
    is_over: Cell<bool>,
}

/// Runs the command; whether the run had no errors.
pub fn command(args: &GroupArgs) -> Result<bool, String> {
    if args.target.protocol != Protocol::Kafka {
        return Err("groups are joined with Kafka's protocol: write kafka://host:port".to_owned());
    }
    if args.members < 2 {
        return Err("--members must be 2 at least: one leaves".to_owned());
    }
    let found = runtime::block_on(run(args))?.map_err(|error| error.to_string())?;
    match args.json {
        true => println!("{}", simd_json::to_string(&found).map_err(|error| error.to_string())?),
        false => print!("{}", to_text(&found)),
    }
    Ok(found.errors == 0)
}

fn to_text(found: &Found) -> String {
    format!(
        "{} members of one group over {} partitions, heartbeats every {} ms\n\
         \u{20} all joined and settled after   {:.0} ms\n\
         \u{20} one left: settled again after  {:.0} ms, {:.0} ms after the last of the others had joined\n\
         \u{20} idle for {:.0} s with {} heartbeats; {} errors\n",
        found.members,
        found.partitions,
        found.heartbeat_ms,
        found.first_settle_ms,
        found.rebalance_ms,
        found.settle_after_last_join_ms,
        found.idle_seconds,
        found.heartbeats,
        found.errors
    )
}

async fn run(args: &GroupArgs) -> Result<Found, KafkaError> {
    let bootstrap = Connection::connect(&args.target.address).await?;
    let plan = TopicPlan {
        names: vec![args.topic.clone()],
        partition_count: args.partitions,
        replication_factor: 0,
        configs: Vec::new(),
    };
    admin::create_topics(&bootstrap, &plan).await?;
    let layout = admin::layout(&bootstrap, &plan.names).await?;
    let group = GroupId(StrBytes::from_string(args.group.clone()));
    let crowd = Rc::new(Crowd {
        topic: args.topic.clone(),
        partition_count: layout.routes.len(),
        coordinator: find_coordinator(&bootstrap, &group).await?,
        group,
        heartbeat: args.heartbeat,
        clock: Clock::start(),
        settled: RefCell::default(),
        last_join: Cell::new(Nanos::default()),
        heartbeats: Cell::new(0),
        errors: Cell::new(0),
        leaver: Cell::new(None),
        is_over: Cell::new(false),
    });
    let begun = crowd.clock.now();
    let members: Vec<_> =
        (0..args.members).map(|number| glommio::spawn_local(Rc::clone(&crowd).live(number))).collect();
    crowd.wait_until_settled(args.members as usize).await?;
    let first_settle = crowd.clock.now().since(begun);
    // Whoever measures the broker meanwhile waits for this line.
    eprintln!("settled: idle for {:?}", args.duration);
    let idle_from = crowd.clock.now();
    let heartbeats_before = crowd.heartbeats.get();
    glommio::timer::sleep(args.duration).await;
    let idle = crowd.clock.now().since(idle_from);
    let heartbeats = crowd.heartbeats.get() - heartbeats_before;
    let left = crowd.clock.now();
    crowd.leaver.set(Some(args.members - 1));
    while crowd.settled.borrow().contains_key(&(args.members - 1)) {
        glommio::timer::sleep(LOOK_EVERY).await;
    }
    crowd.wait_until_settled(args.members as usize - 1).await?;
    let settled = crowd.clock.now();
    crowd.is_over.set(true);
    for member in members {
        member.await;
    }
    let ms = |ns: u64| round(ns as f64 / 1e6);
    Ok(Found {
        members: args.members,
        partitions: crowd.partition_count,
        heartbeat_ms: args.heartbeat.as_millis() as u64,
        first_settle_ms: ms(first_settle),
        rebalance_ms: ms(settled.since(left)),
        settle_after_last_join_ms: ms(settled.since(crowd.last_join.get())),
        idle_seconds: round(idle as f64 / 1e9),
        heartbeats,
        errors: crowd.errors.get(),
    })
}

async fn find_coordinator(connection: &Connection, group: &GroupId) -> Result<String, KafkaError> {
    let request = FindCoordinatorRequest::default().with_key(group.0.clone());
    loop {
        let answer = connection.call("FindCoordinator", FIND_COORDINATOR_VERSION, &request).await?;
        match answer.error_code {
            0 => return Ok(format!("{}:{}", answer.host, answer.port)),
            // The internal topic is being made.
            code if is_retryable(code) => glommio::timer::sleep(RETRY_WAIT).await,
            code => return Err(KafkaError::Refused { api: "FindCoordinator", code }),
        }
    }
}

fn is_retryable(code: i16) -> bool {
    ErrorCode::from_code(code).is_some_and(ErrorCode::is_retryable)
}

impl Crowd {
    /// Waits until `count` members have a share of the same generation, and the shares are all partitions.
    async fn wait_until_settled(&self, count: usize) -> Result<(), KafkaError> {
        let begun = self.clock.now();
        while !self.is_settled(count) {
            if self.clock.now().since(begun) > SETTLE_MAX.as_nanos() as u64 {
                return Err(KafkaError::Malformed("a group that does not settle"));
            }
            glommio::timer::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    fn is_settled(&self, count: usize) -> bool {
        let settled = self.settled.borrow();
        let newest = settled.values().map(|(generation, _)| *generation).max();
        let shares: usize = settled.values().map(|(_, share)| share).sum();
        settled.len() == count
            && settled.values().all(|(generation, _)| Some(*generation) == newest)
            && shares == self.partition_count
    }

    /// One member, from its first join until it leaves.
    async fn live(self: Rc<Self>, number: u32) {
        let mut member_id = StrBytes::default();
        while !self.is_over.get() {
            match self.stay(number, &mut member_id).await {
                Ok(()) => return,
                Err(_) => {
                    self.errors.set(self.errors.get() + 1);
                    self.settled.borrow_mut().remove(&number);
                    glommio::timer::sleep(RETRY_WAIT).await;
                }
            }
        }
    }

    async fn stay(&self, number: u32, member_id: &mut StrBytes) -> Result<(), KafkaError> {
        let connection = Connection::connect(&self.coordinator).await?;
        loop {
            let generation = self.join_and_sync(&connection, number, member_id).await?;
            loop {
                glommio::timer::sleep(self.heartbeat).await;
                if self.is_over.get() || self.leaver.get() == Some(number) {
                    self.leave(&connection, member_id).await?;
                    self.settled.borrow_mut().remove(&number);
                    return Ok(());
                }
                let request = HeartbeatRequest::default()
                    .with_group_id(self.group.clone())
                    .with_generation_id(generation)
                    .with_member_id(member_id.clone());
                let answer = connection.call("Heartbeat", HEARTBEAT_VERSION, &request).await?;
                self.heartbeats.set(self.heartbeats.get() + 1);
                match ErrorCode::from_code(answer.error_code) {
                    Some(ErrorCode::None) => {}
                    Some(ErrorCode::RebalanceInProgress) => break,
                    _ => return Err(KafkaError::Refused { api: "Heartbeat", code: answer.error_code }),
                }
            }
        }
    }

    /// Joins the next generation and takes a share of it; its number.
    async fn join_and_sync(
        &self,
        connection: &Connection,
        number: u32,
        member_id: &mut StrBytes,
    ) -> Result<i32, KafkaError> {
        loop {
            let joined = self.join(connection, member_id).await?;
            let assignments = match joined.leader == *member_id {
                true => self.deal_out(&joined),
                false => Vec::new(),
            };
            let request = SyncGroupRequest::default()
                .with_group_id(self.group.clone())
                .with_generation_id(joined.generation_id)
                .with_member_id(member_id.clone())
                .with_assignments(assignments);
            let answer = connection.call("SyncGroup", SYNC_VERSION, &request).await?;
            match ErrorCode::from_code(answer.error_code) {
                Some(ErrorCode::None) => {
                    let share = share_of(&answer.assignment);
                    self.settled.borrow_mut().insert(number, (joined.generation_id, share));
                    return Ok(joined.generation_id);
                }
                Some(ErrorCode::RebalanceInProgress) => {}
                _ => return Err(KafkaError::Refused { api: "SyncGroup", code: answer.error_code }),
            }
        }
    }

    async fn join(
        &self,
        connection: &Connection,
        member_id: &mut StrBytes,
    ) -> Result<JoinGroupResponse, KafkaError> {
        loop {
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(StrBytes::from_static_str(PROTOCOL))
                .with_metadata(self.subscription());
            let request = JoinGroupRequest::default()
                .with_group_id(self.group.clone())
                .with_session_timeout_ms(SESSION_TIMEOUT_MS)
                .with_rebalance_timeout_ms(REBALANCE_TIMEOUT_MS)
                .with_member_id(member_id.clone())
                .with_protocol_type(StrBytes::from_static_str("consumer"))
                .with_protocols(vec![protocol]);
            let sent = self.clock.now();
            let answer = connection.call("JoinGroup", JOIN_VERSION, &request).await?;
            match ErrorCode::from_code(answer.error_code) {
                Some(ErrorCode::None) => {
                    self.last_join.set(self.last_join.get().max(sent));
                    return Ok(answer);
                }
                Some(ErrorCode::MemberIdRequired) => *member_id = answer.member_id,
                Some(ErrorCode::CoordinatorLoadInProgress) => glommio::timer::sleep(RETRY_WAIT).await,
                _ => return Err(KafkaError::Refused { api: "JoinGroup", code: answer.error_code }),
            }
        }
    }

    async fn leave(&self, connection: &Connection, member_id: &StrBytes) -> Result<(), KafkaError> {
        let request = LeaveGroupRequest::default()
            .with_group_id(self.group.clone())
            .with_members(vec![MemberIdentity::default().with_member_id(member_id.clone())]);
        let answer = connection.call("LeaveGroup", LEAVE_VERSION, &request).await?;
        match answer.error_code {
            0 => Ok(()),
            code => Err(KafkaError::Refused { api: "LeaveGroup", code }),
        }
    }

    /// What a consumer says when it joins: version 0, one topic, no data of its own.
    fn subscription(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_i16(0);
        bytes.put_i32(1);
        put_text(&mut bytes, &self.topic);
        bytes.put_i32(-1);
        bytes.freeze()
    }

    /// Partition 0 to the first member, 1 to the second, and so on, round and round.
    fn deal_out(&self, joined: &JoinGroupResponse) -> Vec<SyncGroupRequestAssignment> {
        let count = joined.members.len().max(1);
        let of_member = |(index, member): (usize, &JoinGroupResponseMember)| {
            let share: Vec<usize> = (index..self.partition_count).step_by(count).collect();
            let mut bytes = BytesMut::new();
            bytes.put_i16(0);
            bytes.put_i32(1);
            put_text(&mut bytes, &self.topic);
            bytes.put_i32(share.len() as i32);
            share.iter().for_each(|partition| bytes.put_i32(*partition as i32));
            bytes.put_i32(-1);
            SyncGroupRequestAssignment::default()
                .with_member_id(member.member_id.clone())
                .with_assignment(bytes.freeze())
        };
        joined.members.iter().enumerate().map(of_member).collect()
    }
}

fn put_text(bytes: &mut BytesMut, text: &str) {
    bytes.put_i16(text.len() as i16);
    bytes.put_slice(text.as_bytes());
}

/// How many partitions an assignment made by [`Crowd::deal_out`] gives.
fn share_of(assignment: &[u8]) -> usize {
    let name_bytes = assignment.get(6..8).map_or(0, |length| u16::from_be_bytes([length[0], length[1]]));
    let at = 8 + usize::from(name_bytes);
    let count = assignment
        .get(at..at + 4)
        .map_or(0, |count| u32::from_be_bytes([count[0], count[1], count[2], count[3]]));
    count as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_counted() {
        let mut bytes = BytesMut::new();
        bytes.put_i16(0);
        bytes.put_i32(1);
        put_text(&mut bytes, "topic");
        bytes.put_i32(2);
        bytes.put_i32(7);
        bytes.put_i32(8);
        bytes.put_i32(-1);
        assert_eq!(share_of(&bytes), 2);
        assert_eq!(share_of(&[]), 0, "a member without a share");
    }
}
