//! Reading a coordinator's state back from its partition.

use futures_lite::future;
use heddle_log_store::Disk;

use super::{Host, StateMachine, batch};
use crate::{partition::fetch::FetchError, runtime::watch::Watch};

/// How much is read and replayed before other tasks get the core: well below a millisecond of work.
const PIECE_BYTES: usize = 128 << 10;

/// Why there is no machine.
pub enum LoadError {
    /// The partition is gone, or the host was stopped.
    Gone,
    /// The records cannot be read or understood.
    Failed(String),
}

impl<M: StateMachine, D: Disk> Host<M, D> {
    /// A machine with every record of the partition. What an earlier machine of this host has appended is waited for.
    pub(super) async fn load(&self) -> Result<M, LoadError> {
        let partition = &self.parts.partition;
        let mut machine = (self.parts.make)();
        let mut next = partition.start();
        while next < partition.log().positions().written {
            let watch = Watch::new();
            let flag = watch.flag(0);
            partition.watch(&flag);
            if self.is_stopped() || partition.is_deleted() {
                return Err(LoadError::Gone);
            }
            if partition.committed() <= next {
                watch.wait().await;
                continue;
            }
            let fetched = partition.fetch(next, PIECE_BYTES).await.map_err(|error| match error {
                FetchError::Deleted => LoadError::Gone,
                other => LoadError::Failed(other.to_string()),
            })?;
            if fetched.batches.is_empty() {
                next = fetched.committed;
            }
            for bytes in fetched.batches {
                next = batch::replay(&mut machine, &bytes, next).map_err(LoadError::Failed)?;
            }
            future::yield_now().await;
        }
        if partition.is_deleted() { Err(LoadError::Gone) } else { Ok(machine) }
    }
}
