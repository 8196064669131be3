//! Nodes on disks in memory over a network in memory, and what a test does to them.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    path::Path,
    rc::Rc,
    time::Duration,
};

use futures_lite::future::block_on;
use heddle_log_store::{Disk, MemoryDisk};
use heddle_proto::ids::{NodeId, TopicId};

use super::{
    checker::{Checker, Fault},
    memory_network::{Link, MemoryNetwork},
    stores::{Bug, Log, Machine},
    virtual_time::{self, Virtual, attach, kill, on_behalf, run, run_for},
};
use crate::metadata::{
    command::{Command, Outcome},
    image::PortMode,
    raft::{
        log_store::LogStore,
        node::{Members, Node, ProposeError, StartError},
        options::Options,
        runtime::Executor,
        state_machine::StateMachine,
        types::Id,
    },
};

const DIR: &str = "/data/metadata";

/// Longer than any election, retry or catching up here.
pub const LONG: Duration = Duration::from_secs(30);

/// A node as tests run it.
pub type TestNode = Node<Virtual, MemoryDisk, Link>;

struct Seat {
    disk: MemoryDisk,
    node: Option<Rc<TestNode>>,
    bug: Bug,
}

/// All nodes of a test.
pub struct Cluster {
    pub network: MemoryNetwork,
    pub checker: Rc<Checker>,
    pub options: Options,
    seats: RefCell<BTreeMap<Id, Seat>>,
    created: Cell<u32>,
}

/// A disk as a start of the broker finds it: the data directory is in its place, and durable.
pub async fn new_disk(seed: u64) -> MemoryDisk {
    let disk = MemoryDisk::new(seed);
    disk.create_dir_all(Path::new("/data")).await.expect("there is nothing yet");
    disk.sync_dir(Path::new("/")).await.expect("it is there");
    disk
}

/// The creation of a topic whose name and id are its own.
pub fn create_topic(number: u32) -> Command {
    Command::CreateTopic {
        name: format!("topic-{number}"),
        id: TopicId::new(u128::from(number + 1).to_be_bytes()).to_string(),
        partition_count: 1 + number % 3,
        replication_factor: 1,
        overrides: BTreeMap::new(),
        replicas: Vec::new(),
    }
}

pub fn node_id(id: Id) -> NodeId {
    NodeId::new(u32::try_from(id).expect("small"))
}

impl Cluster {
    /// A new world with one node that has founded a cluster and registered itself.
    pub fn found(seed: u64) -> Rc<Cluster> {
        virtual_time::begin(seed);
        let cluster = Rc::new(Cluster {
            network: MemoryNetwork::default(),
            checker: Rc::default(),
            options: Options { snapshot_entries: 50, kept_entries: 10, ..Options::default() },
            seats: RefCell::default(),
            created: Cell::new(0),
        });
        cluster.add(1, Bug::None);
        let first = cluster.node(1).expect("it has just started");
        run(LONG, async move { first.found("1").await }).expect("in time").expect("founds");
        let start = Command::StartNode {
            node: 1,
            host: "h".to_owned(),
            port: 9092,
            core_count: 1,
            port_mode: PortMode::PerCore,
            peer_address: String::new(),
            rack: String::new(),
        };
        assert_eq!(cluster.propose(1, start), Ok(Outcome::Life(1)));
        cluster
    }

    /// A cluster of so many voters, some of them with a bug.
    pub fn of(seed: u64, count: Id, bugs: &[(Id, Bug)]) -> Rc<Cluster> {
        let cluster = Cluster::found(seed);
        for id in 2..=count {
            let bug = bugs.iter().find(|(of, _)| *of == id).map_or(Bug::None, |(_, bug)| *bug);
            cluster.add(id, bug);
            cluster.learn(1, id).expect("learns");
        }
        cluster.vote(1, 1..=count).expect("changes the voters");
        cluster
    }

    /// Starts a node with an empty disk.
    pub fn add(&self, id: Id, bug: Bug) {
        let disk = block_on(new_disk(Virtual::random()));
        disk.set_latency(Some(Duration::from_micros(50)..Duration::from_millis(2)));
        attach(&disk);
        self.seats.borrow_mut().insert(id, Seat { disk, node: None, bug });
        self.start(id).expect("an empty disk is taken up");
    }

    /// Starts a node on what its disk holds.
    pub fn start(&self, id: Id) -> Result<(), StartError> {
        let (disk, bug) = {
            let seats = self.seats.borrow();
            (seats[&id].disk.clone(), seats[&id].bug)
        };
        let (checker, options, link) = (self.checker.clone(), self.options.clone(), self.network.link(id));
        let started = run_as(id, async move { start(id, disk, bug, &checker, &options, link).await });
        let node = started.expect("a start takes no time")?;
        let taking = node.clone();
        self.network.plug(
            id,
            Rc::new(move |message| {
                let node = taking.clone();
                Box::pin(async move { node.take(&message).await.ok() })
            }),
        );
        self.watch(id, node.clone());
        self.seats.borrow_mut().get_mut(&id).expect("it has a seat").node = Some(node);
        Ok(())
    }

    /// Tells the checker when a node leads or fails.
    fn watch(&self, id: Id, node: Rc<TestNode>) {
        let checker = self.checker.clone();
        let watched = node.clone();
        on_behalf(id, || {
            Virtual::spawn(async move {
                let why = watched.failed().await;
                checker.on_failure(id, why);
            });
            let checker = self.checker.clone();
            Virtual::spawn(async move {
                loop {
                    if let Some(term) = node.leads() {
                        checker.on_leader(id, term);
                    }
                    Virtual::sleep(Duration::from_millis(5)).await;
                }
            });
        });
    }

    /// Cuts a node's power.
    pub fn crash(&self, id: Id) {
        self.network.unplug(id);
        let mut seats = self.seats.borrow_mut();
        let seat = seats.get_mut(&id).expect("it has a seat");
        kill(id);
        seat.node = None;
        seat.disk = seat.disk.crash();
    }

    /// A running node.
    pub fn node(&self, id: Id) -> Option<Rc<TestNode>> {
        self.seats.borrow().get(&id).and_then(|seat| seat.node.clone())
    }

    /// A node's disk.
    pub fn disk(&self, id: Id) -> MemoryDisk {
        self.seats.borrow()[&id].disk.clone()
    }

    /// All seats.
    pub fn ids(&self) -> Vec<Id> {
        self.seats.borrow().keys().copied().collect()
    }

    /// The nodes that run.
    pub fn live(&self) -> Vec<(Id, Rc<TestNode>)> {
        self.ids().into_iter().filter_map(|id| Some((id, self.node(id)?))).collect()
    }

    /// Proposes through a node.
    pub fn propose(&self, id: Id, command: Command) -> Result<Outcome, ProposeError> {
        let Some(node) = self.node(id) else { return Err(ProposeError::Stopped) };
        run(LONG, async move { node.propose(command).await }).expect("a proposal is answered in time")
    }

    /// The creation of a topic that nobody has named yet.
    pub fn next_topic(&self) -> (String, Command) {
        let number = self.created.replace(self.created.get() + 1);
        let command = create_topic(number);
        (format!("topic-{number}"), command)
    }

    /// Creates a topic through a node and notes whether it was answered.
    pub fn create(&self, id: Id) -> Result<Outcome, ProposeError> {
        let (name, command) = self.next_topic();
        let answer = self.propose(id, command);
        if answer.is_ok() {
            self.checker.on_answer(&name);
        }
        answer
    }

    /// Has the leader take in a learner.
    pub fn learn(&self, leader: Id, id: Id) -> Result<(), crate::metadata::raft::ChangeError> {
        let node = self.node(leader).expect("it runs");
        run(LONG, async move { node.add_learner(node_id(id), &id.to_string()).await }).expect("in time")
    }

    /// Has the leader change the voters.
    pub fn vote(
        &self,
        leader: Id,
        voters: impl IntoIterator<Item = Id>,
    ) -> Result<(), crate::metadata::raft::ChangeError> {
        let node = self.node(leader).expect("it runs");
        let voters: BTreeSet<NodeId> = voters.into_iter().map(node_id).collect();
        run(LONG, async move { node.change_voters(&voters).await }).expect("in time")
    }

    /// What a node knows of the others.
    pub fn members(&self, id: Id) -> Members {
        self.node(id).expect("it runs").members()
    }

    /// The node that leads all those of `among` that run, once they agree on one.
    pub fn leader(&self, among: &[Id]) -> Id {
        for _ in 0..1000 {
            let seen: BTreeSet<Option<NodeId>> = among.iter().map(|id| self.members(*id).leader).collect();
            if let [Some(leader)] = seen.into_iter().collect::<Vec<_>>()[..]
                && among.contains(&Id::from(leader.get()))
            {
                return Id::from(leader.get());
            }
            run_for(Duration::from_millis(20));
        }
        panic!(
            "no leader among {among:?}: {:?}",
            self.live().iter().map(|(_, n)| n.members()).collect::<Vec<_>>()
        );
    }

    /// Waits until all nodes that run have applied the same, and asks the checker.
    pub fn verdict(&self) -> Vec<Fault> {
        for _ in 0..1000 {
            let indexes: BTreeSet<u64> = self.live().iter().map(|(_, node)| node.image().index).collect();
            if indexes.len() == 1 {
                break;
            }
            run_for(Duration::from_millis(20));
        }
        let images: Vec<_> = self.live().into_iter().map(|(id, node)| (id, node.image())).collect();
        let indexes: BTreeSet<u64> = images.iter().map(|(_, image)| image.index).collect();
        let mut faults = self.checker.verdict(images.iter().map(|(id, image)| (*id, image.as_ref())));
        if indexes.len() > 1 {
            faults.push(Fault::Failed(0, format!("the nodes stand at {indexes:?}")));
        }
        faults.extend(virtual_time::panics().into_iter().map(|(id, text)| Fault::Failed(id, text)));
        faults
    }
}

impl Drop for Cluster {
    /// The network knows the nodes, and they the network: without this every seed's nodes and logs stay in memory.
    fn drop(&mut self) {
        self.ids().into_iter().for_each(|id| self.network.unplug(id));
    }
}

/// Runs in the name of a node, so that what it starts is the node's.
fn run_as<T: 'static>(id: Id, future: impl Future<Output = T> + 'static) -> Option<T> {
    let result = Rc::new(RefCell::new(None));
    let put = result.clone();
    on_behalf(id, || {
        Virtual::spawn(async move {
            let value = future.await;
            *put.borrow_mut() = Some(value);
        });
    });
    run(LONG, async move {
        loop {
            if let Some(value) = result.borrow_mut().take() {
                return value;
            }
            Virtual::sleep(Duration::from_millis(1)).await;
        }
    })
}

async fn start(
    id: Id,
    disk: MemoryDisk,
    bug: Bug,
    checker: &Rc<Checker>,
    options: &Options,
    link: Link,
) -> Result<Rc<TestNode>, StartError> {
    let dir = Path::new(DIR);
    let machine = StateMachine::open(disk.clone(), dir.to_owned(), Rc::new(|_| Box::pin(async {}))).await?;
    let mut log = LogStore::open(disk.clone(), dir, machine.snapshots()).await?;
    checker.on_begin(id, machine.applied());
    if let Some(applied) = machine.applied() {
        log.catch_up_with(applied).await?;
    }
    let images = machine.reader();
    let log = Log { inner: log, disk, bug, vote: Cell::new(None) };
    let machine = Machine { inner: machine, id, checker: checker.clone(), bug };
    Node::assemble(node_id(id), options, (log, machine), images, Rc::new(link)).await
}
