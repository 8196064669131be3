//! Does a fault to a cluster and undoes it: when it returns, everything runs and is connected again.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::cluster::Cluster;
use crate::error::{HarnessError, Result};
use crate::fault::{Fault, Kind};
use crate::network::{Host, Network};
use crate::shell;

/// How long a stopped process stands still.
const STOP: Duration = Duration::from_secs(3);

/// Shortest time a network fault lasts: longer than a session.
const CUT_MIN: Duration = Duration::from_secs(5);

/// Frames lost on a slow link, in percent.
const LOSS_PERCENT: u32 = 5;

/// How long a node may take to give its partitions away.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(120);

/// How long copies may take to be in sync after a planned restart.
const WHOLE_WAIT_MAX: Duration = Duration::from_secs(60);

/// How long a first segment may take to be closed.
const CLOSED_WAIT_MAX: Duration = Duration::from_secs(120);

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// To whom, in short.
    pub target: String,
    /// What the cluster did that it must not.
    pub findings: Vec<String>,
}

/// Whether a kind exists at all, before anything is started for it.
///
/// # Errors
/// [`HarnessError::Unsupported`], with the reason.
pub fn check_possible(kind: Kind, has_peers: bool) -> Result<()> {
    if kind == Kind::Clock {
        return Err(unsupported(
            kind,
            "time namespaces cover the monotonic clocks only, and CLOCK_REALTIME is the whole machine's; \
             clock jumps are the simulator's",
        ));
    }
    if kind.needs_peers() && !has_peers {
        return Err(unsupported(kind, "these nodes do not know of each other"));
    }
    Ok(())
}

/// Injects a fault, holds it, heals it, and waits until the nodes are ready.
///
/// # Errors
/// If the harness cannot: the fault does not exist here, or a tool fails.
pub fn inject(cluster: &mut Cluster, topic: &str, fault: &Fault) -> Result<Done> {
    check_possible(fault.kind, cluster.has_peers())?;
    let mut random = StdRng::seed_from_u64(fault.seed);
    let leads = leads(cluster, topic);
    let random_node = *leads.keys().collect::<Vec<_>>().choose(&mut random).expect("there are nodes");
    let leader = leads.iter().max_by_key(|(_, count)| **count).map(|(node, _)| *node);
    let node = if fault.hits_leader { leader.unwrap_or(*random_node) } else { *random_node };
    let target = format!("node{node} (leads {})", leads[&node]);
    let mut done = Done { target, findings: Vec::new() };
    match fault.kind {
        Kind::Kill => restart_killed(cluster, node, fault.hold)?,
        Kind::Stop => {
            cluster.node(node).pause();
            sleep(STOP);
            cluster.node(node).resume();
        }
        Kind::Terminate => {
            terminate(cluster, node, &mut done);
            sleep(fault.hold);
            cluster.start_node(node)?;
        }
        Kind::Rolling => {
            done.target = "all".to_owned();
            for node in leads.keys().copied() {
                terminate(cluster, node, &mut done);
                cluster.start_node(node)?;
                wait_whole(cluster, topic, node, &mut done);
            }
        }
        Kind::Cut | Kind::OneWay | Kind::Slow | Kind::Split => {
            disturb(cluster, fault, node, &mut random, &mut done)?;
        }
        Kind::Full => fill(cluster, node, fault)?,
        Kind::Flip => {
            let backup = leads.iter().min_by_key(|(_, count)| **count).map_or(node, |(node, _)| *node);
            flip(cluster, backup, &mut random, &mut done)?;
        }
        Kind::DiskLoss => {
            cluster.node(node).kill();
            sleep(fault.hold);
            disk(cluster, node, fault.kind)?.lose()?;
            cluster.start_empty(node)?;
        }
        Kind::Grow => grow(cluster, topic, fault.hold, &mut done)?,
        Kind::Clock => unreachable!("it is not possible"),
    }
    revive(cluster, &mut done)?;
    Ok(done)
}

fn unsupported(kind: Kind, why: &str) -> HarnessError {
    HarnessError::Unsupported { fault: kind.name(), why: why.to_owned() }
}

/// How many partitions each running node leads; none, where nobody can say.
fn leads(cluster: &Cluster, topic: &str) -> BTreeMap<u32, usize> {
    let mut leads: BTreeMap<u32, usize> = cluster.nodes.keys().map(|node| (*node, 0)).collect();
    for placed in cluster.placement(topic).unwrap_or_default().into_values() {
        if let Some(count) = placed.leader.and_then(|leader| leads.get_mut(&leader)) {
            *count += 1;
        }
    }
    leads
}

fn restart_killed(cluster: &mut Cluster, node: u32, hold: Duration) -> Result<()> {
    cluster.node(node).kill();
    sleep(hold);
    cluster.start_node(node)
}

/// A planned end must be one: with status 0 and in time.
fn terminate(cluster: &mut Cluster, node: u32, done: &mut Done) {
    if let Err(error) = cluster.node(node).terminate() {
        done.findings.push(error.to_string());
    }
}

/// What who restarts nodes in turn waits for: the node is ready, and every partition has all its copies in sync.
fn wait_whole(cluster: &mut Cluster, topic: &str, node: u32, done: &mut Done) {
    if let Err(error) = cluster.wait_ready(node) {
        done.findings.push(error.to_string());
        return;
    }
    let deadline = Instant::now() + WHOLE_WAIT_MAX;
    while !cluster.lame(topic).is_ok_and(|lame| lame.is_empty()) {
        if Instant::now() > deadline {
            done.findings
                .push(format!("partitions lack copies {WHOLE_WAIT_MAX:?} after node {node} is back"));
            return;
        }
        sleep(LOOK_EVERY);
    }
}

fn network(cluster: &mut Cluster, kind: Kind) -> Result<&mut Network> {
    cluster.network.as_mut().ok_or_else(|| unsupported(kind, "the cluster has no network of its own"))
}

fn disk(cluster: &Cluster, node: u32, kind: Kind) -> Result<&crate::disk::Disk> {
    cluster.disks.get(&node).ok_or_else(|| unsupported(kind, "the node has no disk of its own"))
}

fn disturb(
    cluster: &mut Cluster,
    fault: &Fault,
    node: u32,
    random: &mut StdRng,
    done: &mut Done,
) -> Result<()> {
    let nodes: Vec<u32> = cluster.nodes.keys().copied().collect();
    let others = || nodes.iter().copied().filter(move |other| *other != node);
    let network = network(cluster, fault.kind)?;
    match fault.kind {
        Kind::Cut => {
            others().try_for_each(|other| network.cut_both(Host::Node(node), Host::Node(other)))?;
        }
        Kind::OneWay => {
            let is_mute: bool = random.r#gen();
            done.target.push_str(if is_mute { " is not heard" } else { " does not hear" });
            for other in others() {
                let (from, to) = if is_mute { (node, other) } else { (other, node) };
                network.cut(Host::Node(from), Host::Node(to))?;
            }
        }
        Kind::Slow => {
            let delay = Duration::from_millis(random.gen_range(50..=200));
            done.target.push_str(&format!(" by {delay:?}"));
            network.slow(Host::Node(node), delay, LOSS_PERCENT)?;
        }
        _ => {
            let mut smaller = vec![node];
            smaller.extend(others().take((nodes.len().saturating_sub(1) / 2).saturating_sub(1)));
            done.target = format!("nodes {smaller:?}");
            for one in &smaller {
                network.cut_both(Host::Node(*one), Host::Clients)?;
                for other in nodes.iter().filter(|other| !smaller.contains(other)) {
                    network.cut_both(Host::Node(*one), Host::Node(*other))?;
                }
            }
        }
    }
    sleep(fault.hold.max(CUT_MIN));
    network.heal()
}

fn fill(cluster: &mut Cluster, node: u32, fault: &Fault) -> Result<()> {
    disk(cluster, node, fault.kind)?.fill()?;
    let until = Instant::now() + fault.hold.max(CUT_MIN);
    while Instant::now() < until {
        // Files that are removed meanwhile must not be room.
        disk(cluster, node, fault.kind)?.fill()?;
        sleep(LOOK_EVERY);
    }
    disk(cluster, node, fault.kind)?.free()
}

fn flip(cluster: &mut Cluster, backup: u32, random: &mut StdRng, done: &mut Done) -> Result<()> {
    let deadline = Instant::now() + CLOSED_WAIT_MAX;
    while !disk(cluster, backup, Kind::Flip)?.has_closed_segment() && Instant::now() < deadline {
        sleep(LOOK_EVERY);
    }
    terminate(cluster, backup, done);
    let flipped = disk(cluster, backup, Kind::Flip).and_then(|disk| disk.flip_bit(random));
    cluster.start_node(backup)?;
    done.target = format!("node{backup}: {}", flipped?);
    Ok(())
}

fn grow(cluster: &mut Cluster, topic: &str, hold: Duration, done: &mut Done) -> Result<()> {
    let node = cluster.nodes.keys().max().map_or(1, |last| last + 1);
    done.target = format!("node{node}");
    cluster.add(node)?;
    cluster.start_node(node)?;
    cluster.wait_ready(node)?;
    sleep(hold);
    let options = cluster.node(node).options().clone();
    let binary = options.binary.to_string_lossy();
    // Asked of another node, which stays.
    let server = cluster.nodes[&1].options().listen.to_string();
    shell::run(&[&binary, "cluster", "drain", &node.to_string(), "--server", &server])?;
    let deadline = Instant::now() + DRAIN_WAIT_MAX;
    let is_empty = |cluster: &Cluster| {
        let placed = cluster.placement(topic).unwrap_or_default();
        !placed.is_empty() && placed.values().all(|placed| !placed.replicas.contains(&node))
    };
    while !is_empty(cluster) {
        if Instant::now() > deadline {
            done.findings.push(format!("node {node} is not drained after {DRAIN_WAIT_MAX:?}"));
            break;
        }
        sleep(LOOK_EVERY);
    }
    terminate(cluster, node, done);
    shell::run(&[&binary, "cluster", "remove", &node.to_string(), "--server", &server])?;
    cluster.nodes.remove(&node);
    Ok(())
}

/// Starts again what ended by itself, which is a finding, and waits for all.
fn revive(cluster: &mut Cluster, done: &mut Done) -> Result<()> {
    for node in cluster.nodes.keys().copied().collect::<Vec<_>>() {
        if let Err(error) = cluster.node(node).check_alive() {
            done.findings.push(error.to_string());
            cluster.node(node).reap();
            cluster.start_node(node)?;
        }
        if let Err(error) = cluster.wait_ready(node) {
            done.findings.push(error.to_string());
        }
    }
    Ok(())
}
