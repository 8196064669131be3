//! Check: can the data directory be written around the page cache (O_DIRECT), and read back?

use super::Finding;
use super::mounts::{existing, mount_of};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const CHECK: &str = "data directory";

/// A buffer aligned for direct I/O on any common device.
#[repr(C, align(4096))]
pub struct Block(pub [u8; 4096]);

/// A file that is removed when dropped.
pub struct ScratchFile {
    /// Open for reading and writing.
    pub file: File,
    path: PathBuf,
}

impl ScratchFile {
    /// Creates a file in `dir`, opened with these extra flags.
    pub fn create(dir: &Path, flags: i32) -> io::Result<ScratchFile> {
        let path = dir.join(format!(".heddle-doctor-{}", std::process::id()));
        let mut options = OpenOptions::new();
        // The file is created without the flags first, so that a refusal of the flags leaves nothing behind unknown.
        options.read(true).write(true).create(true).truncate(true);
        drop(options.open(&path)?);
        match OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path) {
            Ok(file) => Ok(ScratchFile { file, path }),
            Err(error) => {
                let _ = std::fs::remove_file(&path);
                Err(error)
            }
        }
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        // Best effort: a name that begins with a dot and says who made it is left behind at worst.
        let _ = std::fs::remove_file(&self.path);
    }
}

pub fn check(data_dir: &Path) -> Finding {
    let dir = existing(data_dir);
    let file_system = mount_of(&dir).map(|mount| mount.file_system).unwrap_or_else(|| "unknown".to_owned());
    classify(&dir, &file_system, try_direct(&dir))
}

/// One aligned write and read of a page with O_DIRECT.
fn try_direct(dir: &Path) -> io::Result<()> {
    let scratch = ScratchFile::create(dir, libc::O_DIRECT)?;
    let written = Block([0x5A; 4096]);
    scratch.file.write_all_at(&written.0, 0)?;
    let mut read = Block([0; 4096]);
    scratch.file.read_exact_at(&mut read.0, 0)?;
    match read.0 == written.0 {
        true => Ok(()),
        false => Err(io::Error::other("what was read back is not what was written")),
    }
}

fn classify(dir: &Path, file_system: &str, result: io::Result<()>) -> Finding {
    let place = format!("{} ({file_system})", dir.display());
    let in_memory = matches!(file_system, "tmpfs" | "ramfs");
    match result {
        _ if in_memory && !matches!(&result, Err(error) if !is_direct_refusal(error)) => Finding::warn(
            CHECK,
            format!("{place} is in memory: everything in it is gone after a reboot"),
            "Fine for a try. Give --data-dir on a disk (ext4 or xfs) for anything else.",
        ),
        Ok(()) if file_system == "overlay" => Finding::warn(
            CHECK,
            format!("{place} is the writable layer of a container and disappears with it"),
            "Mount a volume and give it with --data-dir.",
        ),
        Ok(()) => Finding::ok(CHECK, format!("{place} takes direct writes")),
        Err(error) if is_direct_refusal(&error) => Finding::fail(
            CHECK,
            format!("{place} does not support direct I/O (O_DIRECT)"),
            "Put --data-dir on ext4 or xfs on a local disk. Encrypted home directories, FUSE and some network file systems cannot do it.",
        ),
        Err(error) => Finding::fail(
            CHECK,
            format!("{place} cannot be written: {error}"),
            "Check owner and permissions, and that the file system is mounted writable and not full; or give another --data-dir.",
        ),
    }
}

/// What file systems answer that know no O_DIRECT.
fn is_direct_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn verdict(file_system: &str, errno: Option<i32>) -> Finding {
        let result = errno.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)));
        classify(Path::new("/data"), file_system, result)
    }

    #[test]
    fn places_are_told_apart() {
        assert_eq!(verdict("ext4", None).verdict, Verdict::Ok);
        assert_eq!(verdict("overlay", None).verdict, Verdict::Warn);
        assert_eq!(verdict("tmpfs", None).verdict, Verdict::Warn);
        assert_eq!(verdict("tmpfs", Some(libc::EINVAL)).verdict, Verdict::Warn);
        assert!(verdict("tmpfs", Some(libc::EROFS)).what.contains("cannot be written"));
        assert!(verdict("ecryptfs", Some(libc::EINVAL)).what.contains("O_DIRECT"));
        assert!(verdict("ext4", Some(libc::EACCES)).what.contains("cannot be written"));
    }

    #[test]
    fn nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        check(dir.path());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_missing_directory_is_not_created() {
        let dir = tempfile::tempdir().unwrap();
        check(&dir.path().join("later"));
        assert!(!dir.path().join("later").exists());
    }
}
