//! The one request of a node that knows the secret of a cluster and nothing else of it.

use std::cell::RefCell;
use std::rc::Rc;

use heddle_net::socket::spawn;
use heddle_proto::ids::NodeId;

use super::asking::Asking;
use super::target::give_up_after;
use super::{CallError, Options};
use crate::door::reach;
use crate::handshake::{Aim, Identity, Secret};

/// The answer to who joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The cluster it is in: who answers has proved to know the secret.
    pub cluster: String,
    /// Who answers.
    pub node: NodeId,
    /// What it says.
    pub reply: Vec<u8>,
}

/// Asks whoever is at `HOST:PORT`, on a connection of its own. The identity has no cluster id; if it has one, only that cluster
/// answers. Dropping the future gives up.
///
/// # Errors
/// [`CallError`]
///
/// # Panics
/// If the options contradict each other.
pub async fn join(
    seed_address: &str,
    identity: &Identity,
    secret: &Secret,
    options: Options,
    request: Vec<u8>,
) -> Result<Joined, CallError> {
    options.check();
    let asking = Rc::new(Asking::new(options));
    let _ended = Ended(&asking);
    let (address, identity, secret) = (seed_address.to_owned(), identity.clone(), secret.clone());
    let made = asking.clone();
    spawn(async move {
        let time_max = options.attempt_time_max;
        give_up_after(time_max, &made);
        let me = (&identity, &secret, &RefCell::default());
        match reach(&address, (time_max, time_max), me, Aim::Join).await {
            Ok(met) => made.carry(met, None).await,
            Err(error) => made.end(&error.to_string()),
        }
    });
    let reply = asking.ask(request).await?;
    match asking.met() {
        Some((cluster, node)) => Ok(Joined { cluster: cluster.clone(), node: *node, reply }),
        None => Err(CallError::Lost("nobody has answered".to_owned())),
    }
}

/// Ends the connection with the call.
struct Ended<'a>(&'a Asking);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.end("nobody waits any more");
    }
}
