//! The commands one by one.

use super::*;

fn cluster(node_count: u32) -> ClusterImage {
    let mut image = ClusterImage::default();
    for node in 1..=node_count {
        apply(&mut image, &Command::start(node)).expect("starts");
    }
    image
}

fn create(name: &str, partition_count: u32, replication_factor: u16) -> Command {
    Command::CreateTopic {
        name: name.into(),
        id: TopicId::new([9; 16]).to_string(),
        partition_count,
        replication_factor,
        overrides: BTreeMap::new(),
        replicas: Vec::new(),
    }
}

#[test]
fn partitions_are_spread_over_nodes_and_those_that_lead_over_cores() {
    let mut image = cluster(3);
    apply(&mut image, &create("t", 6, 2)).expect("creates");
    let topic = image.topic("t").expect("is there").clone();
    for node in 1..=3 {
        let slots = |is_wanted: fn(usize) -> bool| -> Vec<u32> {
            let replicas =
                topic.partitions.iter().flat_map(|partition| partition.replicas.iter().enumerate());
            let here = replicas.filter(|(place, replica)| is_wanted(*place) && replica.node == node);
            here.map(|(_, replica)| replica.slot).collect()
        };
        assert_eq!(slots(|place| place == 0), [0, 1], "leaders on {node}");
        assert_eq!(slots(|place| place > 0), [2, 3], "others on {node}");
    }
}

#[test]
fn new_partitions_go_to_racks_apart_and_not_to_nodes_that_drain() {
    let mut image = cluster(5);
    for (node, rack) in [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "b")] {
        let with_rack = NodeImage { rack: rack.into(), ..(*image.nodes[&node]).clone() };
        image.nodes.insert(node, Arc::new(with_rack));
    }
    image.draining.insert(4);
    apply(&mut image, &create("t", 12, 2)).expect("creates");
    for partition in &image.topic("t").expect("is there").partitions {
        let nodes: Vec<u32> = partition.replicas.iter().map(|replica| replica.node).collect();
        assert!(nodes.iter().any(|node| [1, 2].contains(node)), "{nodes:?}");
        assert!(nodes.iter().any(|node| [3, 5].contains(node)), "{nodes:?}");
    }
    image.draining.extend([1, 2, 3]);
    let refused = apply(&mut image, &create("u", 1, 2));
    assert_eq!(refused, Err(MetadataError::InvalidReplicationFactor { wanted: 2, available: 1 }));
    assert!(image.topic("u").is_none());
}

#[test]
fn growing_goes_on_where_creation_stopped() {
    let mut image = cluster(1);
    apply(&mut image, &create("t", 2, 1)).expect("creates");
    apply(&mut image, &Command::GrowTopic { name: "t".into(), partition_count: 4, replicas: Vec::new() })
        .expect("grows");
    let slots: Vec<u32> =
        image.topic("t").expect("is there").partitions.iter().map(|p| p.replicas[0].slot).collect();
    assert_eq!(slots, [0, 1, 2, 3]);
    let again =
        apply(&mut image, &Command::GrowTopic { name: "t".into(), partition_count: 4, replicas: Vec::new() });
    assert!(matches!(again, Err(MetadataError::InvalidPartitionCount(_))));
}

#[test]
fn a_restarted_node_leads_in_a_new_epoch() {
    let mut image = cluster(1);
    apply(&mut image, &create("t", 1, 1)).expect("creates");
    let start = Command::StartNode {
        node: 1,
        host: "h".into(),
        port: 1,
        core_count: 4,
        port_mode: PortMode::Single,
        peer_address: String::new(),
        rack: String::new(),
    };
    apply(&mut image, &start).expect("restarts");
    assert_eq!(image.topic("t").expect("is there").partitions[0].epoch, 1);
    assert_eq!(image.topics_by_id.values().next().expect("is there").partitions[0].epoch, 1);
}

#[test]
fn refusals_change_nothing() {
    let mut image = cluster(1);
    apply(&mut image, &create("t", 1, 1)).expect("creates");
    let before = format!("{image:?}");
    for bad in [
        create("t", 1, 1),
        create("a b", 1, 1),
        create("u", 0, 1),
        create("u", PARTITION_COUNT_MAX + 1, 1),
        create("u", 1, 2),
        Command::DeleteTopic { name: "no".into() },
        Command::AlterTopic {
            name: "t".into(),
            changes: BTreeMap::from([("durability".into(), Some("x".into()))]),
        },
        Command::AlterTopic {
            name: "t".into(),
            changes: BTreeMap::from([("min.insync.replicas".into(), Some("2".into()))]),
        },
    ] {
        assert!(apply(&mut image, &bad).is_err(), "{bad:?}");
        assert_eq!(format!("{image:?}"), before);
    }
}

#[test]
fn deleted_topics_wait_for_their_files() {
    let mut image = cluster(1);
    apply(&mut image, &create("t", 1, 1)).expect("creates");
    apply(&mut image, &Command::DeleteTopic { name: "t".into() }).expect("deletes");
    assert!(image.topic("t").is_none() && image.topics_by_id.is_empty());
    let id = *image.deleting.first_key_value().expect("waits").0;
    let forget = |node| Command::ForgetTopic { id: id.to_string(), node };
    apply(&mut image, &forget(7)).expect("does nothing");
    assert!(!image.deleting.is_empty());
    apply(&mut image, &forget(1)).expect("forgets");
    assert!(image.deleting.is_empty());
}

#[test]
fn producer_ids_are_never_handed_out_twice() {
    let mut image = cluster(1);
    let take = Command::TakeProducerIds { count: 10 };
    assert_eq!(apply(&mut image, &take), Ok(Outcome::ProducerIds(0)));
    assert_eq!(apply(&mut image, &take), Ok(Outcome::ProducerIds(10)));
}
