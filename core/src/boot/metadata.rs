//! Core 0 takes up the metadata, joins its cluster if it is in none, and registers this start; the others wait for that.

use std::{path::Path, rc::Rc, sync::Arc};

use heddle_log_store::GlommioDisk;
use heddle_net::socket::Listener;
use heddle_proto::ids::NodeId;
use heddle_replication::message::Life;
use heddle_replication_transport::{Calls, Door, calls, handshake::Secret};

use super::{data_dir, plan::Plan};
use crate::{
    cluster::{
        join::{self, JoinRefusal},
        session::Session,
    },
    config::Config,
    fatal::Fatal,
    metadata::{
        ClusterImage, Command, Outcome, peers::PeerTransport, raft::LOG_NAME, service::MetadataService,
    },
    runtime::{Queue, Queues, signals},
};

/// The secret that the nodes of the cluster share, if this node has peers.
///
/// # Errors
/// When the file cannot be read or holds too little.
pub fn read_secret(config: &Config) -> Result<Option<Secret>, Fatal> {
    let Some(peers) = &config.peers else { return Ok(None) };
    let unusable = |why: String| Fatal::PeerSecret { path: peers.secret_file.clone(), detail: why };
    let bytes = std::fs::read(&peers.secret_file).map_err(|error| unusable(error.to_string()))?;
    Secret::new(bytes.trim_ascii()).map(Some).map_err(|error| unusable(error.to_string()))
}

/// Reads the metadata on core 0; see the module.
///
/// # Errors
/// When what is there cannot be trusted, or the cluster does not take this node.
pub async fn read(
    plan: &Arc<Plan>,
    (core, peers): (u16, &mut Option<Listener>),
    queues: Queues,
    disk: &GlommioDisk,
) -> Result<Option<Rc<Session<GlommioDisk>>>, Fatal> {
    if core != 0 {
        plan.metadata_read.meet().await;
        return Ok(None);
    }
    // What is waited for here may never come, and who is told to stop meanwhile has nothing to stop yet.
    queues.spawn(Queue::Control, {
        let plan = plan.clone();
        async move {
            signals::stop_requested().await;
            if !plan.is_shown() {
                tracing::info!("stopped before it was ready");
                std::process::exit(0);
            }
        }
    });
    let config = &plan.config;
    refuse_amnesia(plan)?;
    let cluster_id = cluster_id(plan).await?;
    if !plan.data_dir.node.cluster_id.is_empty() {
        check_seed(plan, &cluster_id, queues);
    }
    let node = NodeId::new(config.node_id);
    let transport = Rc::new(PeerTransport::default());
    let service = MetadataService::open(node, disk.clone(), &config.data_dir, transport.clone());
    let service = service.await.map_err(|error| Fatal::MetadataLog { detail: error.to_string() })?;
    check_cluster(plan, &cluster_id, &service.image())?;
    let session = Session::new(node, service.clone(), transport.clone());
    session.fill_new_nodes(config.fill_new_nodes);
    let address = config.peers.as_ref().map(crate::config::PeerConfig::address).unwrap_or_default();
    if let (Some(secret), Some(listener)) = (plan.secret(), peers.take()) {
        let identity = plan.identity(0, &cluster_id);
        let door = Door::new(identity, secret.clone(), heddle_replication_transport::Options::default());
        let calls = Calls::new(&door, calls::Options::default());
        calls.answer(join::answer(session.clone()));
        transport.connect(calls);
        session.opened(door.clone());
        queues.spawn(Queue::Control, async move { door.serve(listener).await });
    }
    if plan.data_dir.node.is_founder {
        let founded = service.node().found(&address).await;
        founded.map_err(|error| Fatal::MetadataLog { detail: error.to_string() })?;
    }
    let (telling, told) = (session.clone(), address.clone());
    queues.spawn(Queue::Control, async move { telling.tell_address(&told).await });
    let refused = |error: crate::metadata::MetadataError| Fatal::MetadataLog { detail: error.to_string() };
    let start = Command::StartNode {
        node: config.node_id,
        host: config.advertised_host(),
        port: config.advertised_port_of_core(0),
        core_count: config.core_count() as u16,
        port_mode: config.port_mode,
        peer_address: address,
        rack: config.rack.clone().unwrap_or_default(),
    };
    service.insist(Command::FoundCluster { cluster_id: cluster_id.clone() }).await.map_err(refused)?;
    let Outcome::Life(life) = service.insist(start).await.map_err(refused)? else {
        return Err(Fatal::MetadataLog { detail: "this start was not numbered".to_owned() });
    };
    let watched = session.clone();
    queues.spawn(Queue::Control, async move {
        let why = watched.metadata().node().failed().await;
        if !watched.is_stopped() {
            crate::fatal::fatal(Fatal::MetadataLog { detail: why });
        }
    });
    session.live(life);
    for run in 0..3 {
        let session = session.clone();
        queues.spawn(Queue::Control, async move {
            match run {
                0 => session.keep().await,
                1 => session.change_in_sync().await,
                _ => session.control().await,
            }
        });
    }
    plan.show(cluster_id, Life(life), service.image());
    plan.metadata_read.meet().await;
    Ok(Some(session))
}

/// The cluster that this node is in; one that is in none yet joins.
async fn cluster_id(plan: &Arc<Plan>) -> Result<String, Fatal> {
    let (config, node) = (&plan.config, &plan.data_dir.node);
    if !node.cluster_id.is_empty() {
        return Ok(node.cluster_id.clone());
    }
    let (Some(seed), Some(peers), Some(secret)) = (&config.join, &config.peers, plan.secret()) else {
        return Err(Fatal::Join {
            seed: config.join.clone().unwrap_or_default(),
            detail: "this node has not been let into a cluster yet: start it with --join".to_owned(),
        });
    };
    let identity = plan.identity(0, "");
    let joined = join::join(seed, &identity, secret, peers.address()).await;
    let cluster_id = joined.map_err(|why| refused(config, why))?;
    data_dir::belongs_to(&config.data_dir, node, &cluster_id)?;
    tracing::info!(cluster_id, "joined the cluster");
    Ok(cluster_id)
}

fn refused(config: &Config, why: JoinRefusal) -> Fatal {
    let detail = why.to_string();
    match (why, &config.peers) {
        (JoinRefusal::Secret(_), Some(peers)) => {
            Fatal::PeerSecret { path: peers.secret_file.clone(), detail }
        }
        _ => Fatal::Join { seed: config.join.clone().unwrap_or_default(), detail },
    }
}

/// A node that is in a cluster ends when `join` names a node of another: whoever wrote that expects something else of it
/// than it does. What it does until that is known it does in its own cluster.
fn check_seed(plan: &Arc<Plan>, cluster_id: &str, queues: Queues) {
    let (Some(seed), Some(peers), Some(secret)) = (&plan.config.join, &plan.config.peers, plan.secret())
    else {
        return;
    };
    if *seed == peers.address() {
        return;
    }
    let (plan, seed, secret) = (plan.clone(), seed.clone(), secret.clone());
    let identity = plan.identity(0, cluster_id);
    queues.spawn(Queue::Control, async move {
        if let Err(why) = join::check_seed(&seed, &identity, &secret).await {
            crate::fatal::fatal(refused(&plan.config, why));
        }
    });
}

/// A node that has joined has voted, and must not vote again with a log that does not say how.
fn refuse_amnesia(plan: &Arc<Plan>) -> Result<(), Fatal> {
    let node = &plan.data_dir.node;
    let log = plan.config.data_dir.join("metadata").join(LOG_NAME);
    if plan.data_dir.is_new || node.is_founder || node.cluster_id.is_empty() || log.exists() {
        return Ok(());
    }
    Err(Fatal::MetadataLog {
        detail: format!(
            "{} is gone: move the data directory away, and start with an empty one and --join to take part again",
            log.display()
        ),
    })
}

/// A directory that had a cluster must still have its metadata: starting without it would orphan every topic.
fn check_cluster(plan: &Arc<Plan>, cluster_id: &str, image: &ClusterImage) -> Result<(), Fatal> {
    let is_new = plan.data_dir.is_new || !plan.data_dir.node.is_founder || !has_logs(&plan.config.data_dir);
    if image.cluster_id.is_empty() && is_new || *image.cluster_id == *cluster_id {
        return Ok(());
    }
    let found = if image.cluster_id.is_empty() { "none" } else { &image.cluster_id };
    Err(Fatal::MetadataLog {
        detail: format!(
            "{}/metadata holds the metadata of cluster {found}, and node.toml says {cluster_id}",
            plan.config.data_dir.display()
        ),
    })
}

/// Whether topics have ever been written below the directory (a first start may have ended before its metadata did).
fn has_logs(data_dir: &Path) -> bool {
    std::fs::read_dir(data_dir.join("topics")).is_ok_and(|mut entries| entries.next().is_some())
}
