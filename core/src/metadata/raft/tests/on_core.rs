//! The same on a real executor and a real disk, in real time.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use heddle_log_store::GlommioDisk;
use heddle_proto::ids::NodeId;

use super::cluster::create_topic;
use crate::{
    metadata::{
        command::Command,
        image::PortMode,
        raft::{CoreExecutor, Node, Options, Transport, TransportError, types::Id},
    },
    runtime::{block_on::block_on, time::sleep},
};

type RealNode = Node<CoreExecutor, GlommioDisk, Direct>;

/// Hands a message straight to the other node.
#[derive(Clone, Default)]
struct Direct {
    nodes: Rc<RefCell<BTreeMap<Id, Rc<RealNode>>>>,
}

impl Transport for Direct {
    async fn call(&self, node: Id, _address: &str, request: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let node = self.nodes.borrow().get(&node).cloned();
        let node = node.ok_or_else(|| TransportError::Unreachable("it is off".to_owned()))?;
        node.take(&request).await.map_err(TransportError::from)
    }
}

async fn start(direct: &Direct, id: u32, dir: &Path) -> Rc<RealNode> {
    let dir = dir.join(id.to_string()).join("metadata");
    let publish = Rc::new(|_| Box::pin(async {}) as _);
    let place = (GlommioDisk::new(), dir.as_path());
    let options = Options::default();
    let node = Node::start(NodeId::new(id), &options, place, Rc::new(direct.clone()), publish);
    let node = node.await.expect("starts");
    direct.nodes.borrow_mut().insert(Id::from(id), node.clone());
    node
}

async fn found(node: &RealNode) {
    node.found("1").await.expect("founds");
    let start = Command::StartNode {
        node: 1,
        host: "h".to_owned(),
        port: 9092,
        core_count: 1,
        port_mode: PortMode::PerCore,
        peer_address: String::new(),
        rack: String::new(),
    };
    node.propose(start).await.expect("registers");
}

#[test]
fn three_nodes_on_a_real_disk_elect_replicate_and_come_back() {
    let dir = tempfile::tempdir_in(".").expect("a folder");
    let run = block_on(async {
        let direct = Direct::default();
        let first = start(&direct, 1, dir.path()).await;
        found(&first).await;
        for id in [2, 3] {
            start(&direct, id, dir.path()).await;
            first.add_learner(NodeId::new(id), "").await.expect("learns");
        }
        let all: BTreeSet<NodeId> = [1, 2, 3].into_iter().map(NodeId::new).collect();
        first.change_voters(&all).await.expect("changes");
        let begun = Instant::now();
        for turn in 0..100 {
            first.propose(create_topic(turn)).await.expect("creates");
        }
        let wrote = begun.elapsed();
        direct.nodes.borrow_mut().remove(&1);
        first.stop().await;
        drop(first);
        let begun = Instant::now();
        let second = direct.nodes.borrow().get(&2).cloned().expect("runs");
        second.propose(create_topic(100)).await.expect("another one leads");
        let replaced = begun.elapsed();
        let again = start(&direct, 1, dir.path()).await;
        while again.image().topics.len() < 101 {
            sleep(Duration::from_millis(10)).await;
        }
        println!("100 commands one by one in {wrote:?}, a new leader in {replaced:?}");
        let nodes = direct.nodes.take();
        for node in nodes.values() {
            node.stop().await;
        }
    });
    run.expect("an executor");
}

#[test]
fn a_node_alone_needs_nobody() {
    let dir = tempfile::tempdir_in(".").expect("a folder");
    let run = block_on(async {
        for life in 0..2 {
            let node = start(&Direct::default(), 1, dir.path()).await;
            assert_eq!(node.image().topics.len(), life as usize * 10);
            if life == 0 {
                found(&node).await;
            }
            for turn in 0..10 {
                node.propose(create_topic(life * 10 + turn)).await.expect("creates");
            }
            node.stop().await;
        }
    });
    run.expect("an executor");
}
