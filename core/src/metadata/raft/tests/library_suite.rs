//! The library's own tests of a log and a state machine, on ours.

use std::path::Path;

use heddle_log_store::MemoryDisk;
use openraft::testing::{StoreBuilder, Suite};

use super::{TypesHere, virtual_time::Virtual};
use crate::metadata::raft::{
    entry::log_id, log_store::LogStore, state_machine::StateMachine, types::StorageError,
};

type Log = LogStore<Virtual, MemoryDisk>;
type Machine = StateMachine<MemoryDisk>;

struct Build;

impl StoreBuilder<TypesHere, Log, Machine, ()> for Build {
    async fn build(&self) -> Result<((), Log, Machine), StorageError> {
        let (disk, dir) = (MemoryDisk::new(1), Path::new("/data/metadata"));
        let publish = std::rc::Rc::new(|_| Box::pin(async {}) as _);
        let machine = StateMachine::open(disk.clone(), dir.to_owned(), publish).await.expect("an empty disk");
        // These tests cut logs that no snapshot covers.
        machine.snapshots().reach(log_id(u64::MAX, u64::MAX));
        let log = LogStore::open(disk, dir, machine.snapshots()).await.expect("an empty disk");
        Ok(((), log, machine))
    }
}

#[test]
fn the_librarys_own_tests_of_a_log_and_a_state_machine_pass() {
    Suite::test_all(Build).expect("each of them");
}
