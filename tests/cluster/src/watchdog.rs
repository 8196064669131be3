//! Removes the namespaces and mounts of a run when its harness ends, however it ends.
//!
//! A shell waits for the end of a pipe that only the harness holds. Brokers need no such care: the kernel kills them with
//! their parent ([`crate::node`]).

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::error::{Context, Result};

/// `$1` is the prefix, `$2` the folder. Told `remove`, it also removes the folder.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
read -r told
sleep 0.2
for space in $(ip netns list 2>/dev/null | cut -d' ' -f1); do
    case "$space" in "$1"-*) ip netns del "$space" ;; esac
done
for node in "$2"/node*/; do
    for try in 1 2 3 4 5 6 7 8 9 10; do
        mountpoint -q "$node" || break
        umount "$node" && break
        sleep 0.5
    done
done
[ "$told" = remove ] && rm -rf --one-file-system "$2"
exit 0
"#;

/// The watchdog of a run.
#[derive(Debug)]
pub struct Watchdog {
    child: Child,
    remove: bool,
}

impl Watchdog {
    /// Starts it. It outlives this process until its work is done.
    ///
    /// # Errors
    /// If there is no shell.
    pub fn start(prefix: &str, dir: &Path) -> Result<Watchdog> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "watchdog", prefix]).arg(dir);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let child = command.spawn().context(|| "starting the watchdog".to_owned())?;
        Ok(Watchdog { child, remove: false })
    }

    /// Lets it remove the folder of the run too.
    pub fn remove_folder(&mut self) {
        self.remove = true;
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let told: &[u8] = if self.remove { b"remove\n" } else { b"keep\n" };
        if let Some(mut pipe) = self.child.stdin.take() {
            drop(pipe.write_all(told));
        }
        drop(self.child.wait());
    }
}
