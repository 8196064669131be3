//! The metadata as the rest of a node sees it, on core 0: propose a change, read the newest image, hear of new ones.
//!
//! Behind it is the node's part in the cluster's agreement ([`super::raft`]); a node that is alone agrees with itself. No
//! answer is let out before the change is durable on a majority and every core of this node works by it.

use std::{cell::RefCell, path::Path, rc::Rc, sync::Arc, time::Duration};

use heddle_log_store::Disk;
use heddle_proto::ids::NodeId;

use super::{
    command::{Command, MetadataError, Outcome},
    image::ClusterImage,
    peers::PeerTransport,
    raft::{self, CoreExecutor, ProposeError, StartError},
};
use crate::runtime::{mesh::LocalFuture, time::sleep};

/// How a new image reaches every core.
pub type Publish = Rc<dyn Fn(Arc<ClusterImage>) -> LocalFuture<()>>;

/// A node's part in the agreement, on a core, over sockets.
pub type MetadataNode<D> = raft::Node<CoreExecutor, D, PeerTransport>;

/// See the module.
pub struct MetadataService<D: Disk> {
    node: Rc<MetadataNode<D>>,
    publish: Rc<RefCell<Option<Publish>>>,
}

impl<D: Disk> MetadataService<D> {
    /// Takes up what is below `data_dir`; nothing is asked of anybody yet.
    ///
    /// # Errors
    /// When what is there cannot be trusted.
    pub async fn open(
        node: NodeId,
        disk: D,
        data_dir: &Path,
        transport: Rc<PeerTransport>,
    ) -> Result<Rc<Self>, StartError> {
        let publish: Rc<RefCell<Option<Publish>>> = Rc::default();
        let to = publish.clone();
        let publish_all: Publish = Rc::new(move |image| {
            let to = to.borrow().clone();
            Box::pin(async move {
                if let Some(publish) = to {
                    publish(image).await;
                }
            })
        });
        let dir = data_dir.join("metadata");
        let options = raft::Options::default();
        let node = raft::Node::start(node, &options, (disk, &dir), transport, publish_all).await?;
        Ok(Rc::new(MetadataService { node, publish }))
    }

    /// From now on new images go there; the newest goes there now.
    pub async fn publish_to(&self, publish: Publish) {
        *self.publish.borrow_mut() = Some(publish.clone());
        publish(self.image()).await;
    }

    /// The newest image that every core of this node works by.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.node.image()
    }

    /// The node's part in the agreement.
    pub fn node(&self) -> &Rc<MetadataNode<D>> {
        &self.node
    }

    /// Proposes a change and waits for its outcome.
    ///
    /// # Errors
    /// When it was refused, and then nothing changed; or when nobody who leads could be asked.
    pub async fn submit(&self, command: Command) -> Result<Outcome, MetadataError> {
        self.node.propose(command).await.map_err(|error| match error {
            ProposeError::Refused(refused) => refused,
            ProposeError::Stopped => MetadataError::Closing,
            ProposeError::NoLeader | ProposeError::Unknown => MetadataError::Unavailable(error.to_string()),
        })
    }

    /// Proposes a change until somebody who leads has taken it: what a start cannot do without.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn insist(&self, command: Command) -> Result<Outcome, MetadataError> {
        const PAUSE: Duration = Duration::from_millis(200);
        loop {
            match self.submit(command.clone()).await {
                Err(MetadataError::Unavailable(why)) => {
                    tracing::warn!(why, "waiting for the cluster's metadata");
                    sleep(PAUSE).await;
                }
                result => return result,
            }
        }
    }

    /// Ends the node's part.
    pub async fn close(&self) {
        self.node.stop().await;
    }
}
