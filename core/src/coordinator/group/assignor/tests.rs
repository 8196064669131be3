//! The assignors against what they promise, on any subscriptions.

use std::collections::BTreeMap;

use heddle_proto::ids::{PartitionIndex, TopicId};
use proptest::{collection, prelude::*};

use super::*;

fn topic(index: u8, partition_count: u32) -> Topic {
    Topic { id: TopicId::new([index; 16]), partition_count }
}

fn names(count: usize) -> Vec<MemberId> {
    (0..count).map(|index| MemberId::from(format!("m{index:03}").as_str())).collect()
}

/// Runs an assignor on members that subscribe to some of the topics, from what they had.
fn run(
    assignor: AssignorName,
    names: &[MemberId],
    subscriptions: &[Vec<Topic>],
    before: &[Assignment],
) -> Vec<Assignment> {
    let none = Assignment::new();
    let members: Vec<Subscriber<'_>> = names
        .iter()
        .zip(subscriptions)
        .enumerate()
        .map(|(index, (member, topics))| Subscriber {
            member,
            instance: None,
            topics: topics.clone().into(),
            current: before.get(index).unwrap_or(&none),
        })
        .collect();
    assign(assignor, &members)
}

fn all_partitions(subscriptions: &[Vec<Topic>]) -> Assignment {
    subscriptions.iter().flatten().flat_map(|topic| topic.partitions()).collect()
}

/// Everything has one owner, who wanted it.
fn check(subscriptions: &[Vec<Topic>], assigned: &[Assignment]) -> Result<(), TestCaseError> {
    prop_assert_eq!(assigned.len(), subscriptions.len());
    prop_assert_eq!(assigned.iter().map(Assignment::len).sum::<usize>(), all_partitions(subscriptions).len());
    let union: Assignment = assigned.iter().flatten().copied().collect();
    prop_assert_eq!(union, all_partitions(subscriptions));
    for (topics, assignment) in subscriptions.iter().zip(assigned) {
        for partition in assignment {
            prop_assert!(topics.iter().any(|topic| topic.id == partition.topic));
        }
    }
    Ok(())
}

fn moved_count(before: &[Assignment], after: &[Assignment]) -> usize {
    before.iter().zip(after).map(|(before, after)| after.difference(before).count()).sum()
}

fn spread(assigned: &[Assignment]) -> usize {
    let counts = assigned.iter().map(Assignment::len);
    counts.clone().max().unwrap_or(0) - counts.min().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 300 } else { 3_000 }))]

    #[test]
    fn uniform_is_even_and_moves_no_more_than_it_must(
        counts in collection::vec(0..9u32, 1..5),
        member_count in 1..7usize,
        change in 0..5usize,
    ) {
        let topics: Vec<Topic> = (0u8..).zip(&counts).map(|(index, count)| topic(index, *count)).collect();
        let names = names(member_count + 1);
        let before = run(AssignorName::Uniform, &names[..member_count], &vec![topics.clone(); member_count], &[]);
        check(&vec![topics.clone(); member_count], &before)?;
        prop_assert!(spread(&before) <= 1);
        let same = run(AssignorName::Uniform, &names[..member_count], &vec![topics.clone(); member_count], &before);
        prop_assert_eq!(&same, &before, "nothing has changed");
        // One comes or one goes.
        let (names, before): (&[MemberId], &[Assignment]) = if change == 0 && member_count > 1 {
            (&names[1..member_count], &before[1..])
        } else {
            (&names, &before)
        };
        let subscriptions = vec![topics.clone(); names.len()];
        let after = run(AssignorName::Uniform, names, &subscriptions, before);
        check(&subscriptions, &after)?;
        prop_assert!(spread(&after) <= 1);
        let kept: usize = before.iter().map(Assignment::len).sum();
        let free = all_partitions(&subscriptions).len() - kept;
        let newcomer = if names.len() > before.len() { after.last().map_or(0, Assignment::len) } else { 0 };
        prop_assert_eq!(moved_count(before, &after), free.max(newcomer) - newcomer);
    }

    #[test]
    fn unequal_subscriptions_are_met_as_evenly_as_a_move_can_make_them(
        counts in collection::vec(1..7u32, 1..6),
        wishes in collection::vec(any::<u8>(), 1..7),
        before_wishes in collection::vec(any::<u8>(), 1..7),
    ) {
        let topics: Vec<Topic> = (0u8..).zip(&counts).map(|(index, count)| topic(index, *count)).collect();
        let subscribe = |wishes: &[u8]| -> Vec<Vec<Topic>> {
            let of = |wish: &u8| topics.iter().copied().enumerate()
                .filter(|(index, _)| wish & (1 << index) != 0).map(|(_, topic)| topic).collect();
            wishes.iter().map(of).collect()
        };
        let names = names(wishes.len().max(before_wishes.len()));
        let before = run(AssignorName::Uniform, &names[..before_wishes.len()], &subscribe(&before_wishes), &[]);
        let subscriptions = subscribe(&wishes);
        let after = run(AssignorName::Uniform, &names[..wishes.len()], &subscriptions, &before);
        check(&subscriptions, &after)?;
        let mut owners = BTreeMap::new();
        for (index, assignment) in after.iter().enumerate() {
            owners.extend(assignment.iter().map(|partition| (*partition, index)));
        }
        for (partition, owner) in owners {
            for (index, topics) in subscriptions.iter().enumerate() {
                if topics.iter().any(|topic| topic.id == partition.topic) {
                    prop_assert!(after[owner].len() <= after[index].len() + 1, "a move would make it more even");
                }
            }
        }
        let again = run(AssignorName::Uniform, &names[..wishes.len()], &subscriptions, &after);
        prop_assert_eq!(again, after, "nothing has changed");
    }

    #[test]
    fn range_gives_neighbours_and_the_same_numbers_of_all_topics(
        count in 1..12u32,
        member_count in 1..7usize,
    ) {
        let topics = vec![topic(0, count), topic(1, count)];
        let subscriptions = vec![topics; member_count];
        let after = run(AssignorName::Range, &names(member_count), &subscriptions, &[]);
        check(&subscriptions, &after)?;
        for assignment in &after {
            let of = |index: u8| -> Vec<u32> {
                let id = TopicId::new([index; 16]);
                assignment.iter().filter(|partition| partition.topic == id).map(|partition| partition.partition.get()).collect()
            };
            prop_assert_eq!(of(0), of(1));
            prop_assert!(of(0).windows(2).all(|pair| pair[1] == pair[0] + 1));
        }
        prop_assert!(spread(&after) <= 2);
        let first = after[0].first().map(|partition| partition.partition);
        prop_assert_eq!(first, Some(PartitionIndex::new(0)));
    }
}

#[test]
fn nobody_gets_nothing_and_static_names_order_ranges() {
    assert!(assign(AssignorName::Uniform, &[]).is_empty());
    assert!(assign(AssignorName::Range, &[]).is_empty());
    let (members, none) = (names(2), Assignment::new());
    let instances: [InstanceId; 2] = ["z".into(), "y".into()];
    let subscribers: Vec<Subscriber<'_>> = members
        .iter()
        .zip(&instances)
        .map(|(member, instance)| Subscriber {
            member,
            instance: Some(instance),
            topics: [topic(0, 3)].into(),
            current: &none,
        })
        .collect();
    let counts: Vec<usize> = assign(AssignorName::Range, &subscribers).iter().map(Assignment::len).collect();
    assert_eq!(counts, [1, 2]);
}
