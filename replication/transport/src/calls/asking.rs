//! One connection on which this node asks, from before it is made until it is gone: what is outstanding on it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use heddle_proto::ids::NodeId;

use super::line::{Line, Talk, carry};
use super::{CallError, Options};
use crate::door::Met;
use crate::handshake::Caller;
use crate::session::End;
use crate::signal::Signal;
use crate::wire::{Body, Call};

/// See the module.
pub(super) struct Asking {
    line: Line,
    options: Options,
    /// By the number of the request.
    waiting: RefCell<BTreeMap<u64, Rc<Waiting>>>,
    /// Requests that have not left.
    queue: RefCell<VecDeque<u64>>,
    last_number: Cell<u64>,
    /// Who is there, since the connection was made.
    met: OnceCell<(String, NodeId)>,
    caller: RefCell<Option<Caller>>,
    /// Why nothing more can be asked.
    over: OnceCell<String>,
}

/// One request.
struct Waiting {
    /// Until it leaves.
    request: RefCell<Option<Vec<u8>>>,
    outcome: RefCell<Option<Result<Vec<u8>, CallError>>>,
    signal: Signal,
}

impl Waiting {
    fn end(&self, outcome: Result<Vec<u8>, CallError>) {
        *self.outcome.borrow_mut() = Some(outcome);
        self.signal.raise();
    }
}

impl Asking {
    pub(super) fn new(options: Options) -> Asking {
        Asking {
            line: Line::default(),
            options,
            waiting: RefCell::default(),
            queue: RefCell::default(),
            last_number: Cell::new(0),
            met: OnceCell::new(),
            caller: RefCell::new(None),
            over: OnceCell::new(),
        }
    }

    /// Asks and waits.
    pub(super) async fn ask(self: &Rc<Self>, request: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let (bytes, bytes_max) = (request.len(), self.options.payload_bytes_max);
        if bytes > bytes_max {
            let why = format!("a request of {bytes} bytes is above the limit of {bytes_max}");
            return Err(CallError::Unreachable(why));
        }
        if let Some(why) = self.over.get() {
            return Err(CallError::Unreachable(why.clone()));
        }
        let number = self.last_number.get() + 1;
        self.last_number.set(number);
        let (request, outcome, signal) = (RefCell::new(Some(request)), RefCell::default(), Signal::default());
        let waiting = Rc::new(Waiting { request, outcome, signal });
        self.waiting.borrow_mut().insert(number, waiting.clone());
        self.queue.borrow_mut().push_back(number);
        self.line.outgoing.raise();
        let _forgotten = Forgotten { asking: self, number };
        loop {
            if let Some(outcome) = waiting.outcome.take() {
                return outcome;
            }
            waiting.signal.wait().await;
        }
    }

    /// Asks what there is to ask, until the connection ends.
    pub(super) async fn carry(&self, met: Met, caller: Option<Caller>) {
        *self.caller.borrow_mut() = caller;
        if self.met.set((met.cluster.clone(), met.peer.node)).is_err() || self.is_over() {
            return;
        }
        let end = carry(met, self, &self.options).await;
        self.end(&end.to_string());
    }

    /// Nothing more is asked: what has left is lost, the rest was not heard.
    pub(super) fn end(&self, why: &str) {
        if self.over.set(why.to_owned()).is_err() {
            return;
        }
        self.line.end();
        self.caller.take();
        self.queue.take();
        for waiting in self.waiting.take().into_values() {
            let has_left = waiting.request.take().is_none();
            let why = why.to_owned();
            waiting.end(Err(if has_left { CallError::Lost(why) } else { CallError::Unreachable(why) }));
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.get().is_some()
    }

    /// The cluster and the node at the other end.
    pub(super) fn met(&self) -> Option<&(String, NodeId)> {
        self.met.get()
    }
}

impl Talk for Asking {
    fn line(&self) -> &Line {
        &self.line
    }

    fn next(&self) -> Option<Body> {
        loop {
            let number = self.queue.borrow_mut().pop_front()?;
            // Who asked may have given up.
            let request = self.waiting.borrow().get(&number).and_then(|waiting| waiting.request.take());
            if let Some(request) = request {
                return Some(Body::Request(Call { number, payload: request.into() }));
            }
        }
    }

    fn take(&self, body: Body) -> Result<(), End> {
        let Body::Reply(Call { number, payload }) = body else { return Err(End::Unexpected) };
        let waiting = self.waiting.borrow().get(&number).cloned();
        match waiting {
            Some(waiting) if waiting.request.borrow().is_some() => Err(End::Unexpected),
            Some(waiting) => {
                waiting.end(Ok(payload.into()));
                self.waiting.borrow_mut().remove(&number);
                Ok(())
            }
            None if number == 0 || number > self.last_number.get() => Err(End::Unexpected),
            None => Ok(()),
        }
    }

    fn has_room(&self) -> bool {
        true
    }
}

/// Takes a request away when nobody waits for it any more.
struct Forgotten<'a> {
    asking: &'a Asking,
    number: u64,
}

impl Drop for Forgotten<'_> {
    fn drop(&mut self) {
        self.asking.waiting.borrow_mut().remove(&self.number);
    }
}
