//! Error codes as both protocols put them on the wire; the numbers are Kafka's.

use std::fmt;

macro_rules! error_codes {
    ($($(#[$attr:meta])* $code:literal $variant:ident $name:literal $retry:ident $text:literal,)*) => {
        /// Why a request was refused. Numbers, names and the retryable flag are those of Apache Kafka 4.x.
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        #[repr(i16)]
        #[non_exhaustive]
        #[allow(missing_docs)] // each is described by `description`
        pub enum ErrorCode {
            $($(#[$attr])* $variant = $code,)*
        }

        impl ErrorCode {
            /// Every code, in ascending order of its number.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The code with this number, if there is one.
            pub const fn from_code(code: i16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The name used in Kafka's documentation, for example `NOT_LEADER_OR_FOLLOWER`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// One plain sentence for people.
            pub const fn description(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// Whether the same request may succeed later, perhaps at another broker.
            pub const fn is_retryable(self) -> bool {
                match self {
                    $(Self::$variant => error_codes!(@retry $retry),)*
                }
            }
        }
    };
    (@retry retry) => { true };
    (@retry final) => { false };
}

error_codes! {
    #[default]
    0 None "NONE" final "the request succeeded",
    -1 UnknownServerError "UNKNOWN_SERVER_ERROR" final "the broker failed in a way it did not foresee",
    1 OffsetOutOfRange "OFFSET_OUT_OF_RANGE" final "the offset is not in the range the partition holds",
    2 CorruptMessage "CORRUPT_MESSAGE" retry "the batch fails its CRC or is malformed",
    3 UnknownTopicOrPartition "UNKNOWN_TOPIC_OR_PARTITION" retry "this broker does not host the topic or partition",
    4 InvalidFetchSize "INVALID_FETCH_SIZE" final "the requested fetch size is invalid",
    5 LeaderNotAvailable "LEADER_NOT_AVAILABLE" retry "the partition has no primary at the moment",
    6 NotLeaderOrFollower "NOT_LEADER_OR_FOLLOWER" retry "this broker is not the primary, or not a replica, of the partition",
    7 RequestTimedOut "REQUEST_TIMED_OUT" retry "the request was not finished within its time",
    8 BrokerNotAvailable "BROKER_NOT_AVAILABLE" final "the broker is not available",
    9 ReplicaNotAvailable "REPLICA_NOT_AVAILABLE" retry "the replica is not available",
    10 MessageTooLarge "MESSAGE_TOO_LARGE" final "the batch is larger than the broker accepts",
    11 StaleControllerEpoch "STALE_CONTROLLER_EPOCH" final "the controller has moved to another broker",
    12 OffsetMetadataTooLarge "OFFSET_METADATA_TOO_LARGE" final "the metadata of the committed offset is too large",
    13 NetworkException "NETWORK_EXCEPTION" retry "the connection broke before a reply arrived",
    14 CoordinatorLoadInProgress "COORDINATOR_LOAD_IN_PROGRESS" retry "the coordinator is still loading its state",
    15 CoordinatorNotAvailable "COORDINATOR_NOT_AVAILABLE" retry "the coordinator is not available",
    16 NotCoordinator "NOT_COORDINATOR" retry "this broker is not the coordinator",
    17 InvalidTopicException "INVALID_TOPIC_EXCEPTION" final "the topic name is not allowed",
    18 RecordListTooLarge "RECORD_LIST_TOO_LARGE" final "the request holds more records than a segment may",
    19 NotEnoughReplicas "NOT_ENOUGH_REPLICAS" retry "fewer replicas are in sync than the topic demands",
    20 NotEnoughReplicasAfterAppend "NOT_ENOUGH_REPLICAS_AFTER_APPEND" retry "the batch was written, but to fewer in-sync replicas than the topic demands",
    21 InvalidRequiredAcks "INVALID_REQUIRED_ACKS" final "acks must be -1, 0 or 1",
    22 IllegalGeneration "ILLEGAL_GENERATION" final "the group generation is not the current one",
    23 InconsistentGroupProtocol "INCONSISTENT_GROUP_PROTOCOL" final "the member's protocols do not match those of the group",
    24 InvalidGroupId "INVALID_GROUP_ID" final "the group id is not allowed",
    25 UnknownMemberId "UNKNOWN_MEMBER_ID" final "the group has no such member",
    26 InvalidSessionTimeout "INVALID_SESSION_TIMEOUT" final "the session timeout is outside the range the broker allows",
    27 RebalanceInProgress "REBALANCE_IN_PROGRESS" final "the group is rebalancing",
    28 InvalidCommitOffsetSize "INVALID_COMMIT_OFFSET_SIZE" final "the committed offset is too large to store",
    29 TopicAuthorizationFailed "TOPIC_AUTHORIZATION_FAILED" final "not allowed to use the topic",
    30 GroupAuthorizationFailed "GROUP_AUTHORIZATION_FAILED" final "not allowed to use the group",
    31 ClusterAuthorizationFailed "CLUSTER_AUTHORIZATION_FAILED" final "not allowed to act on the cluster",
    32 InvalidTimestamp "INVALID_TIMESTAMP" final "the record's timestamp is out of the allowed range",
    33 UnsupportedSaslMechanism "UNSUPPORTED_SASL_MECHANISM" final "the broker does not offer this SASL mechanism",
    34 IllegalSaslState "ILLEGAL_SASL_STATE" final "the request does not fit the state of the SASL exchange",
    35 UnsupportedVersion "UNSUPPORTED_VERSION" final "the broker does not support this version of the request",
    36 TopicAlreadyExists "TOPIC_ALREADY_EXISTS" final "a topic of this name already exists",
    37 InvalidPartitions "INVALID_PARTITIONS" final "the number of partitions is not allowed",
    38 InvalidReplicationFactor "INVALID_REPLICATION_FACTOR" final "the replication factor is below 1 or above the number of brokers",
    39 InvalidReplicaAssignment "INVALID_REPLICA_ASSIGNMENT" final "the replica assignment is not possible",
    40 InvalidConfig "INVALID_CONFIG" final "the configuration is invalid",
    41 NotController "NOT_CONTROLLER" retry "this broker is not the controller",
    42 InvalidRequest "INVALID_REQUEST" final "the request is malformed or contradicts itself",
    43 UnsupportedForMessageFormat "UNSUPPORTED_FOR_MESSAGE_FORMAT" final "the message format does not support the request",
    44 PolicyViolation "POLICY_VIOLATION" final "the request violates a policy of the cluster",
    45 OutOfOrderSequenceNumber "OUT_OF_ORDER_SEQUENCE_NUMBER" final "the producer's sequence number does not follow the last one",
    46 DuplicateSequenceNumber "DUPLICATE_SEQUENCE_NUMBER" final "the producer's sequence number was used before",
    47 InvalidProducerEpoch "INVALID_PRODUCER_EPOCH" final "the producer's epoch is older than the current one",
    48 InvalidTxnState "INVALID_TXN_STATE" final "the transaction is not in a state that allows this",
    49 InvalidProducerIdMapping "INVALID_PRODUCER_ID_MAPPING" final "the producer id does not belong to the transactional id",
    50 InvalidTransactionTimeout "INVALID_TRANSACTION_TIMEOUT" final "the transaction timeout is above the broker's maximum",
    51 ConcurrentTransactions "CONCURRENT_TRANSACTIONS" retry "another transaction of this producer is still being finished",
    52 TransactionCoordinatorFenced "TRANSACTION_COORDINATOR_FENCED" final "the transaction coordinator has been replaced",
    53 TransactionalIdAuthorizationFailed "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" final "not allowed to use the transactional id",
    54 SecurityDisabled "SECURITY_DISABLED" final "security features are disabled",
    55 OperationNotAttempted "OPERATION_NOT_ATTEMPTED" final "not tried because another part of the request failed",
    56 KafkaStorageError "KAFKA_STORAGE_ERROR" retry "the broker could not use its disk",
    57 LogDirNotFound "LOG_DIR_NOT_FOUND" final "the broker has no such data directory",
    58 SaslAuthenticationFailed "SASL_AUTHENTICATION_FAILED" final "authentication failed",
    59 UnknownProducerId "UNKNOWN_PRODUCER_ID" final "the partition no longer knows this producer id",
    60 ReassignmentInProgress "REASSIGNMENT_IN_PROGRESS" final "the partition is being moved",
    61 DelegationTokenAuthDisabled "DELEGATION_TOKEN_AUTH_DISABLED" final "delegation tokens are not enabled",
    62 DelegationTokenNotFound "DELEGATION_TOKEN_NOT_FOUND" final "there is no such delegation token",
    63 DelegationTokenOwnerMismatch "DELEGATION_TOKEN_OWNER_MISMATCH" final "the delegation token belongs to somebody else",
    64 DelegationTokenRequestNotAllowed "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED" final "delegation tokens are not allowed on this connection",
    65 DelegationTokenAuthorizationFailed "DELEGATION_TOKEN_AUTHORIZATION_FAILED" final "not allowed to use the delegation token",
    66 DelegationTokenExpired "DELEGATION_TOKEN_EXPIRED" final "the delegation token has expired",
    67 InvalidPrincipalType "INVALID_PRINCIPAL_TYPE" final "the principal's type is not supported",
    68 NonEmptyGroup "NON_EMPTY_GROUP" final "the group still has members",
    69 GroupIdNotFound "GROUP_ID_NOT_FOUND" final "there is no such group",
    70 FetchSessionIdNotFound "FETCH_SESSION_ID_NOT_FOUND" retry "there is no such fetch session",
    71 InvalidFetchSessionEpoch "INVALID_FETCH_SESSION_EPOCH" retry "the epoch of the fetch session is not the expected one",
    72 ListenerNotFound "LISTENER_NOT_FOUND" retry "the primary has no listener of the name the request came in on",
    73 TopicDeletionDisabled "TOPIC_DELETION_DISABLED" final "deleting topics is disabled",
    74 FencedLeaderEpoch "FENCED_LEADER_EPOCH" retry "the leader epoch of the request is older than the broker's",
    75 UnknownLeaderEpoch "UNKNOWN_LEADER_EPOCH" retry "the leader epoch of the request is newer than the broker's",
    76 UnsupportedCompressionType "UNSUPPORTED_COMPRESSION_TYPE" final "the requesting client does not support the batch's compression",
    77 StaleBrokerEpoch "STALE_BROKER_EPOCH" final "the broker's epoch has changed",
    78 OffsetNotAvailable "OFFSET_NOT_AVAILABLE" retry "the new primary does not know the committed offset yet",
    79 MemberIdRequired "MEMBER_ID_REQUIRED" final "the member must join again with the id it was given",
    80 PreferredLeaderNotAvailable "PREFERRED_LEADER_NOT_AVAILABLE" retry "the preferred primary is not available",
    81 GroupMaxSizeReached "GROUP_MAX_SIZE_REACHED" final "the group has as many members as it may",
    82 FencedInstanceId "FENCED_INSTANCE_ID" final "another member registered under the same instance id",
    83 EligibleLeadersNotAvailable "ELIGIBLE_LEADERS_NOT_AVAILABLE" retry "no eligible primary is available",
    84 ElectionNotNeeded "ELECTION_NOT_NEEDED" retry "the partition already has the wanted primary",
    85 NoReassignmentInProgress "NO_REASSIGNMENT_IN_PROGRESS" final "the partition is not being moved",
    86 GroupSubscribedToTopic "GROUP_SUBSCRIBED_TO_TOPIC" final "the group is subscribed to the topic",
    87 InvalidRecord "INVALID_RECORD" final "a record fails the broker's checks",
    88 UnstableOffsetCommit "UNSTABLE_OFFSET_COMMIT" retry "there are transactional offset commits not yet decided",
    89 ThrottlingQuotaExceeded "THROTTLING_QUOTA_EXCEEDED" retry "a quota is exceeded",
    90 ProducerFenced "PRODUCER_FENCED" final "a newer producer with the same transactional id exists",
    91 ResourceNotFound "RESOURCE_NOT_FOUND" final "the named resource does not exist",
    92 DuplicateResource "DUPLICATE_RESOURCE" final "the resource is named twice or exists already",
    93 UnacceptableCredential "UNACCEPTABLE_CREDENTIAL" final "the credential does not meet the rules",
    94 InconsistentVoterSet "INCONSISTENT_VOTER_SET" final "the sets of voters differ",
    95 InvalidUpdateVersion "INVALID_UPDATE_VERSION" final "the version of the update is not valid",
    96 FeatureUpdateFailed "FEATURE_UPDATE_FAILED" final "the feature could not be updated",
    97 PrincipalDeserializationFailure "PRINCIPAL_DESERIALIZATION_FAILURE" final "the forwarded principal cannot be read",
    98 SnapshotNotFound "SNAPSHOT_NOT_FOUND" final "there is no such snapshot",
    99 PositionOutOfRange "POSITION_OUT_OF_RANGE" final "the position lies outside the snapshot",
    100 UnknownTopicId "UNKNOWN_TOPIC_ID" retry "this broker knows no topic of this id",
    101 DuplicateBrokerRegistration "DUPLICATE_BROKER_REGISTRATION" final "a broker of this id is registered already",
    102 BrokerIdNotRegistered "BROKER_ID_NOT_REGISTERED" final "no broker of this id is registered",
    103 InconsistentTopicId "INCONSISTENT_TOPIC_ID" retry "the topic id of the log differs from that of the request",
    104 InconsistentClusterId "INCONSISTENT_CLUSTER_ID" final "the request is meant for another cluster",
    105 TransactionalIdNotFound "TRANSACTIONAL_ID_NOT_FOUND" final "there is no such transactional id",
    106 FetchSessionTopicIdError "FETCH_SESSION_TOPIC_ID_ERROR" retry "the fetch session mixes topic names and topic ids",
    107 IneligibleReplica "INELIGIBLE_REPLICA" final "the replica may not join the in-sync set",
    108 NewLeaderElected "NEW_LEADER_ELECTED" final "the change also elected another primary",
    109 OffsetMovedToTieredStorage "OFFSET_MOVED_TO_TIERED_STORAGE" final "the offset lives in tiered storage",
    110 FencedMemberEpoch "FENCED_MEMBER_EPOCH" final "the member's epoch was fenced by the coordinator",
    111 UnreleasedInstanceId "UNRELEASED_INSTANCE_ID" final "the instance id is still used by another member",
    112 UnsupportedAssignor "UNSUPPORTED_ASSIGNOR" final "the group does not support the assignor",
    113 StaleMemberEpoch "STALE_MEMBER_EPOCH" final "the member's epoch is stale",
    114 MismatchedEndpointType "MISMATCHED_ENDPOINT_TYPE" final "the request went to an endpoint of the wrong type",
    115 UnsupportedEndpointType "UNSUPPORTED_ENDPOINT_TYPE" final "the type of endpoint is not supported",
    116 UnknownControllerId "UNKNOWN_CONTROLLER_ID" final "there is no controller of this id",
    117 UnknownSubscriptionId "UNKNOWN_SUBSCRIPTION_ID" final "there is no telemetry subscription of this id",
    118 TelemetryTooLarge "TELEMETRY_TOO_LARGE" final "the telemetry is larger than the broker accepts",
    119 InvalidRegistration "INVALID_REGISTRATION" final "the broker's registration is invalid",
    120 TransactionAbortable "TRANSACTION_ABORTABLE" final "the transaction hit an error and must be aborted",
    121 InvalidRecordState "INVALID_RECORD_STATE" final "the record's acquisition state does not allow this",
    122 ShareSessionNotFound "SHARE_SESSION_NOT_FOUND" retry "there is no such share session",
    123 InvalidShareSessionEpoch "INVALID_SHARE_SESSION_EPOCH" retry "the epoch of the share session is not the expected one",
    124 FencedStateEpoch "FENCED_STATE_EPOCH" final "the state epoch of the share coordinator is fenced",
    125 InvalidVoterKey "INVALID_VOTER_KEY" final "the voter's key is not the receiver's",
    126 DuplicateVoter "DUPLICATE_VOTER" final "the voter is in the set already",
    127 VoterNotFound "VOTER_NOT_FOUND" final "the voter is not in the set",
    128 InvalidRegularExpression "INVALID_REGULAR_EXPRESSION" final "the regular expression is invalid",
    129 RebootstrapRequired "REBOOTSTRAP_REQUIRED" final "the client must start again from its bootstrap addresses",
    130 StreamsInvalidTopology "STREAMS_INVALID_TOPOLOGY" final "the topology is invalid",
    131 StreamsInvalidTopologyEpoch "STREAMS_INVALID_TOPOLOGY_EPOCH" final "the epoch of the topology is invalid",
    132 StreamsTopologyFenced "STREAMS_TOPOLOGY_FENCED" final "the epoch of the topology is outdated",
    133 ShareSessionLimitReached "SHARE_SESSION_LIMIT_REACHED" retry "the broker holds as many share sessions as it may",
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The code with this number; a number of a later Kafka becomes [`Self::UnknownServerError`].
    pub const fn from_code_lossy(code: i16) -> Self {
        match Self::from_code(code) {
            Some(known) => known,
            None => Self::UnknownServerError,
        }
    }

    /// Whether this is [`Self::None`].
    pub const fn is_none(self) -> bool {
        matches!(self, Self::None)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_names_and_codes_agree() {
        for &error in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(error.code()), Some(error));
            assert!(!error.description().is_empty());
        }
        assert_eq!(ErrorCode::from_code(1000), None);
        assert_eq!(ErrorCode::from_code_lossy(1000), ErrorCode::UnknownServerError);
        assert_eq!(ErrorCode::default(), ErrorCode::None);
        assert_eq!(ErrorCode::NotLeaderOrFollower.to_string(), "NOT_LEADER_OR_FOLLOWER");
    }
}
