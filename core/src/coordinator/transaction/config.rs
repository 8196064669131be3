//! The settings of the transaction coordinator, with Kafka's defaults.

use std::time::Duration;

/// Limits and spans. Read once per request; a change holds from then on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransactionConfig {
    /// The longest timeout a producer may ask for (Kafka: `transaction.max.timeout.ms`).
    pub timeout_max: Duration,
    /// An id without an open transaction is forgotten after this long (Kafka: `transactional.id.expiration.ms`).
    pub id_retention: Duration,
    /// Most transactional ids of one coordinator.
    pub ids_max: usize,
    /// Most partitions in one transaction: its record must stay well below the largest batch.
    pub partitions_max: usize,
}

impl Default for TransactionConfig {
    fn default() -> Self {
        Self {
            timeout_max: Duration::from_secs(15 * 60),
            id_retention: Duration::from_secs(7 * 24 * 3600),
            ids_max: 100_000,
            partitions_max: 10_000,
        }
    }
}
