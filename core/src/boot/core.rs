//! The life of one core from boot to stop.

use std::{rc::Rc, sync::Arc, time::Instant};

use heddle_log_store::{
    Disk, GlommioDisk, LogStore, RecoveredPartition, StorageError, list_partitions, list_wal_dirs, replay_wal,
};
use heddle_net::{http, socket::Listener};
use heddle_proto::{
    error::ErrorCode,
    ids::{CoreId, NodeId, TopicPartition},
};
use heddle_replication_driver::promises::{PromiseFiles, Promises};

use super::{
    HAND_OVER_MAX, STOP_GRACE,
    listen::{self, CoreSockets},
    metadata,
    plan::Plan,
    promises,
};
use crate::{
    admin::{metrics::CoreMetrics, server::Admin},
    cluster::message::Reply,
    config::ConfigError,
    fatal::{Fatal, fatal},
    metadata::{ClusterImage, Command},
    runtime::{Queue, Queues, mesh::MeshEnds, signals, time::sleep},
    shard::{
        Shard, ShardParts,
        hooks::ShardHooks,
        replicas::Replicas,
        request::{CoreReply, CoreRequest},
    },
};

/// Boots the core, serves, and returns when it has stopped cleanly.
///
/// # Errors
/// Why it could not; other cores may be waiting for it, so the process must end.
pub async fn run(
    plan: Arc<Plan>,
    core: u16,
    sockets: CoreSockets,
    ends: MeshEnds<CoreRequest, CoreReply>,
) -> Result<(), Fatal> {
    match boot_and_serve(&plan, core, sockets, ends).await {
        Ok(()) => Ok(()),
        Err(reason) => fatal(reason),
    }
}

async fn boot_and_serve(
    plan: &Arc<Plan>,
    core: u16,
    sockets: CoreSockets,
    ends: MeshEnds<CoreRequest, CoreReply>,
) -> Result<(), Fatal> {
    let queues = Queues::create();
    let listener = listen::attach(sockets.data)?;
    let admin = Rc::new(Admin::default());
    let admin_listener = sockets.admin.map(listen::attach).transpose()?;
    let admin_stop = admin_listener.as_ref().map(Listener::shutdown_handle);
    if let Some(listener) = admin_listener {
        let admin = admin.clone();
        let answer = move |request| {
            let admin = admin.clone();
            async move { admin.answer(request).await }
        };
        queues.spawn(Queue::Control, http::serve(listener, http::HttpOptions::default(), answer));
    }
    let begun = Instant::now();
    let disk = GlommioDisk::new();
    let mut peers = sockets.peers.map(listen::attach).transpose()?;
    let metadata = metadata::read(plan, (core, &mut peers), queues, &disk).await?;
    let hooks: Rc<ShardHooks<GlommioDisk>> = Rc::default();
    let Recovered { store, files, promises, damaged } = recover(plan, core, &disk, hooks.clone()).await?;
    let me = NodeId::new(plan.config.node_id);
    plan.promises_taken.meet().await;
    // Before any replica promises more: what is left behind of an older time would count beside that.
    promises::retire(plan, &disk, CoreId::new(core)).await?;
    let replicas = Replicas::new(
        (me, plan.life()),
        plan.replica_options(),
        plan.image(),
        store.clone(),
        (files, promises),
        plan.homes.clone(),
    );
    let shard = Shard::new(ShardParts {
        config: plan.config.clone(),
        queues,
        mesh: ends.connect().await,
        store,
        hooks,
        metrics: Rc::new(CoreMetrics::default()),
        metadata,
        image: plan.image(),
        replicas,
    });
    start_loops(&shard);
    let door = match &shard.metadata {
        Some(session) => session.door(),
        None => plan.door(core),
    };
    if let (Some(door), Some(listener)) = (door.clone(), peers) {
        queues.spawn(Queue::Hot, async move { door.serve(listener).await });
    }
    if let Some(session) = &shard.metadata {
        let asked = Rc::downgrade(&shard);
        session.answer_with(Rc::new(move |ask| {
            let asked = asked.upgrade();
            Box::pin(async move {
                match asked {
                    Some(shard) => shard.answer_node(ask).await,
                    None => Reply::Asked(ErrorCode::CoordinatorNotAvailable.code()),
                }
            })
        }));
    }
    if let Some(session) = shard.metadata.clone() {
        let said = Rc::downgrade(&shard);
        queues.spawn(Queue::Control, async move {
            let say = async |is_in_touch| {
                let Some(shard) = said.upgrade() else { return };
                for core in shard.mesh.peers() {
                    let _ = shard.mesh.ask(core, CoreRequest::Touch(is_in_touch)).await;
                }
                shard.touch(is_in_touch);
            };
            session.watch_touch(say).await;
        });
    }
    shard.mend_replicas(damaged).await.map_err(|error| storage_failure(&error))?;
    shard.start_replicas(door.as_ref());
    shard.follow_replicas();
    shard.delete_moved(shard.store.recovered());
    hear_of_metadata(&shard).await;
    shard.follow_groups(&ClusterImage::default());
    shard.follow_transactions();
    plan.ready.meet().await;
    queues.spawn(Queue::Control, take_up(shard.clone()));
    if core == 0 {
        finish_deletions(&shard);
        admin.ready(shard.clone());
        announce(&shard, begun);
    }
    let stop = listener.shutdown_handle();
    queues.spawn(Queue::Hot, listen::accept(shard.clone(), listener));
    signals::stop_requested().await;
    shard.settle_before_hand_over().await;
    plan.settled.meet().await;
    if let Some(session) = &shard.metadata {
        session.leave(HAND_OVER_MAX).await;
    }
    plan.handed_over.meet().await;
    stop.shutdown();
    stop_serving(plan, &shard).await?;
    if let Some(stop) = admin_stop {
        stop.shutdown();
    }
    Ok(())
}

/// Brings the partitions that were found on disk to life, a few at a time: retention and compaction go by the settings of
/// a topic, also where no client ever asks.
async fn take_up(shard: Rc<Shard<GlommioDisk>>) {
    const AT_ONCE: usize = 16;
    for some in shard.store.recovered().chunks(AT_ONCE) {
        for at in some {
            // One that is gone from the metadata meanwhile, or led elsewhere, needs nothing.
            let _ = shard.partition(*at);
        }
        sleep(std::time::Duration::from_millis(1)).await;
    }
}

fn announce(shard: &Rc<Shard<GlommioDisk>>, begun: Instant) {
    let image = shard.image();
    let addresses: Vec<String> = image
        .nodes
        .get(&shard.node.get())
        .map(|node| node.brokers().map(|broker| format!("{}:{}", broker.host, broker.port)).collect())
        .unwrap_or_default();
    tracing::info!(
        took_ms = begun.elapsed().as_millis() as u64,
        topics = image.topics.len(),
        "ready: clients connect to {}",
        addresses.join(", ")
    );
}

/// Reads this core's share of the WALs, deals what is in them to the owners, and opens what was dealt to this core.
async fn recover(
    plan: &Arc<Plan>,
    core: u16,
    disk: &GlommioDisk,
    hooks: Rc<ShardHooks<GlommioDisk>>,
) -> Result<Recovered<GlommioDisk>, Fatal> {
    let options = plan.store_options();
    let cores = plan.config.core_count() as u16;
    let image = plan.image();
    let mut mine = list_wal_dirs(disk, &options).await.map_err(|error| storage_failure(&error))?;
    mine.retain(|dir| dir % cores == core);
    for dir in &mine {
        let contents = replay_wal(disk, &options, *dir).await.map_err(|error| storage_failure(&error))?;
        deal(plan, &image, *dir, contents)?;
    }
    if core == 0 {
        deal_segments(plan, &image, disk, &options).await?;
    }
    promises::deal(plan, disk, CoreId::new(core)).await?;
    plan.wals_read.meet().await;
    let recovered = plan.take(core);
    let store = LogStore::open(disk.clone(), options, heddle_proto::ids::CoreId::new(core), recovered, hooks)
        .await
        .map_err(|error| storage_failure(&error))?;
    let core = CoreId::new(core);
    let damaged = damaged(&image, &store);
    let (files, promises) = promises::take(plan, disk, core, &damaged).await?;
    for at in store.recovered() {
        assert!(plan.homes.take(at, core), "{at}: two cores have recovered one log");
    }
    plan.recovered.meet().await;
    store.retire_old_wals(&mine).await.map_err(|error| storage_failure(&error))?;
    // A log that was deleted may be made again from now on: nothing tells of what it was before.
    plan.retired.meet().await;
    Ok(Recovered { store, files, promises, damaged })
}

/// What recovery leaves a core with.
struct Recovered<D: Disk> {
    store: LogStore<D>,
    files: PromiseFiles<D>,
    promises: Option<(Promises, u64)>,
    /// Logs that are damaged, whose replicas are doubted on stable storage.
    damaged: Vec<TopicPartition>,
}

/// The logs of this core in which recovery has found damage.
fn damaged<D: Disk>(image: &ClusterImage, store: &LogStore<D>) -> Vec<TopicPartition> {
    let is_damaged = |at: &TopicPartition| {
        let topic = image.topic_by_id(at.topic);
        topic.is_some_and(|topic| store.log(*at, topic.config.log).damage().is_some())
    };
    store.recovered().into_iter().filter(is_damaged).collect()
}

fn deal(
    plan: &Arc<Plan>,
    image: &ClusterImage,
    dir: u16,
    contents: heddle_log_store::WalContents,
) -> Result<(), Fatal> {
    if let Some(lost) = contents.lost_frames.first() {
        return Err(Fatal::StorageCorrupt {
            detail: format!(
                "the write-ahead log of core {dir} is damaged and does not tell which records it held: frame {} in {}",
                lost.sequence,
                lost.file.display()
            ),
        });
    }
    let node = heddle_proto::ids::NodeId::new(plan.config.node_id);
    for (at, found) in contents.partitions {
        // Entries of a deleted topic have no owner and are dropped with the WAL that holds them.
        if let Some(owner) = image.core_on(node, at) {
            plan.deal(owner.get(), at, found);
        }
    }
    Ok(())
}

/// Partitions that have segments belong to somebody even when no WAL speaks of them.
async fn deal_segments(
    plan: &Arc<Plan>,
    image: &ClusterImage,
    disk: &GlommioDisk,
    options: &heddle_log_store::Options,
) -> Result<(), Fatal> {
    let node = heddle_proto::ids::NodeId::new(plan.config.node_id);
    for at in list_partitions(disk, options).await.map_err(|error| storage_failure(&error))? {
        match image.core_on(node, at) {
            Some(owner) => plan.deal(owner.get(), at, RecoveredPartition::default()),
            None if image.deleting.contains_key(&at.topic) => {}
            // Its replica has gone to another node: any core deletes it.
            None if image
                .topic_by_id(at.topic)
                .is_some_and(|topic| topic.partition(at.partition).is_some()) =>
            {
                plan.deal(0, at, RecoveredPartition::default());
            }
            None => {
                tracing::warn!(topic = %at.topic, partition = %at.partition, "files of a partition that no metadata knows are left alone")
            }
        }
    }
    Ok(())
}

/// Starts what a core does without being asked: commits, background work, answers to other cores and, on core 0, changes
/// of the metadata.
pub fn start_loops<D: Disk>(shard: &Rc<Shard<D>>) {
    let (queues, store) = (shard.queues, shard.store.clone());
    queues.spawn(Queue::Hot, async move {
        if let Err(error) = store.run_commit().await {
            fatal(storage_failure(&error));
        }
    });
    let store = shard.store.clone();
    queues.spawn(Queue::Background, async move {
        if let Err(error) = store.run_background().await {
            fatal(storage_failure(&error));
        }
    });
    let answering = shard.clone();
    shard.mesh.serve(queues, Rc::new(move |_, request| answering.answer(request)));
}

/// On core 0: from now on every core hears of new metadata.
pub async fn hear_of_metadata<D: Disk>(shard: &Rc<Shard<D>>) {
    if let Some(session) = &shard.metadata {
        let publishing = Rc::downgrade(shard);
        let publish = move |image| match publishing.upgrade() {
            Some(shard) => publish(shard, image),
            None => Box::pin(async {}) as crate::runtime::mesh::LocalFuture<()>,
        };
        session.metadata().publish_to(Rc::new(publish)).await;
    }
}

fn publish<D: Disk>(shard: Rc<Shard<D>>, image: Arc<ClusterImage>) -> crate::runtime::mesh::LocalFuture<()> {
    Box::pin(async move {
        let mut replies = Vec::new();
        for core in shard.mesh.peers() {
            if let Ok(reply) = shard.mesh.call(core, CoreRequest::Apply(image.clone())).await {
                replies.push(reply);
            }
        }
        shard.apply(image);
        for reply in replies {
            // A core that has stopped needs no metadata.
            let _ = reply.await;
        }
        finish_deletions(&shard);
    })
}

/// Deletes the files of deleted topics on every core, then says so in the metadata.
fn finish_deletions<D: Disk>(shard: &Rc<Shard<D>>) {
    for topic in shard
        .image()
        .deleting
        .iter()
        .filter(|(_, nodes)| nodes.contains(&shard.node.get()))
        .map(|(id, _)| *id)
    {
        if !shard.begin_deletion(topic) {
            continue;
        }
        let shard = shard.clone();
        shard.clone().queues.spawn(Queue::Control, async move {
            for core in shard.mesh.peers() {
                let _ = shard.mesh.ask(core, CoreRequest::Purge(topic)).await;
            }
            shard.purge(topic).await;
            if shard.remove_topic_files(topic).await {
                // Refused only when the node stops: the next start does it again.
                let _ = shard
                    .propose(Command::ForgetTopic { id: topic.to_string(), node: shard.node.get() })
                    .await;
            }
        });
    }
}

async fn stop_serving(plan: &Arc<Plan>, shard: &Rc<Shard<GlommioDisk>>) -> Result<(), Fatal> {
    tracing::info!(core = shard.core().get(), "stopping");
    shard.begin_stop();
    listen::close_connections(shard);
    let deadline = Instant::now() + STOP_GRACE;
    while shard.connection_count() > 0 && Instant::now() < deadline {
        sleep(std::time::Duration::from_millis(5)).await;
    }
    plan.stopped.meet().await;
    shard.stop_replicas(STOP_GRACE).await;
    plan.replicas_stopped.meet().await;
    if let Some(session) = &shard.metadata {
        session.stop();
        session.metadata().close().await;
    }
    shard.store.shutdown().await.map_err(|error| storage_failure(&error))
}

fn storage_failure(error: &StorageError) -> Fatal {
    let detail = error.to_string();
    match error {
        StorageError::Format { .. } => Fatal::StorageCorrupt { detail },
        StorageError::Options(_) => Fatal::Config(ConfigError::Conflict {
            what: detail,
            advice: "change the settings that it names".to_owned(),
        }),
        _ => Fatal::StorageWrite { detail },
    }
}
