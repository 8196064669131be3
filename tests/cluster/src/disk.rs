//! The disk of one node: an ext4 of its own in a loop-mounted file, which can be full, flip a bit, or be lost.
//!
//! A file system of its own is what makes "full" real without filling the machine's, and takes direct I/O.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::StdRng;

use crate::error::{Context, HarnessError, Result};
use crate::shell;

/// A mounted disk.
#[derive(Debug)]
pub struct Disk {
    mount: PathBuf,
}

impl Disk {
    /// Makes and mounts the disk of a node below `dir`. [`crate::watchdog`] unmounts it.
    ///
    /// # Errors
    /// If the process may not, or a tool is missing.
    pub fn create(dir: &Path, node: u32, disk_bytes: u64) -> Result<Disk> {
        let (image, mount) = (dir.join(format!("node{node}.img")), dir.join(format!("node{node}")));
        let file = File::create(&image).context(|| format!("creating {}", image.display()))?;
        file.set_len(disk_bytes).context(|| format!("sizing {}", image.display()))?;
        fs::create_dir_all(&mount).context(|| format!("creating {}", mount.display()))?;
        let (image, path) = (image.to_string_lossy(), mount.to_string_lossy());
        shell::run(&["mkfs.ext4", "-q", "-F", "-m", "0", &image])?;
        shell::run(&["mount", "-o", "loop,noatime", &image, &path])?;
        Ok(Disk { mount })
    }

    /// The data directory on it.
    pub fn data_dir(&self) -> PathBuf {
        self.mount.join("data")
    }

    /// Leaves not one block free.
    ///
    /// # Errors
    /// What is not "no space left".
    pub fn fill(&self) -> Result<()> {
        self.try_fill().context(|| format!("filling {}", self.mount.display()))
    }

    fn try_fill(&self) -> io::Result<()> {
        let ballast = OpenOptions::new().create(true).append(true).open(self.ballast())?;
        let mut at = ballast.metadata()?.len() as i64;
        let mut step: i64 = 64 << 20;
        while step >= 4096 {
            // SAFETY: the descriptor is open, and no memory is passed.
            match unsafe { libc::fallocate(ballast.as_raw_fd(), 0, at, step) } {
                0 => at += step,
                _ => match io::Error::last_os_error() {
                    error if error.raw_os_error() == Some(libc::ENOSPC) => step /= 2,
                    error => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Gives the space back.
    ///
    /// # Errors
    /// If it is not given.
    pub fn free(&self) -> Result<()> {
        match fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context(|| format!("freeing {}", self.mount.display()))
            }
            _ => Ok(()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.mount.join("ballast")
    }

    /// Forgets everything. The node must be down.
    ///
    /// # Errors
    /// If it cannot.
    pub fn lose(&self) -> Result<()> {
        let data = self.data_dir();
        fs::remove_dir_all(&data).context(|| format!("deleting {}", data.display()))
    }

    /// Whether a bit can be flipped.
    pub fn has_closed_segment(&self) -> bool {
        !closed_segments(&self.data_dir()).is_empty()
    }

    /// Flips one bit in a segment that is not its partition's last; says where. The node must be down.
    ///
    /// # Errors
    /// [`HarnessError::Unsupported`] if no segment is closed yet.
    pub fn flip_bit(&self, random: &mut StdRng) -> Result<String> {
        let closed = closed_segments(&self.data_dir());
        if closed.is_empty() {
            let why = "no segment of the node is closed yet; write more, or make segment.bytes smaller";
            return Err(HarnessError::Unsupported { fault: "flip", why: why.to_owned() });
        }
        let path = &closed[random.gen_range(0..closed.len())];
        let at = flip_bit(path, random).context(|| format!("flipping a bit of {}", path.display()))?;
        Ok(format!("{} byte {at}", path.display()))
    }
}

/// Segments that are followed by another one of the same partition.
fn closed_segments(data_dir: &Path) -> Vec<PathBuf> {
    let mut closed = Vec::new();
    for topic in entries(&data_dir.join("topics")) {
        for partition in entries(&topic) {
            let mut segments = entries(&partition);
            segments.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
            segments.pop();
            closed.extend(segments);
        }
    }
    closed
}

/// What is in a folder, sorted; nothing if there is no such folder.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = found.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Flips a bit in the first three quarters of a file, where a closed segment surely has records.
fn flip_bit(path: &Path, random: &mut StdRng) -> io::Result<u64> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let at = random.gen_range(0..(file.metadata()?.len() * 3 / 4).max(1));
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    byte[0] ^= 1 << random.gen_range(0..8);
    file.write_all_at(&byte, at)?;
    file.sync_all()?;
    Ok(at)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn only_closed_segments_are_harmed_and_by_one_bit() {
        let dir = std::env::temp_dir().join(format!("heddle-cluster-flip-{}", std::process::id()));
        let partition = dir.join("topics/a/0");
        fs::create_dir_all(&partition).expect("a folder");
        for name in ["0.log", "0.index", "5.log", "9.log"] {
            fs::write(partition.join(name), [7; 1000]).expect("a file");
        }
        let closed = closed_segments(&dir);
        assert_eq!(closed, [partition.join("0.log"), partition.join("5.log")]);
        let at = flip_bit(&closed[0], &mut StdRng::seed_from_u64(3)).expect("a bit is flipped");
        let harmed = fs::read(&closed[0]).expect("a file");
        let bits: u32 = harmed.iter().map(|byte| (byte ^ 7).count_ones()).sum();
        assert_eq!(bits, 1);
        assert_ne!(harmed[at as usize], 7);
        fs::remove_dir_all(&dir).expect("the folder is ours");
    }
}
