//! Tests of the Raft log on the in-memory disk: restart, cuts, torn tails, damage, and the library's own tests of a log.

use futures_lite::future::block_on;
use heddle_log_store::MemoryDisk;
use openraft::{EntryPayload, storage::RaftLogStorageExt};
use proptest::prelude::*;

use super::*;
use crate::metadata::{
    Command,
    raft::tests::{Virtual, new_disk},
};

const DIR: &str = "/data/metadata";

type Store = LogStore<Virtual, MemoryDisk>;

async fn open(disk: &MemoryDisk) -> Store {
    try_open(disk).await.expect("opens")
}

async fn try_open(disk: &MemoryDisk) -> Result<Store, MetadataLogError> {
    let snapshots = Rc::new(SnapshotMark::default());
    snapshots.reach(log_id(u64::MAX, u64::MAX));
    LogStore::open(disk.clone(), Path::new(DIR), snapshots).await
}

fn entry(term: u64, index: u64) -> Entry<Virtual> {
    let command = Command::DeleteTopic { name: format!("{term}-{index}") };
    Entry::<Virtual> { log_id: log_id(term, index), payload: EntryPayload::Normal(command) }
}

async fn append(store: &mut Store, term: u64, indexes: std::ops::Range<u64>) {
    let entries: Vec<_> = indexes.map(|index| entry(term, index)).collect();
    store.blocking_append(entries).await.expect("appends");
}

/// What the log holds, for comparison.
async fn shape(store: &mut Store) -> String {
    let state = store.get_log_state().await.expect("is there");
    let entries = store.try_get_log_entries(..).await.expect("reads");
    let ids: Vec<String> = entries.iter().map(|entry| entry.log_id.to_string()).collect();
    let vote = store.read_vote().await.expect("reads");
    let committed = store.read_committed().await.expect("reads");
    format!("{:?} {:?} {ids:?} {vote:?} {committed:?}", state.last_purged_log_id, state.last_log_id)
}

#[test]
fn what_was_written_is_there_after_a_crash() {
    block_on(async {
        let mut disk = new_disk(1).await;
        let mut store = open(&disk).await;
        store.save_vote(&Vote::new(3, 2)).await.expect("saves");
        append(&mut store, 1, 0..5).await;
        store.truncate(log_id(1, 3)).await.expect("cuts");
        append(&mut store, 3, 3..8).await;
        store.save_committed(Some(log_id(3, 6))).await.expect("saves");
        store.purge(log_id(1, 1)).await.expect("purges");
        let before = shape(&mut store).await;
        assert_eq!(store.try_get_log_entries(3..5).await.expect("reads"), [entry(3, 3), entry(3, 4)]);
        for _ in 0..3 {
            disk = disk.crash();
            let mut store = open(&disk).await;
            assert_eq!(shape(&mut store).await, before);
        }
        let mut store = open(&disk).await;
        append(&mut store, 3, 8..9).await;
    });
}

#[test]
fn a_snapshot_ahead_of_the_log_replaces_it() {
    block_on(async {
        let mut store = open(&new_disk(1).await).await;
        append(&mut store, 7, 0..3).await;
        store.catch_up_with(log_id(4, 1)).await.expect("has nothing to do");
        assert_eq!(store.get_log_state().await.expect("is there").last_log_id, Some(log_id(7, 2)));
        // The entries were never committed, although their term is the higher one.
        store.catch_up_with(log_id(6, 10)).await.expect("purges");
        let state = store.get_log_state().await.expect("is there");
        assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(log_id(6, 10)), Some(log_id(6, 10))));
        append(&mut store, 8, 11..12).await;
    });
}

#[test]
fn damage_before_the_end_is_refused_and_a_torn_end_is_cut() {
    block_on(async {
        let disk = new_disk(1).await;
        let mut store = open(&disk).await;
        for index in 0..3 {
            append(&mut store, 1, index..index + 1).await;
        }
        drop(store);
        let path = Path::new(DIR).join("raft.log");
        assert!(disk.flip_bit(&path, 2 * 4096 + 50, 0));
        let mut store = open(&disk).await;
        assert_eq!(store.get_log_state().await.expect("is there").last_log_id, Some(log_id(1, 1)));
        let bytes = disk.files().iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        assert_eq!(bytes, 2 * 4096, "the rest is gone from the file");
        append(&mut store, 2, 2..3).await;
        drop(store);
        assert!(disk.flip_bit(&path, 4096 + 50, 0));
        assert!(matches!(try_open(&disk).await, Err(MetadataLogError::Damaged { position: 4096, .. })));
    });
}

#[test]
fn a_file_that_is_mostly_stale_is_written_anew() {
    block_on(async {
        let disk = new_disk(1).await;
        let mut store = open(&disk).await;
        append(&mut store, 1, 0..200).await;
        store.purge(log_id(1, 20)).await.expect("purges");
        for term in 1..3000 {
            store.save_vote(&Vote::new(term, 1)).await.expect("saves");
        }
        let before = shape(&mut store).await;
        assert!(disk.used_bytes() < 5 << 20, "{}", disk.used_bytes());
        let disk = disk.crash();
        assert_eq!(shape(&mut open(&disk).await).await, before);
    });
}

/// What may happen to a log.
#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Truncate(u64),
    Purge(u64),
    Vote(u64),
    Commit(u64),
    Reopen,
    /// The power goes in the middle of an append of so many entries, after so many polls.
    TornTail(u64, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..5_u64).prop_map(Step::Append),
        1 => (0..4_u64).prop_map(Step::Truncate),
        1 => (0..4_u64).prop_map(Step::Purge),
        1 => (0..1000_u64).prop_map(Step::Vote),
        1 => (0..3_u64).prop_map(Step::Commit),
        1 => Just(Step::Reopen),
        2 => ((1..200_u64), (0..4_usize)).prop_map(|(count, polls)| Step::TornTail(count, polls)),
    ]
}

/// Does a step to a log and gives it back, with what it must hold now.
async fn take_step(store: Store, disk: &mut MemoryDisk, step: Step, turn: u64) -> Store {
    let mut store = store;
    let state = store.get_log_state().await.expect("is there");
    let (last, purged) = (state.last_log_id, state.last_purged_log_id);
    let next = last.map_or(0, |last| last.index + 1);
    let first = purged.map_or(0, |purged| purged.index + 1);
    match step {
        Step::Append(count) => append(&mut store, turn, next..next + count).await,
        Step::Truncate(count) if next > first => {
            let from = next.saturating_sub(count).max(first);
            store.truncate(log_id(turn, from)).await.expect("cuts");
        }
        Step::Purge(count) if next > first => {
            let upto = (first + count).min(next - 1);
            let entries = store.try_get_log_entries(upto..=upto).await.expect("reads");
            store.purge(entries[0].log_id).await.expect("purges");
        }
        Step::Vote(term) => store.save_vote(&Vote::new(term, term % 5)).await.expect("saves"),
        Step::Commit(back) if last.is_some() => {
            let at = next.saturating_sub(1 + back).max(first);
            let entries = store.try_get_log_entries(at..=at).await.expect("reads");
            store.save_committed(entries.first().map(|entry| entry.log_id)).await.expect("saves");
        }
        Step::Reopen => {
            let before = shape(&mut store).await;
            *disk = disk.crash();
            store = open(disk).await;
            assert_eq!(shape(&mut store).await, before);
        }
        Step::TornTail(count, polls) => {
            let before = shape(&mut store).await;
            let entries: Vec<_> = (next..next + count).map(|index| entry(turn, index)).collect();
            let mut torn = Box::pin(store.blocking_append(entries));
            for _ in 0..polls {
                if futures_lite::future::poll_once(&mut torn).await.is_some() {
                    break;
                }
            }
            drop(torn);
            let written = store.get_log_state().await.expect("is there").last_log_id != last;
            let after = shape(&mut store).await;
            *disk = disk.crash();
            store = open(disk).await;
            let found = shape(&mut store).await;
            // Whole or not at all; what was acknowledged is there.
            if written {
                assert_eq!(found, after);
            } else if found != before {
                let state = store.get_log_state().await.expect("is there");
                assert_eq!(state.last_log_id, Some(log_id(turn, next + count - 1)));
            }
        }
        Step::Truncate(_) | Step::Purge(_) | Step::Commit(_) => {}
    }
    store
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_history_survives_crashes(seed in any::<u64>(), steps in proptest::collection::vec(step(), 1..40)) {
        block_on(async {
            let mut disk = new_disk(seed).await;
            let mut store = open(&disk).await;
            for (turn, step) in (1..).zip(steps) {
                store = take_step(store, &mut disk, step, turn).await;
            }
        });
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..7_u32) {
        block_on(async {
            let disk = new_disk(1).await;
            let mut store = open(&disk).await;
            let frame = frame(Kind(kind), 1, 0, &bytes).expect("is small");
            store.journal.append(&frame).await.expect("writes");
            let _refused = try_open(&disk).await;
        });
    }
}
