//! Which file system and block device a path lives on, from `/proc/self/mountinfo` and `/sys`.

use std::fs::read_to_string;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub point: PathBuf,
    /// E.g. `ext4`.
    pub file_system: String,
    /// Device or name it was mounted from.
    pub source: String,
}

/// What the kernel says about a block device.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Device {
    /// E.g. `nvme0n1`.
    pub name: String,
    /// Vendor's words, if there are any.
    pub model: String,
    /// Has a cache that loses its contents without power, so the kernel sends flushes.
    pub volatile_cache: bool,
    /// Turns, or says so.
    pub rotational: bool,
}

impl Device {
    /// A disk whose real cache is the host's or a provider's, and invisible from here.
    pub fn is_virtual(&self) -> bool {
        const NAMES: [&str; 3] = ["vd", "xvd", "rbd"];
        const MODELS: [&str; 6] = ["qemu", "virtual", "elastic block", "persistentdisk", "vmware", "msft"];
        let model = self.model.to_ascii_lowercase();
        NAMES.iter().any(|name| self.name.starts_with(name)) || MODELS.iter().any(|word| model.contains(word))
    }
}

/// `path` or its nearest ancestor that exists, so that a data directory can be judged before it is made.
pub fn existing(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = absolute.ancestors().find(|ancestor| ancestor.exists());
    found.unwrap_or(Path::new("/")).to_owned()
}

/// The mount an existing `path` lives on.
pub fn mount_of(path: &Path) -> Option<Mount> {
    let path = path.canonicalize().ok()?;
    mount_from(&read_to_string("/proc/self/mountinfo").ok()?, &path)
}

/// The last of the longest matching mounts: a later one hides an earlier one at the same point.
fn mount_from(mountinfo: &str, path: &Path) -> Option<Mount> {
    let mounts = mountinfo.lines().filter_map(parse_mount).filter(|mount| path.starts_with(&mount.point));
    mounts.max_by_key(|mount| mount.point.components().count())
}

/// `ID PARENT MAJ:MIN ROOT POINT OPTIONS [TAGS] - TYPE SOURCE SUPER_OPTIONS`
fn parse_mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let point = before.split(' ').nth(4)?;
    let mut after = after.split(' ');
    let (file_system, source) = (after.next()?.to_owned(), after.next()?.to_owned());
    Some(Mount { point: PathBuf::from(unescape(point)), file_system, source })
}

/// Spaces and the like stand as three octal digits.
fn unescape(text: &str) -> String {
    let mut plain = text.to_owned();
    for (escaped, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(escaped, character);
    }
    plain
}

/// The block device below an existing `path`; `None` for file systems without one of their own.
pub fn device_of(path: &Path) -> Option<Device> {
    let number = std::fs::metadata(path).ok()?.dev();
    let by_number = PathBuf::from(format!("/sys/dev/block/{}:{}", libc::major(number), libc::minor(number)));
    let directory = match by_number.canonicalize() {
        Ok(directory) => directory,
        // Some file systems (btrfs) have a device number of their own: go by the name of the mounted device.
        Err(_) => {
            let source = mount_of(path)?.source;
            let name = Path::new(source.strip_prefix("/dev/")?);
            Path::new("/sys/class/block").join(name).canonicalize().ok()?
        }
    };
    device_at(&directory)
}

/// Reads a device's directory below `/sys`; a partition's queue is that of the disk it is part of.
fn device_at(directory: &Path) -> Option<Device> {
    let disk = match directory.join("queue").exists() {
        true => directory,
        false => directory.parent().filter(|parent| parent.join("queue").exists())?,
    };
    let read = |name: &str| read_to_string(disk.join(name)).unwrap_or_default().trim().to_owned();
    Some(Device {
        name: disk.file_name()?.to_string_lossy().into_owned(),
        model: read("device/model"),
        volatile_cache: read("queue/write_cache") == "write back",
        rotational: read("queue/rotational") == "1",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
25 30 0:23 / /proc rw shared:14 - proc proc rw
30 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 30 0:30 / /tmp rw - tmpfs tmpfs rw
32 30 8:17 / /mnt/my\\040disk rw shared:1 - xfs /dev/sdb1 rw
33 30 0:40 / /tmp rw - tmpfs second rw
broken line
";

    #[test]
    fn the_longest_and_latest_mount_wins() {
        let found = |path: &str| mount_from(MOUNTINFO, Path::new(path)).unwrap();
        assert_eq!(found("/var/lib").file_system, "ext4");
        assert_eq!(found("/tmp/x").source, "second");
        assert_eq!(found("/mnt/my disk/data").source, "/dev/sdb1");
        assert_eq!(found("/tmpfoo").file_system, "ext4");
    }

    #[test]
    fn a_missing_directory_is_judged_by_its_ancestor() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(existing(&dir.path().join("a/b")), dir.path());
        assert_eq!(existing(dir.path()), dir.path());
    }

    #[test]
    fn partitions_are_judged_by_their_disk() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("sda");
        std::fs::create_dir_all(disk.join("queue")).unwrap();
        std::fs::create_dir_all(disk.join("device")).unwrap();
        std::fs::create_dir_all(disk.join("sda1")).unwrap();
        std::fs::write(disk.join("queue/write_cache"), "write back\n").unwrap();
        std::fs::write(disk.join("queue/rotational"), "0\n").unwrap();
        std::fs::write(disk.join("device/model"), "QEMU HARDDISK\n").unwrap();
        let device = device_at(&disk.join("sda1")).unwrap();
        assert_eq!(device.name, "sda");
        assert!(device.volatile_cache && !device.rotational && device.is_virtual());
        assert_eq!(device_at(dir.path()), None);
    }
}
