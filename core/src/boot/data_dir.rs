//! The data directory: one process, one node, one format.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::fd::AsRawFd,
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{config::Config, fatal::Fatal};

/// The format that this version writes; it reads this one only.
pub const FORMAT_VERSION: u32 = 3;

const NODE_FILE: &str = "node.toml";

/// Who a data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFile {
    /// Layout and formats of everything below.
    pub format_version: u32,
    /// The cluster's identity; empty until a cluster that it is to join has let it in.
    pub cluster_id: String,
    /// Whether it founded the cluster: then it may begin with empty metadata.
    #[serde(default)]
    pub is_founder: bool,
    /// The node's id.
    pub node_id: u32,
}

/// A data directory held by this process.
#[derive(Debug)]
pub struct DataDir {
    /// Who it belongs to.
    pub node: NodeFile,
    /// Whether it was made just now.
    pub is_new: bool,
    /// Keeps the lock; the kernel releases it when the process ends, however it ends.
    _lock: File,
}

/// Takes the directory, making it if it is not there.
///
/// # Errors
/// When it is another node's, of another format, in use, or cannot be used.
pub fn take(config: &Config) -> Result<DataDir, Fatal> {
    let dir = config.data_dir.as_path();
    make(dir).map_err(|error| unusable(dir, &error))?;
    let lock = lock(dir)?;
    let path = dir.join(NODE_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let node = check(config, &text)?;
            Ok(DataDir { node, is_new: false, _lock: lock })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            refuse_foreign_content(dir)?;
            let node = NodeFile {
                format_version: FORMAT_VERSION,
                cluster_id: match config.join {
                    Some(_) => String::new(),
                    None => uuid::Uuid::new_v4().to_string(),
                },
                is_founder: config.join.is_none(),
                node_id: config.node_id,
            };
            write(dir, &node).map_err(|error| unusable(dir, &error))?;
            Ok(DataDir { node, is_new: true, _lock: lock })
        }
        Err(error) => Err(unusable(dir, &error)),
    }
}

/// Makes the directory and those above it that are not there, each durable in its parent: what is written into a
/// directory that a power cut takes away is gone with it, however durably it was written.
fn make(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|path| !path.exists()).collect();
    fs::create_dir_all(dir)?;
    for made in missing.into_iter().rev() {
        if let Some(parent) = made.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<File, Fatal> {
    let file = File::open(dir).map_err(|error| unusable(dir, &error))?;
    // SAFETY: the descriptor is open for the whole call.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(file);
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            Err(Fatal::DataDirInUse { dir: dir.to_owned(), detail: "another broker runs on it".into() })
        }
        _ => Err(unusable(dir, &error)),
    }
}

fn check(config: &Config, text: &str) -> Result<NodeFile, Fatal> {
    let dir = &config.data_dir;
    let node: NodeFile = toml::from_str(text).map_err(|error| Fatal::DataDirUnusable {
        dir: dir.clone(),
        detail: format!("{NODE_FILE} cannot be read: {error}"),
    })?;
    if node.format_version != FORMAT_VERSION {
        let (found, supported) = (node.format_version, FORMAT_VERSION);
        return Err(Fatal::DataDirFormat { dir: dir.clone(), found, supported });
    }
    if node.node_id != config.node_id {
        let detail = format!("it is node {}, and this broker is node {}", node.node_id, config.node_id);
        return Err(Fatal::DataDirForeign { dir: dir.clone(), detail });
    }
    Ok(node)
}

/// A directory that holds logs and no node file is somebody's data, not an empty place.
fn refuse_foreign_content(dir: &Path) -> Result<(), Fatal> {
    for name in ["wal", "topics", "metadata"] {
        if dir.join(name).exists() {
            return Err(Fatal::DataDirForeign {
                dir: dir.to_owned(),
                detail: format!("it holds {name}/ but no {NODE_FILE} that says whose it is"),
            });
        }
    }
    Ok(())
}

fn write(dir: &Path, node: &NodeFile) -> io::Result<()> {
    let text = toml::to_string(node).map_err(io::Error::other)?;
    let draft = dir.join("node.toml.new");
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, dir.join(NODE_FILE))?;
    File::open(dir)?.sync_all()
}

fn unusable(dir: &Path, error: &io::Error) -> Fatal {
    Fatal::DataDirUnusable { dir: dir.to_owned(), detail: error.to_string() }
}

/// Writes down which cluster has let this node in.
///
/// # Errors
/// When the directory cannot be written.
pub fn belongs_to(dir: &Path, node: &NodeFile, cluster_id: &str) -> Result<(), Fatal> {
    let joined = NodeFile { cluster_id: cluster_id.to_owned(), ..node.clone() };
    write(dir, &joined).map_err(|error| unusable(dir, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path, node_id: u32) -> Config {
        let mut config = Config::defaults().expect("the defaults are valid");
        config.data_dir = dir.to_owned();
        config.node_id = node_id;
        config
    }

    #[test]
    fn belongs_to_one_process_and_one_node() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let place = dir.path().join("not/there/yet");
        let first = take(&config(&place, 1)).expect("is made");
        assert!(first.is_new);
        assert!(matches!(take(&config(&place, 1)), Err(Fatal::DataDirInUse { .. })));
        let cluster = first.node.cluster_id.clone();
        drop(first);
        let again = take(&config(&place, 1)).expect("is free again");
        assert_eq!((again.is_new, &again.node.cluster_id), (false, &cluster));
        drop(again);
        assert!(matches!(take(&config(&place, 2)), Err(Fatal::DataDirForeign { .. })));
    }

    #[test]
    fn a_newer_format_and_foreign_data_are_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let node = NodeFile { format_version: 99, cluster_id: "x".into(), is_founder: true, node_id: 1 };
        write(dir.path(), &node).expect("writes");
        let refused = take(&config(dir.path(), 1));
        assert!(matches!(refused, Err(Fatal::DataDirFormat { found: 99, .. })));
        let other = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(other.path().join("wal")).expect("creates");
        assert!(matches!(take(&config(other.path(), 1)), Err(Fatal::DataDirForeign { .. })));
    }
}
