//! The settings of the group coordinator, with Kafka's defaults and names.

use std::time::Duration;

/// What an operator may choose. One value per coordinator; it may be replaced while the coordinator runs.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// Shortest session timeout of a classic member (`group.min.session.timeout.ms`).
    pub session_timeout_min: Duration,
    /// Longest session timeout of a classic member (`group.max.session.timeout.ms`).
    pub session_timeout_max: Duration,
    /// How long the first rebalance of an empty classic group waits for more members
    /// (`group.initial.rebalance.delay.ms`).
    pub initial_rebalance_delay: Duration,
    /// How long a new member may wait for the end of a rebalance before it must ask again (Kafka: 5 minutes, fixed).
    pub new_member_join_timeout: Duration,
    /// Most members of one group (`group.max.size`, `group.consumer.max.size`).
    pub members_max: usize,
    /// Most groups of one coordinator. Kafka has no such limit; a group without members costs about 500 bytes.
    pub groups_max: usize,
    /// Most bytes of metadata and assignments of one classic group. All of it goes into one record, which must fit a
    /// record batch.
    pub group_bytes_max: usize,
    /// Most bytes of the subscriptions of one consumer group: 1,000 members with 1,000 names each.
    pub consumer_group_bytes_max: usize,
    /// How long a member of a consumer group may be silent (`group.consumer.session.timeout.ms`).
    pub consumer_session_timeout: Duration,
    /// How often members of a consumer group are asked to call (`group.consumer.heartbeat.interval.ms`).
    pub consumer_heartbeat_interval: Duration,
    /// Longest text of a committed offset, in bytes (`offset.metadata.max.bytes`).
    pub offset_metadata_bytes_max: usize,
    /// How long an offset outlives the group's last member or its topic's last subscriber
    /// (`offsets.retention.minutes`).
    pub offsets_retention: Duration,
    /// How often expired offsets are looked for (`offsets.retention.check.interval.ms`).
    pub offsets_check_interval: Duration,
    /// How long the last epoch of a transactional producer is remembered (`producer.id.expiration.ms`).
    pub producer_retention: Duration,
    /// Longest regular expression of a subscription, in bytes.
    pub regex_bytes_max: usize,
}

impl Default for GroupConfig {
    fn default() -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: 30 * MINUTE,
            initial_rebalance_delay: Duration::from_secs(3),
            new_member_join_timeout: 5 * MINUTE,
            members_max: 10_000,
            groups_max: 100_000,
            group_bytes_max: 8 * 1024 * 1024,
            consumer_group_bytes_max: 64 * 1024 * 1024,
            consumer_session_timeout: Duration::from_secs(45),
            consumer_heartbeat_interval: Duration::from_secs(5),
            offset_metadata_bytes_max: 4096,
            offsets_retention: 7 * DAY,
            offsets_check_interval: 10 * MINUTE,
            producer_retention: DAY,
            regex_bytes_max: 1024,
        }
    }
}
