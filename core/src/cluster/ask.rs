//! What any node may ask of whoever leads the metadata, and what that answers.

use std::time::Duration;

use futures_lite::future;
use heddle_log_store::Disk;
use heddle_proto::ids::NodeId;

use super::{
    message::{Reply, Request, decode_reply, encode_request},
    session::Session,
};
use crate::{
    metadata::{Command, raft::types::Id},
    runtime::time::sleep,
};

/// How often a leader is looked for before the asker is told that there is none.
const ATTEMPTS_MAX: usize = 10;

/// How long between that.
const PAUSE: Duration = Duration::from_millis(200);

/// A leader that has not answered by then is asked again.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

impl<D: Disk> Session<D> {
    /// Asks whoever leads the metadata, this node or another. What is asked may be done twice where an answer is lost.
    pub async fn ask_leader(&self, request: Request) -> Reply {
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                sleep(PAUSE).await;
            }
            match self.ask_once(request.clone()).await {
                None | Some(Reply::NotLeader(_)) => {}
                Some(reply) => return reply,
            }
        }
        Reply::Refused("nobody who leads the cluster's metadata can be asked; try again".to_owned())
    }

    async fn ask_once(&self, request: Request) -> Option<Reply> {
        let node = self.metadata().node();
        if node.leads().is_some() {
            return Some(self.answer_as_leader(request).await);
        }
        let leader = node.members().leader?;
        let address = node.address_of(leader)?;
        let call = self.transport().ask(Id::from(leader.get()), &address, encode_request(&request));
        let late = async {
            sleep(ANSWER_TIME_MAX).await;
            None
        };
        let bytes = future::or(async { call.await.ok() }, late).await?;
        decode_reply(&bytes).ok()
    }

    /// Answers what is asked of whoever leads the metadata.
    pub async fn answer_as_leader(&self, request: Request) -> Reply {
        let not_leader = || Reply::NotLeader(self.leader());
        match request {
            Request::HandOver(wishes) => {
                let heard = self.with_controller(|_, controller| {
                    wishes.iter().for_each(|wish| controller.hand_over(wish.at, wish.epoch));
                });
                heard.map_or_else(not_leader, |()| Reply::Done)
            }
            Request::Remove(node) => {
                match self.with_controller(|now, controller| controller.is_alive(now, node)) {
                    None => not_leader(),
                    Some(true) => Reply::Refused(format!("node {node} is alive; stop it first")),
                    Some(false) => self.remove(node).await,
                }
            }
            Request::WhoLives => {
                let image = self.metadata().image();
                let alive = self.with_controller(|now, controller| controller.alive(now, &image));
                alive.map_or_else(not_leader, |alive| Reply::Alive(self.node(), alive.into_iter().collect()))
            }
            Request::Tell(_) | Request::Join(_) | Request::Ask(_) | Request::Moved(_) => {
                Reply::Refused("that is asked otherwise".to_owned())
            }
        }
    }

    async fn remove(&self, node: u32) -> Reply {
        let members = self.metadata().node().members();
        let id = NodeId::new(node);
        let is_member = members.voters.contains(&id) || members.learners.contains(&id);
        let is_registered = self.metadata().image().nodes.contains_key(&node);
        if (is_registered || !is_member)
            && let Err(error) = self.metadata().submit(Command::RemoveNode { node }).await
        {
            return Reply::Refused(error.to_string());
        }
        tracing::info!(node, "a node has been removed from the cluster");
        if is_member && let Err(error) = self.metadata().node().expel(id).await {
            // It is looked after later.
            tracing::warn!(%error, node, "a node that was removed still counts as a member for now");
        }
        Reply::Done
    }
}
