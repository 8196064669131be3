//! What must hold over all nodes and all their lives, whatever happens to them.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt::{self, Debug},
};

use openraft::EntryPayload;

use super::Entry;
use crate::fields::Field;
use crate::metadata::{
    command::{self, Command},
    frame::to_json,
    image::ClusterImage,
    raft::types::{Id, LogId},
    snapshot::Snapshot,
};

/// A way in which the nodes went wrong.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Two nodes, or two lives of one, applied different entries at the same place.
    Diverged(u64),
    /// A node applied an entry that was not the next one.
    OutOfOrder(Id, u64),
    /// Two nodes led in the same term.
    TwoLeaders(u64),
    /// A command that was answered is not among the applied ones.
    Lost(String),
    /// A command that was proposed once is applied twice.
    Twice(String),
    /// A node's image is not what the applied entries make.
    WrongImage(Id, u64),
    /// A node that could not take part any more.
    Failed(Id, String),
}

impl Debug for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Diverged(index) => write!(out, "different entries at {index}"),
            Fault::OutOfOrder(id, index) => write!(out, "node {id} applied {index} out of order"),
            Fault::TwoLeaders(term) => write!(out, "two leaders in term {term}"),
            Fault::Lost(name) => write!(out, "{name} was answered and is gone"),
            Fault::Twice(name) => write!(out, "{name} was proposed once and applied twice"),
            Fault::WrongImage(id, index) => write!(out, "the image of node {id} at {index} is wrong"),
            Fault::Failed(id, why) => write!(out, "node {id} failed: {why}"),
        }
    }
}

#[derive(Default)]
struct State {
    /// The first entry that was applied at each place.
    chosen: BTreeMap<u64, Entry>,
    next: BTreeMap<Id, u64>,
    leaders: BTreeMap<u64, Id>,
    answered: Vec<String>,
    faults: Vec<Fault>,
}

/// Sees everything that is applied, and keeps it beyond the nodes' lives.
#[derive(Default)]
pub struct Checker {
    state: RefCell<State>,
}

impl Checker {
    /// A node begins with the state as of `applied`.
    pub fn on_begin(&self, id: Id, applied: Option<LogId>) {
        let mut state = self.state.borrow_mut();
        if let Some(at) = applied
            && state.chosen.get(&at.index).is_some_and(|chosen| chosen.log_id != at)
        {
            state.faults.push(Fault::Diverged(at.index));
        }
        state.next.insert(id, applied.map_or(0, |applied| applied.index + 1));
    }

    /// A node applies an entry.
    pub fn on_apply(&self, id: Id, entry: &Entry) {
        let mut state = self.state.borrow_mut();
        let index = entry.log_id.index;
        let due = state.next.insert(id, index + 1).unwrap_or(0);
        if due != index {
            state.faults.push(Fault::OutOfOrder(id, index));
        }
        match state.chosen.get(&index).map(|chosen| bytes(chosen) == bytes(entry)) {
            Some(true) => {}
            Some(false) => state.faults.push(Fault::Diverged(index)),
            None => drop(state.chosen.insert(index, entry.clone())),
        }
    }

    /// A node says that it leads.
    pub fn on_leader(&self, id: Id, term: u64) {
        let mut state = self.state.borrow_mut();
        if *state.leaders.entry(term).or_insert(id) != id {
            state.faults.push(Fault::TwoLeaders(term));
        }
    }

    /// A node takes part no more.
    pub fn on_failure(&self, id: Id, why: String) {
        self.state.borrow_mut().faults.push(Fault::Failed(id, why));
    }

    /// The creation of a topic was answered.
    pub fn on_answer(&self, topic: &str) {
        self.state.borrow_mut().answered.push(topic.to_owned());
    }

    /// How many commands were answered, and how many terms had a leader.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state.borrow();
        (state.answered.len(), state.leaders.len())
    }

    /// What was applied, as one line for each place: the same for two runs that went the same way.
    pub fn trace(&self) -> Vec<String> {
        let state = self.state.borrow();
        state.chosen.values().map(|entry| format!("{} {:?}", entry.log_id, entry.payload)).collect()
    }

    /// Checks the images that nodes have, and gives every fault there was.
    pub fn verdict<'a>(&self, images: impl IntoIterator<Item = (Id, &'a ClusterImage)>) -> Vec<Fault> {
        let state = self.state.borrow();
        let mut faults = state.faults.clone();
        for topic in &state.answered {
            match state.chosen.values().filter(|entry| creates(entry, topic)).count() {
                0 => faults.push(Fault::Lost(topic.clone())),
                1 => {}
                _ => faults.push(Fault::Twice(topic.clone())),
            }
        }
        for (id, image) in images {
            let mut expected = ClusterImage::default();
            for entry in state.chosen.range(..=image.index).map(|(_, entry)| entry) {
                expected.index = entry.log_id.index;
                if let EntryPayload::Normal(command) = &entry.payload {
                    // A refusal changes nothing; that it is the same everywhere shows in the images.
                    let _refused = command::apply(&mut expected, command);
                }
            }
            if to_json(&Snapshot::of(image)) != to_json(&Snapshot::of(&expected)) {
                faults.push(Fault::WrongImage(id, image.index));
            }
        }
        faults.sort();
        faults.dedup();
        faults
    }
}

fn bytes(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry.put(&mut bytes);
    bytes
}

fn creates(entry: &Entry, topic: &str) -> bool {
    matches!(&entry.payload, EntryPayload::Normal(Command::CreateTopic { name, .. }) if name == topic)
}
