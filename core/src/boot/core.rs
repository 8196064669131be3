//! The life of one core from boot to stop.

use std::{path::Path, rc::Rc, sync::Arc, time::Instant};

use heddle_log_store::{
    Disk, GlommioDisk, LogStore, RecoveredPartition, StorageError, list_partitions, list_wal_dirs, replay_wal,
};
use heddle_net::{http, socket::Listener};

use super::{
    STOP_GRACE,
    listen::{self, CoreSockets},
    plan::Plan,
};
use crate::{
    admin::{metrics::CoreMetrics, server::Admin},
    config::ConfigError,
    fatal::{Fatal, fatal},
    metadata::{
        ClusterImage, Command,
        log::{MetadataLog, MetadataLogError},
        service::MetadataService,
    },
    runtime::{Queue, Queues, mesh::MeshEnds, signals, time::sleep},
    shard::{
        Shard, ShardParts,
        hooks::ShardHooks,
        request::{CoreReply, CoreRequest},
    },
};

type Service = Rc<MetadataService<GlommioDisk>>;

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
    let metadata = read_metadata(plan, core, &disk).await?;
    let hooks: Rc<ShardHooks<GlommioDisk>> = Rc::default();
    let store = recover(plan, core, &disk, hooks.clone()).await?;
    let shard = Shard::new(ShardParts {
        config: plan.config.clone(),
        queues,
        mesh: ends.connect().await,
        store,
        hooks,
        metrics: Rc::new(CoreMetrics::default()),
        metadata,
        image: plan.image(),
    });
    start_loops(&shard);
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

/// Core 0 reads the metadata and registers this start; the others wait for that.
async fn read_metadata(plan: &Arc<Plan>, core: u16, disk: &GlommioDisk) -> Result<Option<Service>, Fatal> {
    if core != 0 {
        plan.metadata_read.meet().await;
        return Ok(None);
    }
    let (log, image) =
        MetadataLog::open(disk.clone(), &plan.config.data_dir).await.map_err(metadata_failure)?;
    check_cluster(plan, &image)?;
    let service = MetadataService::new(log, image);
    let node = &plan.data_dir.node;
    let config = &plan.config;
    let start = vec![
        Command::FoundCluster { cluster_id: node.cluster_id.clone() },
        Command::StartNode {
            node: node.node_id,
            host: config.advertised_host(),
            port: config.advertised_port_of_core(0),
            core_count: config.core_count() as u16,
            port_mode: config.port_mode,
        },
    ];
    service.commit(start).await.map_err(metadata_failure)?;
    plan.show_image(service.image());
    plan.metadata_read.meet().await;
    Ok(Some(service))
}

/// A directory that had a cluster must still have its metadata: starting without it would orphan every topic.
fn check_cluster(plan: &Arc<Plan>, image: &ClusterImage) -> Result<(), Fatal> {
    let wanted = plan.data_dir.node.cluster_id.as_str();
    if image.cluster_id.is_empty() && (plan.data_dir.is_new || !has_logs(&plan.config.data_dir)) {
        return Ok(());
    }
    if *image.cluster_id == *wanted {
        return Ok(());
    }
    let found = if image.cluster_id.is_empty() { "none" } else { &image.cluster_id };
    Err(Fatal::MetadataLog {
        detail: format!(
            "{}/metadata holds the metadata of cluster {found}, and node.toml says {wanted}",
            plan.config.data_dir.display()
        ),
    })
}

/// Whether topics have ever been written below the directory (a first start may have ended before its metadata did).
fn has_logs(data_dir: &Path) -> bool {
    std::fs::read_dir(data_dir.join("topics")).is_ok_and(|mut entries| entries.next().is_some())
}

/// Reads this core's share of the WALs, deals what is in them to the owners, and opens what was dealt to this core.
async fn recover(
    plan: &Arc<Plan>,
    core: u16,
    disk: &GlommioDisk,
    hooks: Rc<ShardHooks<GlommioDisk>>,
) -> Result<LogStore<GlommioDisk>, Fatal> {
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
    plan.wals_read.meet().await;
    let recovered = plan.take(core);
    let store = LogStore::open(disk.clone(), options, heddle_proto::ids::CoreId::new(core), recovered, hooks)
        .await
        .map_err(|error| storage_failure(&error))?;
    plan.recovered.meet().await;
    store.retire_old_wals(&mine).await.map_err(|error| storage_failure(&error))?;
    Ok(store)
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
            None if image.deleting.contains(&at.topic) => {}
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
    if let Some(service) = shard.metadata.clone() {
        let publishing = shard.clone();
        let publish = Rc::new(move |image| publish(publishing.clone(), image));
        queues.spawn(Queue::Control, async move {
            if let Err(error) = service.run(publish).await {
                fatal(metadata_failure(error));
            }
        });
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
    for topic in shard.image().deleting.iter().copied() {
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
                let _ = shard.propose(Command::ForgetTopic { id: topic.to_string() }).await;
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
    if let Some(service) = &shard.metadata {
        service.close();
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

fn metadata_failure(error: MetadataLogError) -> Fatal {
    Fatal::MetadataLog { detail: error.to_string() }
}
