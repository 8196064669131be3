//! A network in memory that loses, delays, repeats and reorders messages, and whose links can be cut.
//!
//! It repeats what consensus says, which has to bear that, and no proposals: no [`Transport`] may.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use super::virtual_time::{Virtual, on_behalf};
use crate::{
    metadata::raft::{
        message::Request,
        network::{Transport, TransportError},
        runtime::Executor,
        types::Id,
    },
    runtime::{mesh::LocalFuture, oneshot::oneshot},
};

/// How a node takes a request: nothing when it was no request.
pub type Take = Rc<dyn Fn(Vec<u8>) -> LocalFuture<Option<Vec<u8>>>>;

/// What links do to messages, in thousandths of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// How many are lost.
    pub lost: u64,
    /// How many of consensus arrive twice.
    pub doubled: u64,
    /// The longest a message takes.
    pub delay_max: Duration,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<Id, Take>,
    cut: BTreeSet<(Id, Id)>,
    weather: Weather,
}

/// All links.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    state: Rc<RefCell<State>>,
}

/// One node's way into it.
pub struct Link {
    network: MemoryNetwork,
    from: Id,
}

impl MemoryNetwork {
    /// The way in for a node.
    pub fn link(&self, from: Id) -> Link {
        Link { network: self.clone(), from }
    }

    /// From now on requests to `id` go there.
    pub fn plug(&self, id: Id, take: Take) {
        self.state.borrow_mut().nodes.insert(id, take);
    }

    /// From now on nobody is there.
    pub fn unplug(&self, id: Id) {
        self.state.borrow_mut().nodes.remove(&id);
    }

    /// Cuts what `id` sends and what is sent to it.
    pub fn isolate(&self, id: Id, others: impl IntoIterator<Item = Id>) {
        for other in others {
            self.cut(id, other);
            self.cut(other, id);
        }
    }

    /// Cuts one direction.
    pub fn cut(&self, from: Id, to: Id) {
        self.state.borrow_mut().cut.insert((from, to));
    }

    /// Mends everything.
    pub fn heal(&self) {
        self.state.borrow_mut().cut.clear();
    }

    /// Changes what links do.
    pub fn set_weather(&self, weather: Weather) {
        self.state.borrow_mut().weather = weather;
    }

    /// Takes a message over one link; whether it arrives.
    async fn carry(&self, from: Id, to: Id) -> bool {
        let weather = self.state.borrow().weather;
        let lost = chance(weather.lost);
        Virtual::sleep(weather.delay_max.mul_f64(fraction())).await;
        !lost && !self.state.borrow().cut.contains(&(from, to))
    }

    fn deliver(&self, to: Id, request: Vec<u8>, reply: impl FnOnce(Option<Vec<u8>>) + 'static) {
        let Some(take) = self.state.borrow().nodes.get(&to).cloned() else { return };
        on_behalf(to, || Virtual::spawn(async move { reply(take(request).await) }));
    }

    fn is_off(&self, id: Id) -> bool {
        !self.state.borrow().nodes.contains_key(&id)
    }
}

/// Whether something happens that does so in so many of a thousand cases.
pub fn chance(thousandths: u64) -> bool {
    Virtual::random() % 1000 < thousandths
}

fn fraction() -> f64 {
    (Virtual::random() % 1_000_000) as f64 / 1e6
}

impl Transport for Link {
    async fn call(&self, node: Id, _address: &str, request: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        if self.network.is_off(node) && chance(500) {
            return Err(TransportError::Unreachable("nobody listens there".to_owned()));
        }
        let is_proposal = matches!(Request::<Virtual>::decode(&request), Ok(Request::Propose(_)));
        if !is_proposal && chance(self.network.state.borrow().weather.doubled) {
            self.network.deliver(node, request.clone(), |_| ());
        }
        if !self.network.carry(self.from, node).await {
            return Err(lost().await);
        }
        let (sender, receiver) = oneshot();
        self.network.deliver(node, request, |reply| {
            if let Some(reply) = reply {
                sender.send(reply);
            }
        });
        let Ok(reply) = receiver.await else { return Err(lost().await) };
        if self.network.carry(node, self.from).await { Ok(reply) } else { Err(lost().await) }
    }
}

/// What the caller of a lost message sees: the connection breaks at once, or nothing ever happens.
async fn lost() -> TransportError {
    if chance(500) {
        std::future::pending::<()>().await;
    }
    TransportError::Lost("the network lost it".to_owned())
}
