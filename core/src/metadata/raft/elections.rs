//! Spreads elections that find no leader, so that a later one does.
//!
//! The consensus library draws a node's election time once, when the node starts. Two nodes that drew alike would split
//! every vote, and where a disk takes longer to save a vote than an election waits no candidate would ever be heard in
//! time. Raft wants a new draw for each election (Ongaro and Ousterhout 2014, section 5.2); here every node holds back
//! for a random time after each term that it saw begin without a leader, and for longer with every such term in a row.

use std::time::Duration;

use openraft::Raft;

use super::{runtime::Executor, types::Types};

/// How often the time is doubled at most: with the usual election up to some two seconds, longer than any disk takes
/// that is still of use.
const DOUBLINGS_MAX: u32 = 3;

/// Watches the elections of a node, until it stops.
pub async fn spread<E: Executor>(raft: Raft<Types<E>>, election: Duration) {
    let mut metrics = raft.metrics();
    let (mut term, mut fruitless) = (0, 0);
    loop {
        let (now_term, has_leader) = {
            let now = metrics.borrow_and_update();
            (now.current_term, now.current_leader.is_some())
        };
        if has_leader {
            fruitless = 0;
        } else if now_term > term {
            raft.runtime_config().elect(false);
            E::sleep(hold_back::<E>(election, fruitless)).await;
            raft.runtime_config().elect(true);
            fruitless += 1;
        }
        term = now_term.max(term);
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// A time between none and that of the longest election, doubled for each election that found nobody.
fn hold_back<E: Executor>(election: Duration, fruitless: u32) -> Duration {
    let longest = election * 2 * (1 << fruitless.min(DOUBLINGS_MAX));
    let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(E::random() % micros)
}
