//! How a new node gets into a cluster, and what a node answers others.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use heddle_log_store::Disk;
use heddle_proto::ids::NodeId;
use heddle_replication_transport::{
    calls::{self, CallFrom, Handler, JoinError, Joined},
    handshake::{Identity, Secret},
    wire::{Purpose, Refusal},
};

use super::{
    message::{AGREEMENT, CONTROL, Join, Reply, Request, decode, decode_reply, encode_reply, encode_request},
    session::Session,
};
use crate::{metadata::raft::ChangeError, runtime::time::sleep};

/// How long a new node that is refused asks again: the process before it may have died just now, which takes a while to be
/// seen.
const REFUSAL_MAX: Duration = Duration::from_secs(5);

/// How long a new node waits before it asks again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// How often a node that is in a cluster looks whether its seed is in it too, where nobody answers there.
const SEED_ATTEMPTS_MAX: usize = 20;

/// Why a cluster does not take this node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefusal {
    /// It has another secret.
    #[error("the cluster at {0} has another secret: give this node the file that the others have")]
    Secret(String),
    /// What else is in the way.
    #[error("{0}")]
    Other(String),
}

/// Asks to be let in until somebody who leads does so, and gives the id of the cluster.
///
/// # Errors
/// When the cluster refuses this node, and why.
pub async fn join(
    seed: &str,
    identity: &Identity,
    secret: &Secret,
    address: String,
) -> Result<String, JoinRefusal> {
    let node = identity.me.node.get();
    let request = encode_request(&Request::Join(Join { node, address }));
    let mut ask = seed.to_owned();
    let mut refused_since: Option<Instant> = None;
    loop {
        let options = calls::Options::default();
        let nonsense = || JoinRefusal::Other(format!("{ask} answers something else than was asked"));
        let refusal = match calls::join(&ask, identity, secret, options, request.clone()).await {
            Ok(Joined { cluster, reply, .. }) => match decode_reply(&reply).map_err(|_| nonsense())? {
                Reply::Done => return Ok(cluster),
                Reply::Refused(why) => Some(why),
                Reply::NotLeader(leader) => {
                    if let Some(leader) = leader.filter(|leader| leader.address != ask) {
                        ask = leader.address;
                        continue;
                    }
                    None
                }
                Reply::Asked(_) | Reply::Alive(..) => return Err(nonsense()),
            },
            Err(JoinError::Refused(Refusal::Secret)) => return Err(JoinRefusal::Secret(ask)),
            Err(error @ JoinError::Version(_)) => {
                let advice = "run versions of Heddle that speak the same on all nodes";
                return Err(JoinRefusal::Other(format!("{error}: {advice}")));
            }
            Err(JoinError::Refused(Refusal::OwnNode | Refusal::NodeInUse)) => Some(id_in_use(node)),
            Err(error) => {
                tracing::warn!(cluster = ask, %error, "waiting to be let into the cluster");
                seed.clone_into(&mut ask);
                None
            }
        };
        match refusal {
            None => refused_since = None,
            Some(why) if refused_since.get_or_insert_with(Instant::now).elapsed() >= REFUSAL_MAX => {
                return Err(JoinRefusal::Other(why));
            }
            Some(why) => tracing::warn!(why, "asking again"),
        }
        sleep(ASK_AGAIN).await;
    }
}

fn id_in_use(node: u32) -> String {
    format!("node id {node} is used by a node of this cluster that runs; give this one another node_id")
}

/// Makes sure that a node which is in a cluster is not pointed at another one. The seed need not be there: a node that is
/// in a cluster does not need it.
///
/// # Errors
/// When the seed is in another cluster.
pub async fn check_seed(seed: &str, identity: &Identity, secret: &Secret) -> Result<(), JoinRefusal> {
    for _ in 0..SEED_ATTEMPTS_MAX {
        match calls::cluster_at(seed, identity, secret, calls::Options::default()).await {
            Ok(cluster) if cluster == identity.cluster => return Ok(()),
            Ok(cluster) => {
                return Err(JoinRefusal::Other(format!(
                    "this node belongs to cluster {}, and the cluster there is {cluster}: name a node of its own \
                     cluster in join, or start with an empty data directory to join that one",
                    identity.cluster
                )));
            }
            // Another secret too: while nodes get a new one in turn, that passes.
            Err(error) => tracing::debug!(seed, %error, "the seed does not say which cluster it is in"),
        }
        sleep(ASK_AGAIN).await;
    }
    Ok(())
}

/// What this node answers others.
pub fn answer<D: Disk>(session: Rc<Session<D>>) -> Handler {
    Rc::new(move |from, request| {
        let session = session.clone();
        Box::pin(async move { take(&session, &from, &request).await })
    })
}

async fn take<D: Disk>(session: &Session<D>, from: &CallFrom, request: &[u8]) -> Option<Vec<u8>> {
    let (kind, rest) = request.split_first()?;
    match (*kind, from.purpose) {
        (AGREEMENT, Purpose::Calls) => session.metadata().node().take(rest).await.ok(),
        (CONTROL, purpose) => match (decode::<Request>(rest).ok()?, purpose) {
            (Request::Tell(tell), Purpose::Calls) if tell.node == from.node.get() => {
                Some(encode_reply(&session.hear(tell)))
            }
            (Request::Moved(moved), Purpose::Calls) if moved.node == from.node.get() => {
                Some(encode_reply(&follow(session, moved).await))
            }
            (Request::Ask(ask), Purpose::Calls) => Some(encode_reply(&session.answer_ask(ask).await)),
            (Request::Join(join), Purpose::Join) if join.node == from.node.get() => {
                Some(encode_reply(&let_in(session, join).await))
            }
            (request @ (Request::HandOver(_) | Request::Remove(_) | Request::WhoLives), Purpose::Calls) => {
                Some(encode_reply(&session.answer_as_leader(request).await))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Lets a node in whose id nobody uses. One that is known and dead may come back with nothing: it has lost its disk.
async fn let_in<D: Disk>(session: &Session<D>, join: Join) -> Reply {
    let node = session.metadata().node();
    if node.leads().is_none() {
        return Reply::NotLeader(session.leader());
    }
    let id = NodeId::new(join.node);
    if session.metadata().image().nodes.contains_key(&join.node) {
        if session.is_alive(join.node) {
            return Reply::Refused(id_in_use(join.node));
        }
        // Whatever it had agreed to is gone: it must not be counted for it any more.
        if let Err(error) = node.expel(id).await {
            return refuse(session, &error);
        }
    }
    match node.admit(id, &join.address).await {
        Ok(()) => {
            tracing::info!(node = join.node, address = join.address, "a node has joined the cluster");
            Reply::Done
        }
        Err(error) => refuse(session, &error),
    }
}

/// A node that is in the cluster has another address.
async fn follow<D: Disk>(session: &Session<D>, moved: Join) -> Reply {
    let node = session.metadata().node();
    let id = NodeId::new(moved.node);
    if node.leads().is_none() {
        return Reply::NotLeader(session.leader());
    }
    match node.address_of(id) {
        None => Reply::Refused(format!("node {} is not in this cluster any more", moved.node)),
        Some(known) if known == moved.address => Reply::Done,
        Some(_) => match node.admit(id, &moved.address).await {
            Ok(()) => Reply::Done,
            Err(error) => refuse(session, &error),
        },
    }
}

fn refuse<D: Disk>(session: &Session<D>, error: &ChangeError) -> Reply {
    match error {
        // Another change is under way, or the leader has changed: it is to ask again.
        ChangeError::NotLeader { .. }
        | ChangeError::Unknown
        | ChangeError::Stopped
        | ChangeError::Refused(_) => {
            tracing::warn!(%error, "a node that wants to join has to ask again");
            Reply::NotLeader(session.leader())
        }
    }
}
