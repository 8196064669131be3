//! The model as stateright sees it: what can happen next, and what must always hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use heddle_proto::ids::NodeId;
use heddle_replication::io::Input;
use stateright::{Model, Property};

use super::healing;
use super::instance::Instance;
use super::world::{Packet, Violation, World};

/// One step. Nodes are given by index, packets by value.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A client's record reaches this primary.
    Append(usize),
    /// A packet arrives.
    Deliver(Arc<Packet>),
    /// A packet arrives and will arrive again.
    DeliverAndKeep(Arc<Packet>),
    /// The log of this node reaches its disk.
    FlushLog(usize),
    /// The promise of this node reaches its disk.
    FlushPromise(usize),
    /// This node hears what metadata says.
    Learn(usize),
    /// The first sends the second again what it may have missed.
    Resend(usize, usize),
    /// The first, a primary, wants the second out of the in-sync set.
    Shrink(usize, usize),
    /// The first, a primary, wants the second in the in-sync set.
    Grow(usize, usize),
    /// This primary wants another commit quorum.
    Require(usize, usize),
    /// The controller begins an election.
    BeginElection,
    /// The controller asks this node to seal.
    Seal(usize),
    /// The controller ends the election.
    Elect,
    /// The controller ends an election in which too many forgot.
    ElectLossy,
    /// Node, writes to the log that arrived on its disk, whether the promise did.
    Crash(usize, usize, bool),
    /// A node loses its disk.
    Wipe(usize),
    /// The replica of this node is taken away and given back.
    Replace(usize),
    /// A node stops in good order.
    Stop(usize),
    /// A node starts.
    Start(usize),
    /// A node removes old records.
    Retain(usize),
}

impl Model for Instance {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![healing::begun(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.ghost.violation.is_some() || world.has_lost() {
            return; // The shortest way to it is what is wanted.
        }
        for index in 0..world.nodes.len() {
            node_actions(world, index, actions);
        }
        for packet in &world.network {
            let arrives = match &**packet {
                Packet::Peer { to, .. } => world.machine(*to).is_some(),
                Packet::ToMetadata(_) => true,
            };
            if arrives {
                actions.push(Action::Deliver(packet.clone()));
                if world.budget.duplicates > 0 {
                    actions.push(Action::DeliverAndKeep(packet.clone()));
                }
            }
        }
        if world.budget.elections > 0 {
            actions.push(Action::BeginElection);
        }
        if world.leadership.electing().is_some() {
            actions.push(Action::Elect);
            actions.push(Action::ElectLossy);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        let happened = take(self, &mut world, &action);
        happened.then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no committed record is lost", |_, world: &World| !world.has_lost()),
            Property::always("replicas agree up to committed", |_, world: &World| {
                world.ghost.violation != Some(Violation::Disagreement)
            }),
            Property::always("one primary commits in an epoch", |_, world: &World| {
                world.ghost.violation != Some(Violation::TwoPrimaries)
            }),
            Property::always("what is committed is on stable storage of a quorum", |_, world: &World| {
                world.ghost.violation != Some(Violation::NotHeld)
            }),
            Property::always("no replica is told to cut what is committed", |_, world: &World| {
                world.ghost.violation != Some(Violation::Halted)
            }),
            Property::always("a quorum that is there commits", |instance: &Instance, world: &World| {
                !instance.check_healing || healing::heals(instance, world).is_ok()
            }),
            Property::sometimes("records are committed in a later epoch", |_, world: &World| {
                world.ghost.committers.iter().any(|(epoch, ..)| epoch.get() > 1)
            }),
        ]
    }
}

fn node_actions(world: &World, index: usize, actions: &mut Vec<Action>) {
    let node = &world.nodes[index];
    let budget = &world.budget;
    let Some(machine) = &node.machine else {
        actions.push(Action::Start(index));
        return;
    };
    if !node.log_writes.is_empty() {
        actions.push(Action::FlushLog(index));
    }
    if node.promise_write.is_some() {
        actions.push(Action::FlushPromise(index));
    }
    let grant = world.leadership.grant();
    if node.seen != (grant.epoch, grant.in_sync.version) {
        actions.push(Action::Learn(index));
    }
    let is_member = |index: usize| grant.in_sync.members.contains(&NodeId::new(index as u32));
    if let Some(epoch) = world.leadership.electing()
        && node.asked < epoch
        && is_member(index)
    {
        actions.push(Action::Seal(index));
    }
    let others = (0..world.nodes.len()).filter(|other| *other != index);
    if machine.leads().is_some() {
        if budget.records > 0 {
            actions.push(Action::Append(index));
        }
        if budget.changes > 0 {
            actions.extend(others.clone().map(|other| Action::Shrink(index, other)));
            actions.extend(others.clone().map(|other| Action::Grow(index, other)));
        }
        if budget.requirements > 0 {
            actions.extend((1..=world.nodes.len()).map(|quorum| Action::Require(index, quorum)));
        }
    }
    if budget.resends > 0 {
        actions.extend(others.map(|other| Action::Resend(index, other)));
    }
    if budget.crashes > 0 {
        for log_kept in 0..=node.log_writes.len() {
            actions.push(Action::Crash(index, log_kept, false));
            if node.promise_write.is_some() {
                actions.push(Action::Crash(index, log_kept, true));
            }
        }
    }
    if budget.retentions > 0 {
        actions.push(Action::Retain(index));
    }
    if budget.wipes > 0 {
        actions.push(Action::Wipe(index));
    }
    if budget.replacements > 0 && !is_member(index) {
        actions.push(Action::Replace(index));
    }
    if budget.stops > 0 {
        actions.push(Action::Stop(index));
    }
}

/// Takes a step; `false` when it changes nothing.
pub fn take(instance: &Instance, world: &mut World, action: &Action) -> bool {
    match action {
        Action::Append(index) => {
            world.budget.records -= 1;
            world.append(instance, *index);
        }
        Action::Deliver(packet) => {
            world.network.remove(packet);
            world.deliver(instance, packet);
        }
        Action::DeliverAndKeep(packet) => {
            world.budget.duplicates -= 1;
            world.deliver(instance, packet);
        }
        Action::FlushLog(index) => world.flush_log(instance, *index),
        Action::FlushPromise(index) => world.flush_promise(instance, *index),
        Action::Learn(index) => world.learn(instance, *index),
        Action::Resend(from, to) => {
            return sends(instance, world, *from, Input::Resend(NodeId::new(*to as u32)), |world| {
                world.budget.resends -= 1;
            });
        }
        Action::Shrink(index, other) => {
            return sends(instance, world, *index, Input::Shrink(NodeId::new(*other as u32)), |world| {
                world.budget.changes -= 1;
            });
        }
        Action::Grow(index, other) => {
            return sends(instance, world, *index, Input::Grow(NodeId::new(*other as u32)), |world| {
                world.budget.changes -= 1;
            });
        }
        Action::Require(index, quorum) => {
            return sends(instance, world, *index, Input::Require(*quorum), |world| {
                world.budget.requirements -= 1;
                let ghost = Arc::make_mut(&mut world.ghost);
                ghost.asked_quorum = ghost.asked_quorum.max(*quorum);
            });
        }
        Action::BeginElection => {
            world.budget.elections -= 1;
            Arc::make_mut(&mut world.leadership).begin_election();
        }
        Action::Seal(index) => world.seal(instance, *index),
        Action::Elect => return world.elect(),
        Action::ElectLossy => return world.elect_lossy(),
        Action::Crash(index, log_kept, promise_kept) => {
            world.budget.crashes -= 1;
            world.crash(*index, *log_kept, *promise_kept);
        }
        Action::Wipe(index) => {
            world.budget.wipes -= 1;
            world.wipe(*index);
        }
        Action::Replace(index) => {
            world.budget.replacements -= 1;
            world.replace(instance, *index);
        }
        Action::Stop(index) => {
            world.budget.stops -= 1;
            world.stop(instance, *index);
        }
        Action::Start(index) => world.start(instance, *index),
        Action::Retain(index) => {
            world.budget.retentions -= 1;
            return world.retain(instance, *index);
        }
    }
    true
}

/// Steps a machine for something that may have no effect; only an effect uses up the budget.
fn sends(
    instance: &Instance,
    world: &mut World,
    index: usize,
    input: Input,
    pay: impl FnOnce(&mut World),
) -> bool {
    let before: BTreeSet<Arc<Packet>> = world.network.clone();
    let machine = world.nodes[index].machine.clone();
    world.step(instance, index, input);
    pay(world);
    world.network != before || world.nodes[index].machine != machine
}
