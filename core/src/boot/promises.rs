//! Deals what the replicas of this node have promised to the cores that host them now. The life before may have had
//! another number of cores; a promise left behind would make its replica one that forgot.

use std::{
    io,
    path::{Path, PathBuf},
};

use heddle_log_store::Disk;
use heddle_proto::ids::{CoreId, NodeId, TopicPartition};
use heddle_replication_driver::promises::{self, PromiseFiles, Promises};

use super::plan::Plan;
use crate::fatal::Fatal;

fn root(data_dir: &Path) -> PathBuf {
    data_dir.join("promises")
}

fn files<D: Disk>(plan: &Plan, disk: &D, core: CoreId) -> PromiseFiles<D> {
    PromiseFiles::new(disk.clone(), root(&plan.config.data_dir).join(core.to_string()))
}

fn unusable(error: io::Error) -> Fatal {
    Fatal::StorageWrite { detail: format!("the promises of replicas cannot be taken up: {error}") }
}

/// The cores of earlier lives whose tables `core` looks after now, in order.
async fn dirs<D: Disk>(plan: &Plan, disk: &D, core: CoreId) -> Result<Vec<CoreId>, Fatal> {
    let root = root(&plan.config.data_dir);
    let entries = match disk.list(&root).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(unusable)?,
    };
    let cores = plan.config.core_count() as u16;
    let mut found: Vec<u16> = entries
        .iter()
        .filter(|entry| entry.is_dir)
        .filter_map(|entry| entry.name.parse().ok())
        .filter(|dir| dir % cores == core.get())
        .collect();
    found.sort_unstable();
    Ok(found.into_iter().map(CoreId::new).collect())
}

/// Reads this core's share of the tables and deals what is in them to the owners. Replicas that are not on this node any
/// more have nothing to keep.
///
/// # Errors
/// If the disk refuses.
pub async fn deal<D: Disk>(plan: &Plan, disk: &D, core: CoreId) -> Result<(), Fatal> {
    let (image, node) = (plan.image(), NodeId::new(plan.config.node_id));
    for dir in dirs(plan, disk, core).await? {
        let Some((promises, _)) = files(plan, disk, dir).read().await.map_err(unusable)? else { continue };
        for (at, promise) in promises {
            if let Some(owner) = image.core_on(node, at) {
                plan.deal_promise(owner, at, promise);
            }
        }
    }
    Ok(())
}

/// Takes what was dealt to this core, which is on stable storage in its own name then, with the number of its table; after
/// every core has dealt, and before anything is done about the logs that are damaged.
///
/// # Errors
/// If the disk refuses.
pub async fn take<D: Disk>(
    plan: &Plan,
    disk: &D,
    core: CoreId,
    damaged: &[TopicPartition],
) -> Result<(PromiseFiles<D>, Option<(Promises, u64)>), Fatal> {
    let files = files(plan, disk, core);
    let (old, number) = files.read().await.map_err(unusable)?.unwrap_or_default();
    let mut promises = plan.take_promises(core);
    promises::doubt(&mut promises, damaged.iter().copied());
    let number = match promises == old {
        true => number,
        false => files.replace(&promises, number).await.map_err(unusable)?,
    };
    Ok((files, Some((promises, number))))
}

/// Removes the tables of cores that there are no more; after every core has taken its promises.
///
/// # Errors
/// If the disk refuses.
pub async fn retire<D: Disk>(plan: &Plan, disk: &D, core: CoreId) -> Result<(), Fatal> {
    for dir in dirs(plan, disk, core).await? {
        if dir != core {
            disk.remove_dir_all(&root(&plan.config.data_dir).join(dir.to_string()))
                .await
                .map_err(unusable)?;
        }
    }
    Ok(())
}
