//! Which nodes vote on the metadata: an odd number of those that live, so that one more node never makes it weaker.

use std::{collections::BTreeSet, time::Duration};

/// The most nodes that vote: with five two may fail at once, and each more makes every change slower.
pub const VOTERS_MAX: usize = 5;

/// A voter that was not heard for so long is replaced if another node can take its place.
pub const GONE_AFTER: Duration = Duration::from_secs(60);

/// The voters that should be, given those that are; `None` when they are right. `silence` tells how long ago a node was
/// heard. At most one voter is replaced at a time.
pub fn choose(
    voters: &BTreeSet<u32>,
    nodes: &BTreeSet<u32>,
    me: u32,
    alive_max: Duration,
    silence: impl Fn(u32) -> Duration,
) -> Option<BTreeSet<u32>> {
    let mut wanted: BTreeSet<u32> = voters.intersection(nodes).copied().collect();
    wanted.insert(me);
    let mut spare: BTreeSet<u32> =
        nodes.iter().copied().filter(|node| !wanted.contains(node) && silence(*node) < alive_max).collect();
    if let Some(gone) = wanted.iter().copied().find(|node| *node != me && silence(*node) >= GONE_AFTER)
        && let Some(comes) = spare.pop_first()
    {
        wanted.remove(&gone);
        wanted.insert(comes);
    }
    while wanted.len() < VOTERS_MAX
        && let Some(comes) = spare.pop_first()
    {
        wanted.insert(comes);
    }
    if wanted.len().is_multiple_of(2) {
        // The newcomer waits for the next one; where nobody is new somebody has to go, the quietest.
        let newcomer = wanted.difference(voters).copied().filter(|node| *node != me).max();
        let quietest = || wanted.iter().copied().filter(|node| *node != me).max_by_key(|node| silence(*node));
        if let Some(waits) = newcomer.or_else(quietest) {
            wanted.remove(&waits);
        }
    }
    (wanted != *voters).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nodes: &[u32]) -> BTreeSet<u32> {
        nodes.iter().copied().collect()
    }

    /// voters | nodes | silent ones | gone ones | what should be.
    #[test]
    fn an_odd_number_of_those_that_live_votes() {
        type Row<'a> = (&'a [u32], &'a [u32], &'a [u32], &'a [u32], Option<&'a [u32]>);
        let table: [Row<'_>; 10] = [
            (&[1], &[1], &[], &[], None),
            (&[1], &[1, 2], &[], &[], None),
            (&[1], &[1, 2, 3], &[], &[], Some(&[1, 2, 3])),
            (&[1], &[1, 2, 3], &[3], &[], None),
            (&[1, 2, 3], &[1, 2, 3, 4], &[], &[], None),
            (&[1, 2, 3], &[1, 2, 3, 4, 5], &[], &[], Some(&[1, 2, 3, 4, 5])),
            (&[1, 2, 3], &[1, 2, 3, 4], &[], &[3], Some(&[1, 2, 4])),
            (&[1, 2, 3], &[1, 2, 3], &[], &[3], None),
            (&[1, 2, 3], &[1, 2], &[], &[], Some(&[1])),
            (&[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5, 6, 7], &[], &[], None),
        ];
        for (voters, nodes, silent, gone, wanted) in table {
            let silence = |node: u32| match (gone.contains(&node), silent.contains(&node)) {
                (true, _) => GONE_AFTER,
                (_, true) => Duration::from_secs(2),
                _ => Duration::ZERO,
            };
            let chosen = choose(&set(voters), &set(nodes), 1, Duration::from_millis(600), silence);
            assert_eq!(chosen, wanted.map(set), "{voters:?} of {nodes:?}, silent {silent:?}, gone {gone:?}");
        }
    }
}
