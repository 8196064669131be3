//! One connection on which another node asks: its requests are answered as they come, so many at once and no more.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use heddle_net::socket::spawn;

use super::line::{Line, Talk, carry};
use super::{CallFrom, Handler, Options};
use crate::door::Met;
use crate::handshake::{Caller, Roster};
use crate::session::End;
use crate::wire::{Body, Call};

/// See the module.
pub(super) struct Answering(Rc<Shared>);

/// What answers that outlive the connection still hold.
struct Shared {
    line: Line,
    from: CallFrom,
    handler: Handler,
    options: Options,
    /// Requests whose replies have not gone out.
    underway_count: Cell<usize>,
    /// The bytes of these.
    underway_bytes: Cell<usize>,
    /// Replies that have not gone out, with the bytes of their requests.
    queue: RefCell<VecDeque<(Call, usize)>>,
    caller: RefCell<Option<Caller>>,
}

impl Answering {
    /// `None` if another process has taken that node id meanwhile.
    pub(super) fn new(
        met: &Met,
        roster: &Rc<RefCell<Roster>>,
        handler: Handler,
        options: Options,
    ) -> Option<Answering> {
        let caller = Caller::note(roster, met.peer.node, met.process)?;
        Some(Answering(Rc::new(Shared {
            line: Line::default(),
            from: CallFrom { node: met.peer.node, purpose: met.purpose },
            handler,
            options,
            underway_count: Cell::new(0),
            underway_bytes: Cell::new(0),
            queue: RefCell::default(),
            caller: RefCell::new(Some(caller)),
        })))
    }

    pub(super) fn from(&self) -> CallFrom {
        self.0.from
    }

    pub(super) fn end(&self) {
        self.0.end();
    }

    /// Answers until the connection ends.
    pub(super) async fn carry(&self, met: Met) -> End {
        let end = carry(met, &self.0, &self.0.options).await;
        self.0.end();
        end
    }
}

impl Shared {
    fn end(&self) {
        self.line.end();
        self.caller.take();
        self.queue.take();
    }

    fn answered(&self, (number, bytes): (u64, usize), reply: Option<Vec<u8>>) {
        let from = self.from.node;
        match reply {
            _ if self.line.is_over() => {}
            Some(reply) if reply.len() <= self.options.payload_bytes_max => {
                self.queue.borrow_mut().push_back((Call { number, payload: reply.into() }, bytes));
                self.line.outgoing.raise();
            }
            Some(reply) => {
                tracing::warn!(
                    bytes = reply.len(),
                    "a reply to node {from} is too large; the connection ends"
                );
                self.end();
            }
            None => {
                tracing::warn!("node {from} asks what is no request; the connection ends");
                self.end();
            }
        }
    }
}

impl Talk for Rc<Shared> {
    fn line(&self) -> &Line {
        &self.line
    }

    fn next(&self) -> Option<Body> {
        let (reply, bytes) = self.queue.borrow_mut().pop_front()?;
        self.underway_count.set(self.underway_count.get() - 1);
        self.underway_bytes.set(self.underway_bytes.get() - bytes);
        self.line.room.raise();
        Some(Body::Reply(reply))
    }

    fn take(&self, body: Body) -> Result<(), End> {
        let Body::Request(Call { number, payload }) = body else { return Err(End::Unexpected) };
        let bytes = payload.len();
        self.underway_count.set(self.underway_count.get() + 1);
        self.underway_bytes.set(self.underway_bytes.get() + bytes);
        let shared = self.clone();
        spawn(async move {
            let reply = (shared.handler)(shared.from, payload.into()).await;
            shared.answered((number, bytes), reply);
        });
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.underway_count.get() < self.options.underway_count_max
            && self.underway_bytes.get() < self.options.underway_bytes_max
    }
}
