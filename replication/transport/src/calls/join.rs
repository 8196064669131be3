//! What a node asks that knows the secret of a cluster and nothing else of it: to be let in, and which cluster it is.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use futures_lite::future;
use heddle_net::socket::{pause, spawn};
use heddle_proto::ids::{CoreId, NodeId};
use heddle_replication_driver::Peer;

use super::asking::Asking;
use super::target::give_up_after;
use super::{CallError, Options};
use crate::door::{DialError, reach};
use crate::handshake::{Aim, HandshakeError, Identity, Secret};
use crate::wire::{FORMAT_VERSION, Refusal};

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

/// Why there is no answer to who joins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Nobody has heard it.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// It may have been heard.
    #[error("no reply: {0}")]
    Lost(String),
    /// One of the ends refuses the other.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The other end speaks another version.
    #[error(
        "the other end speaks version {0} of the protocol between nodes, this one version {FORMAT_VERSION}"
    )]
    Version(u8),
}

impl From<CallError> for JoinError {
    fn from(error: CallError) -> JoinError {
        match error {
            CallError::Unreachable(why) => JoinError::Unreachable(why),
            CallError::Lost(why) => JoinError::Lost(why),
        }
    }
}

impl From<DialError> for JoinError {
    fn from(error: DialError) -> JoinError {
        match error {
            DialError::Handshake(HandshakeError::Refused(refusal)) => JoinError::Refused(refusal),
            DialError::Handshake(HandshakeError::Version(version)) => JoinError::Version(version),
            DialError::Handshake(error) if error.refusal().is_some() => {
                JoinError::Refused(error.refusal().unwrap_or(Refusal::Unknown))
            }
            other => JoinError::Unreachable(other.to_string()),
        }
    }
}

/// Which cluster is at `HOST:PORT`, for a node of any: it is asked in nobody's name.
///
/// # Errors
/// [`JoinError`]
pub async fn cluster_at(
    address: &str,
    identity: &Identity,
    secret: &Secret,
    options: Options,
) -> Result<String, JoinError> {
    let nobody = Peer { node: NodeId::new(0), core: CoreId::new(0) };
    let identity = Identity { cluster: String::new(), me: nobody, ..identity.clone() };
    let (roster, time_max) = (RefCell::default(), options.attempt_time_max);
    let reached = async {
        let me = (&identity, secret, &roster);
        Ok(reach(address, (time_max, time_max), me, Aim::Join).await?.cluster)
    };
    let late = async {
        pause(2 * time_max).await;
        Err(JoinError::Unreachable("it took too long to connect".to_owned()))
    };
    future::or(reached, late).await
}

/// Asks whoever is at `HOST:PORT`, on a connection of its own. The identity has no cluster id; if it has one, only that cluster
/// answers. Dropping the future gives up.
///
/// # Errors
/// [`JoinError`]
///
/// # Panics
/// If the options contradict each other.
pub async fn join(
    seed_address: &str,
    identity: &Identity,
    secret: &Secret,
    options: Options,
    request: Vec<u8>,
) -> Result<Joined, JoinError> {
    options.check();
    let asking = Rc::new(Asking::new(options));
    let _ended = Ended(&asking);
    let (address, identity, secret) = (seed_address.to_owned(), identity.clone(), secret.clone());
    let (made, failure) = (asking.clone(), Rc::new(OnceCell::new()));
    let failed = failure.clone();
    spawn(async move {
        let time_max = options.attempt_time_max;
        give_up_after(time_max, &made);
        let me = (&identity, &secret, &RefCell::default());
        match reach(&address, (time_max, time_max), me, Aim::Join).await {
            Ok(met) => made.carry(met, None).await,
            Err(error) => {
                let why = error.to_string();
                // The first is the only one.
                let _ = failed.set(JoinError::from(error));
                made.end(&why);
            }
        }
    });
    let reply = asking.ask(request).await.map_err(|error| match failure.get() {
        Some(failure) => failure.clone(),
        None => JoinError::from(error),
    })?;
    match asking.met() {
        Some((cluster, node)) => Ok(Joined { cluster: cluster.clone(), node: *node, reply }),
        None => Err(JoinError::Lost("nobody has answered".to_owned())),
    }
}

/// Ends the connection with the call.
struct Ended<'a>(&'a Asking);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.end("nobody waits any more");
    }
}
