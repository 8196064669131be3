//! Producer ids: a core takes a block from the metadata and hands ids out of it without asking again.

use std::cell::Cell;

use heddle_log_store::Disk;
use heddle_proto::ids::{ProducerEpoch, ProducerId};

use super::{Shard, request::OpError, topics::refusal};
use crate::metadata::{Command, Outcome};

/// Ids a core takes at once; what it has left is lost when it stops, and 63 bits are plenty.
const BLOCK_COUNT: u32 = 1000;

/// The rest of a core's block.
#[derive(Debug, Default)]
pub struct Block {
    next: Cell<i64>,
    end: Cell<i64>,
}

impl Block {
    fn take(&self) -> Option<ProducerId> {
        let id = self.next.get();
        (id < self.end.get()).then(|| {
            self.next.set(id + 1);
            ProducerId::new(id)
        })
    }
}

impl<D: Disk> Shard<D> {
    /// A producer id that nobody had before, with its first epoch.
    ///
    /// # Errors
    /// When the metadata cannot be written.
    pub async fn new_producer(&self) -> Result<(ProducerId, ProducerEpoch), OpError> {
        loop {
            if let Some(id) = self.producer_ids.take() {
                return Ok((id, ProducerEpoch::new(0)));
            }
            let outcome = self.propose(Command::TakeProducerIds { count: BLOCK_COUNT }).await;
            match outcome {
                Ok(Outcome::ProducerIds(first)) => {
                    self.producer_ids.next.set(first);
                    self.producer_ids.end.set(first + i64::from(BLOCK_COUNT));
                }
                Ok(_) => return Err(refusal(&crate::metadata::MetadataError::Closing)),
                Err(error) => return Err(refusal(&error)),
            }
        }
    }
}
