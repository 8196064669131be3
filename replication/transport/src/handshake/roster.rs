//! Which process has which node id, as far as this core has met them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use heddle_proto::ids::NodeId;
use heddle_replication::message::Life;

use crate::wire::{Hello, Purpose, Refusal};

/// The newest life of every node that has proved to know the secret, and the processes with which there are calls now. Nodes
/// are few, and only they get in here.
///
/// Calls know no lives: a node learns its life through them. So there only a process that is connected has its node id.
#[derive(Debug, Default)]
pub struct Roster {
    known: BTreeMap<NodeId, (Life, [u8; 16])>,
    /// With the number of its connections.
    calling: BTreeMap<NodeId, ([u8; 16], usize)>,
}

impl Roster {
    /// Notes who is there.
    ///
    /// # Errors
    /// [`Refusal::NodeInUse`] if another process has that node id: for streams in the same life or in a later one, for calls
    /// now.
    pub fn admit(&mut self, hello: &Hello) -> Result<(), Refusal> {
        let node = hello.from.node;
        if hello.purpose != Purpose::Streams {
            let is_other = self.calling.get(&node).is_some_and(|(process, _)| *process != hello.process);
            return if is_other { Err(Refusal::NodeInUse) } else { Ok(()) };
        }
        let newest = self.known.entry(node).or_insert((hello.life, hello.process));
        if hello.life > newest.0 {
            *newest = (hello.life, hello.process);
        }
        if *newest == (hello.life, hello.process) { Ok(()) } else { Err(Refusal::NodeInUse) }
    }
}

/// A connection for calls that there is now; while it lives, no other process has that node id.
pub struct Caller {
    roster: Rc<RefCell<Roster>>,
    node: NodeId,
}

impl Caller {
    /// Notes one more connection with this process; `None` if another one was quicker to take that node id.
    pub fn note(roster: &Rc<RefCell<Roster>>, node: NodeId, process: [u8; 16]) -> Option<Caller> {
        let mut noted = roster.borrow_mut();
        let entry = noted.calling.entry(node).or_insert((process, 0));
        if entry.0 != process {
            return None;
        }
        entry.1 += 1;
        drop(noted);
        Some(Caller { roster: roster.clone(), node })
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let mut roster = self.roster.borrow_mut();
        if let Some((_, count)) = roster.calling.get_mut(&self.node) {
            *count -= 1;
            if *count == 0 {
                roster.calling.remove(&self.node);
            }
        }
    }
}
