//! One broker process: started, killed, paused and ended, always by its own pid. The kernel kills it with its parent.
//!
//! The kernel means the thread that started it: nodes are started by a thread that lives as long as the run.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Context, HarnessError, Result};

/// How long a broker that was asked to end may take.
const END_WAIT_MAX: Duration = Duration::from_secs(60);

/// How long the admin address may take to answer.
const ADMIN_WAIT_MAX: Duration = Duration::from_millis(500);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Its id.
    pub id: u32,
    /// The broker's binary.
    pub binary: PathBuf,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The admin address.
    pub admin: SocketAddr,
    /// Where other nodes connect, and the file of their secret; without, it is a cluster of its own.
    pub peers: Option<(SocketAddr, PathBuf)>,
    /// Its network namespace; `None` is that of the harness.
    pub namespace: Option<PathBuf>,
    /// Where it logs.
    pub log: PathBuf,
    /// More of its command line.
    pub more: Vec<String>,
}

impl NodeOptions {
    fn command(&self, join: Option<SocketAddr>) -> Result<Command> {
        let mut command = Command::new(&self.binary);
        command.args(["serve", "--node-id", &self.id.to_string(), "--data-dir"]).arg(&self.data_dir);
        command.args(["--listen", &self.listen.to_string(), "--admin", &self.admin.to_string()]);
        command.args(["--cores", "1", "--reserve-bytes", "64MiB"]);
        if let Some((listen, secret)) = &self.peers {
            command.args(["--peer-listen", &listen.to_string(), "--peer-secret-file"]).arg(secret);
            if let Some(join) = join {
                command.args(["--join", &join.to_string()]);
            }
        }
        command.args(&self.more);
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.context(|| format!("opening {}", self.log.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HEDDLE_"))
        {
            command.env_remove(name);
        }
        self.prepare(&mut command)?;
        Ok(command)
    }

    /// What the child does before it becomes the broker: ties its life to the harness, and enters its namespace.
    fn prepare(&self, command: &mut Command) -> Result<()> {
        let open = |path| File::open(path).context(|| format!("opening the namespace of node {}", self.id));
        let namespace = self.namespace.as_ref().map(open).transpose()?;
        let in_child = move || {
            // SAFETY: no memory is passed.
            let tied = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let entered = namespace.as_ref().map_or(0, |file| {
                // SAFETY: the descriptor is open.
                unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }
            });
            if tied == 0 && entered == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        // SAFETY: only two system calls are made between fork and exec.
        unsafe { command.pre_exec(in_child) };
        Ok(())
    }
}

/// A node, running or not.
#[derive(Debug)]
pub struct Node {
    options: NodeOptions,
    child: Option<Child>,
}

impl Node {
    /// A node that is not started yet.
    pub fn new(options: NodeOptions) -> Node {
        Node { options, child: None }
    }

    /// What it is started with.
    pub fn options(&self) -> &NodeOptions {
        &self.options
    }

    /// Starts it, and does not wait until it is ready.
    ///
    /// # Errors
    /// If there is no such binary.
    pub fn start(&mut self, join: Option<SocketAddr>) -> Result<()> {
        assert!(self.child.is_none(), "node {} runs already", self.options.id);
        let mut command = self.options.command(join)?;
        let child = command.spawn().context(|| format!("starting {}", self.options.binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Whether it was started and not ended by us since.
    pub fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// Its process, while it is started.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Fails if it ended by itself.
    ///
    /// # Errors
    /// How it ended.
    pub fn check_alive(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        match child.try_wait().context(|| "waiting for a broker".to_owned())? {
            None => Ok(()),
            Some(status) => {
                let Node { options: NodeOptions { id, log, .. }, .. } = self;
                Err(HarnessError::Ended { node: *id, status: status.to_string(), log: log.clone() })
            }
        }
    }

    /// Forgets a process that ended by itself, so that it can be started again; whether it had.
    pub fn reap(&mut self) -> bool {
        let ended = self.check_alive().is_err();
        if ended {
            self.child = None;
        }
        ended
    }

    /// Ends it at once, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Errors
    /// If it does not, or not with status 0.
    pub fn terminate(&mut self) -> Result<()> {
        self.signal(libc::SIGTERM);
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let deadline = Instant::now() + END_WAIT_MAX;
        let node = self.options.id;
        while Instant::now() < deadline {
            match child.try_wait().context(|| "waiting for a broker".to_owned())? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    let log = self.options.log.clone();
                    return Err(HarnessError::Ended { node, status: status.to_string(), log });
                }
                None => std::thread::sleep(LOOK_EVERY),
            }
        }
        drop(child.kill());
        drop(child.wait());
        Err(HarnessError::Late { what: format!("the end of node {node} after SIGTERM"), after: END_WAIT_MAX })
    }

    /// Stops it from running, without ending it.
    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets it run again.
    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: libc::c_int) {
        if let Some(child) = &self.child {
            // SAFETY: no memory is passed. The child was not waited for, so that the pid is still its own.
            unsafe { libc::kill(child.id() as libc::pid_t, signal) };
        }
    }

    /// Whether it says that it is ready.
    pub fn is_ready(&self) -> bool {
        self.is_started()
            && status_of(self.options.admin, "/health/ready").is_some_and(|status| status == 200)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The status with which an admin address answers, if it does so soon.
fn status_of(admin: SocketAddr, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect_timeout(&admin, ADMIN_WAIT_MAX).ok()?;
    stream.set_read_timeout(Some(ADMIN_WAIT_MAX)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: heddle\r\nConnection: close\r\n\r\n").ok()?;
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).ok()?;
    std::str::from_utf8(&begin).ok()?.split(' ').nth(1)?.parse().ok()
}
