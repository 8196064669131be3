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

#[cfg(test)]
mod tests {
    use heddle_proto::ids::CoreId;
    use heddle_replication_driver::Peer;

    use super::*;

    fn hello(process: u8, life: u32, purpose: Purpose) -> Hello {
        let peer = |node| Peer { node: NodeId::new(node), core: CoreId::new(0) };
        Hello {
            cluster: "loom".into(),
            from: peer(1),
            life: Life(life),
            process: [process; 16],
            to: peer(2),
            challenge: [0; 32],
            purpose,
        }
    }

    #[test]
    fn calls_know_no_lives_but_who_is_there() {
        let roster = Rc::new(RefCell::new(Roster::default()));
        let admits = |process, life, purpose| roster.borrow_mut().admit(&hello(process, life, purpose));
        let in_use = Err(Refusal::NodeInUse);
        assert_eq!(admits(1, 8, Purpose::Streams), Ok(()));
        assert_eq!(admits(2, 0, Purpose::Streams), in_use);
        assert_eq!(admits(2, 0, Purpose::Calls), Ok(()), "it has restarted and does not know its life");
        let note = |process| Caller::note(&roster, NodeId::new(1), [process; 16]);
        let (first, second) = (note(2), note(2));
        assert!(first.is_some() && second.is_some() && note(3).is_none());
        assert_eq!(admits(3, 0, Purpose::Calls), in_use);
        assert_eq!(admits(3, 0, Purpose::Join), in_use);
        drop(first);
        assert_eq!(admits(3, 0, Purpose::Calls), in_use, "one is still there");
        drop(second);
        assert_eq!(admits(3, 0, Purpose::Calls), Ok(()));
        assert!(note(3).is_some());
    }
}
