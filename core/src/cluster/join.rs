//! How a new node gets into a cluster, and what a node answers others.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use heddle_log_store::Disk;
use heddle_proto::ids::NodeId;
use heddle_replication_transport::{
    calls::{self, CallError, CallFrom, Handler, Joined},
    handshake::{Identity, Secret},
    wire::Purpose,
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

/// Asks to be let in until somebody who leads does so, and gives the id of the cluster.
///
/// # Errors
/// When the cluster refuses this node, and why.
pub async fn join(
    seed: &str,
    identity: &Identity,
    secret: &Secret,
    address: String,
) -> Result<String, String> {
    let node = identity.me.node.get();
    let request = encode_request(&Request::Join(Join { node, address }));
    let mut ask = seed.to_owned();
    let refused_at = Instant::now();
    loop {
        let options = calls::Options::default();
        match calls::join(&ask, identity, secret, options, request.clone()).await {
            Ok(Joined { cluster, reply, .. }) => match decode_reply(&reply) {
                Ok(Reply::Done) => return Ok(cluster),
                Ok(Reply::Refused(why)) if refused_at.elapsed() >= REFUSAL_MAX => return Err(why),
                Ok(Reply::Refused(why)) => tracing::warn!(why, "asking again"),
                Ok(other @ Reply::Alive(..)) => {
                    return Err(format!("{ask} answers something else than was asked: {other:?}"));
                }
                Ok(Reply::NotLeader(leader)) => {
                    if let Some(leader) = leader.filter(|leader| leader.address != ask) {
                        ask = leader.address;
                        continue;
                    }
                }
                Ok(Reply::Asked(_)) | Err(_) => {
                    return Err(format!("{ask} answers something else than was asked"));
                }
            },
            Err(CallError::Unreachable(why) | CallError::Lost(why)) => {
                tracing::warn!(cluster = ask, why, "waiting to be let into the cluster");
                seed.clone_into(&mut ask);
            }
        }
        sleep(ASK_AGAIN).await;
    }
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
            return Reply::Refused(format!(
                "node id {} is used by a node of this cluster that runs; give this one another node_id",
                join.node
            ));
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
