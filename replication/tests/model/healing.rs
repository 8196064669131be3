//! What happens when the faults end: a fair run without loss, used to begin an instance and to check progress in any state.

use std::sync::Arc;

use heddle_proto::ids::NodeId;
use heddle_replication::io::Input;

use super::instance::Instance;
use super::world::{Packet, Violation, World};

/// Rounds in which everything under way is delivered. The longest recovery seen takes 12.
const ROUNDS_MAX: usize = 40;

/// A record is appended again so often: elections under way end with the first.
const APPENDS_MAX: usize = 3;

/// The state an instance begins in: the first node leads in epoch 1, all others follow it.
pub fn begun(instance: &Instance) -> World {
    let roomy = Instance { packets_max: usize::MAX, ..instance.clone() };
    let mut world = World::new(&roomy);
    let all: Vec<usize> = (0..instance.node_count).collect();
    run(&roomy, &mut world, &all, false, |world| world.primary().is_some());
    for count in 0..instance.records_before {
        if let Some(primary) = world.primary() {
            world.append(&roomy, primary);
        }
        run(&roomy, &mut world, &all, false, |world| world.ghost.committed.len() > count);
    }
    quiet(&roomy, &mut world, &all);
    if instance.deposed_before {
        depose(&roomy, &mut world);
    }
    world
}

fn depose(instance: &Instance, world: &mut World) {
    world.append(instance, 0);
    flush(instance, world, 0);
    world.network.clear();
    let others: Vec<usize> = (1..instance.node_count).collect();
    let leads = |world: &World| {
        let primary = world.primary().filter(|primary| *primary != 0);
        primary.is_some_and(|primary| admits(world, primary))
    };
    run(instance, world, &others, false, leads);
    if let Some(primary) = world.primary() {
        world.append(instance, primary);
    }
    run(instance, world, &others, false, |world| !world.ghost.committed.is_empty());
    quiet(instance, world, &others);
}

/// Why a partition did not recover.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Stuck {
    /// No primary came to admit records.
    NobodyLeads,
    /// A record was not committed.
    NothingCommits,
    /// It recovered, but something was lost (`None`) or contradicts.
    Broken(Option<Violation>),
}

/// Whether a record can be committed from here once the faults end: with all nodes up, and with any one of them down for good
/// as long as the others suffice to elect and to commit.
pub fn heals(instance: &Instance, world: &World) -> Result<(), Stuck> {
    let roomy = Instance { packets_max: usize::MAX, ..instance.clone() };
    let all: Vec<usize> = (0..instance.node_count).collect();
    commits(&roomy, world, &all)?;
    for down in &all {
        let up: Vec<usize> = all.iter().copied().filter(|index| index != down).collect();
        if suffice(world, &up) {
            commits(&roomy, world, &up)?;
        }
    }
    Ok(())
}

/// Whether these nodes can elect and commit by themselves: enough members of the in-sync set that have not forgotten.
fn suffice(world: &World, up: &[usize]) -> bool {
    let in_sync = &world.leadership.grant().in_sync;
    let whole_count = up
        .iter()
        .filter(|index| in_sync.members.contains(&NodeId::new(**index as u32)))
        .filter(|index| world.machine(**index).is_some_and(|machine| machine.is_whole()))
        .count();
    whole_count >= in_sync.seal_quorum().max(in_sync.quorum).max(asked_quorum(world))
}

/// The largest commit quorum that may be agreed on by what is under way.
fn asked_quorum(world: &World) -> usize {
    let machines = world.nodes.iter().filter_map(|node| node.machine.as_ref()?.primary());
    let is_changing = machines.into_iter().any(|primary| primary.is_changing());
    let on_the_way = world.network.iter().map(|packet| match &**packet {
        Packet::ToMetadata(change) => change.quorum,
        Packet::Peer { .. } => 0,
    });
    let asked = if is_changing { world.ghost.asked_quorum } else { 0 };
    on_the_way.max().unwrap_or(0).max(asked)
}

fn commits(instance: &Instance, world: &World, up: &[usize]) -> Result<(), Stuck> {
    let mut world = world.clone();
    for index in 0..world.nodes.len() {
        if !up.contains(&index) && world.machine(index).is_some() {
            world.crash(index, 0, false);
        }
    }
    if !(0..APPENDS_MAX).any(|_| commits_one(instance, &mut world, up)) {
        let leads = world.primary().is_some_and(|primary| admits(&world, primary) && up.contains(&primary));
        return Err(if leads { Stuck::NothingCommits } else { Stuck::NobodyLeads });
    }
    if world.ghost.violation.is_some() || world.has_lost() {
        return Err(Stuck::Broken(world.ghost.violation));
    }
    Ok(())
}

/// Whether a record that is appended now is committed. An election that was under way may end for a replica that lacks it:
/// nobody was told that it is there, and a client sends it again.
fn commits_one(instance: &Instance, world: &mut World, up: &[usize]) -> bool {
    let mends = true;
    run(instance, world, up, mends, |world| {
        world.primary().is_some_and(|primary| admits(world, primary) && up.contains(&primary))
    });
    let Some(primary) = world.primary() else { return false };
    world.append(instance, primary);
    let wanted = world.nodes[primary].log.len();
    run(instance, world, up, mends, |world| {
        world.ghost.committed.len() >= wanted || world.primary() != Some(primary)
    });
    world.ghost.committed.len() >= wanted
}

fn admits(world: &World, index: usize) -> bool {
    world.machine(index).is_some_and(|machine| machine.admits().is_ok())
}

/// Lets everything under way arrive until `done`, restarting nodes and electing as a controller would.
fn run(
    instance: &Instance,
    world: &mut World,
    up: &[usize],
    mends: bool,
    done: impl Fn(&World) -> bool,
) -> bool {
    for round in 0..ROUNDS_MAX {
        if done(world) {
            return true;
        }
        for index in up {
            if world.machine(*index).is_none() {
                world.start(instance, *index);
            }
        }
        elect(instance, world, up, round);
        if mends {
            mend(instance, world, up);
        }
        quiet(instance, world, up);
    }
    done(world)
}

fn elect(instance: &Instance, world: &mut World, up: &[usize], round: usize) {
    // An election under way is ended; where nobody can commit after a while another one is held.
    let stuck = world.primary().is_none_or(|primary| {
        !up.contains(&primary)
            || (round % 8 == 7 && world.machine(primary).is_some_and(|machine| machine.admits().is_err()))
    });
    if world.leadership.electing().is_none() && !stuck {
        return;
    }
    if world.leadership.electing().is_none() || round % 8 == 7 {
        Arc::make_mut(&mut world.leadership).begin_election();
    }
    for index in up {
        world.seal(instance, *index);
        flush(instance, world, *index);
    }
    let _ = world.elect() || world.elect_lossy();
}

fn flush(instance: &Instance, world: &mut World, index: usize) {
    // A flush can make another one due: a cut, then the promise that waits for it.
    for _ in 0..4 {
        world.flush_log(instance, index);
        world.flush_promise(instance, index);
    }
}

/// A primary takes back who caught up, and, where everybody has to hold a record, lets go of who is gone.
fn mend(instance: &Instance, world: &mut World, up: &[usize]) {
    let Some(primary) = world.primary() else { return };
    for other in 0..world.nodes.len() {
        let node = NodeId::new(other as u32);
        if up.contains(&other) {
            world.step(instance, primary, Input::Grow(node));
        } else if instance.commit_all {
            world.step(instance, primary, Input::Shrink(node));
        }
    }
}

fn quiet(instance: &Instance, world: &mut World, up: &[usize]) {
    for index in up {
        world.learn(instance, *index);
        flush(instance, world, *index);
    }
    for index in up {
        for other in up {
            world.step(instance, *index, Input::Resend(NodeId::new(*other as u32)));
        }
    }
    while let Some(packet) = world.network.pop_first() {
        world.deliver(instance, &packet);
        for index in up {
            flush(instance, world, *index);
        }
    }
}
