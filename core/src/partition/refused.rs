//! Batches of idempotent producers that were refused for now, so that those sent right behind them are refused alike.
//!
//! A producer has several requests in flight. If the first is refused with an error it retries, the next ones leave a gap;
//! to call that out of order makes librdkafka begin another producer epoch, and what it then sends again is not known as a
//! retry any more. They get the error of the first one instead.

use ahash::AHashMap;
use heddle_proto::{
    batch::BatchHeader,
    error::ErrorCode,
    ids::{ProducerEpoch, ProducerId, Sequence},
};

use super::producers::BATCHES_REMEMBERED;

/// Requests that may be on their way behind a refused one: clients have as many in flight as batches are remembered.
const BEHIND_MAX: usize = BATCHES_REMEMBERED - 1;

/// How many producers are remembered. Beyond that all are forgotten: they are told of a gap then, as without this table.
const PRODUCERS_MAX: usize = 1_000;

#[derive(Clone, Copy, Debug)]
struct Refused {
    epoch: ProducerEpoch,
    first: Sequence,
    code: ErrorCode,
    left: usize,
}

/// The table of one partition, in memory only: a new connection begins with the batch that was refused.
#[derive(Debug, Default)]
pub struct RefusedBatches {
    by_producer: AHashMap<ProducerId, Refused>,
}

impl RefusedBatches {
    /// A batch was refused with an error that its producer retries.
    pub fn note(&mut self, batch: &BatchHeader, code: ErrorCode) {
        if batch.producer_id == ProducerId::NONE {
            return;
        }
        if self.by_producer.len() >= PRODUCERS_MAX {
            self.by_producer.clear();
        }
        let (epoch, first) = (batch.producer_epoch, batch.base_sequence);
        let refused = Refused { epoch, first, code, left: BEHIND_MAX };
        self.by_producer.insert(batch.producer_id, refused);
    }

    /// Whether a batch was sent behind a refused one that has not come again; then with which code that was refused, and
    /// its first sequence.
    pub fn is_behind(&mut self, batch: &BatchHeader) -> Option<(ErrorCode, Sequence)> {
        if self.by_producer.is_empty() {
            return None;
        }
        let refused = self.by_producer.get_mut(&batch.producer_id)?;
        if refused.epoch != batch.producer_epoch || !batch.base_sequence.is_after(refused.first) {
            return None;
        }
        refused.left = refused.left.checked_sub(1)?;
        Some((refused.code, refused.first))
    }

    /// A batch of this producer was appended.
    pub fn forget(&mut self, producer: ProducerId) {
        if !self.by_producer.is_empty() {
            self.by_producer.remove(&producer);
        }
    }
}
