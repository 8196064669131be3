//! The network of one run: a bridge in a namespace of its own, a namespace for each node and one for all clients.
//!
//! Nothing of the host's own namespace changes: every veth pair is made inside the bridge's namespace. All names begin
//! with the prefix of the run, by which [`crate::watchdog`] removes them.
//!
//! A cut from A to B is a neighbour entry at A that sends B's frames to an address nobody has: they vanish without an
//! error, as behind a broken switch, one way only, and no packet filter is needed.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::delay_line::DelayLine;
use crate::error::{Context, HarnessError, Result};
use crate::shell;

/// The last byte of the clients' address.
const CLIENTS: u8 = 200;

/// An address nobody has.
const NOWHERE: &str = "02:de:ad:00:00:01";

/// A place in the network.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// A node.
    Node(u32),
    /// Where all clients are.
    Clients,
}

impl Host {
    /// Its address. Runs do not see each other, so all use the same.
    ///
    /// # Panics
    /// If the node's id leaves no room for an address.
    pub fn address(self) -> Ipv4Addr {
        let last = match self {
            Host::Node(node) => u8::try_from(node).ok().filter(|last| (1..CLIENTS).contains(last)),
            Host::Clients => Some(CLIENTS),
        };
        Ipv4Addr::new(10, 77, 0, last.expect("nodes are numbered from 1, below 200"))
    }

    fn name(self) -> String {
        match self {
            Host::Node(node) => format!("n{node}"),
            Host::Clients => "c".to_owned(),
        }
    }
}

/// The network of a run.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    hosts: Vec<Host>,
    cuts: Vec<(Host, Host)>,
    slow: Vec<(Host, DelayLine)>,
}

impl Network {
    /// Makes the bridge and the clients' namespace.
    ///
    /// # Errors
    /// If the process may not, or a tool is missing.
    pub fn create(prefix: &str) -> Result<Network> {
        check_allowed()?;
        let mut network =
            Network { prefix: prefix.to_owned(), hosts: Vec::new(), cuts: Vec::new(), slow: Vec::new() };
        let bridge = network.bridge();
        shell::line(&format!("ip netns add {bridge}"))
            .map_err(|error| HarnessError::NotAllowed(error.to_string()))?;
        shell::line(&format!("ip -n {bridge} link add br0 type bridge"))?;
        shell::line(&format!("ip -n {bridge} link set br0 up"))?;
        network.add(Host::Clients)?;
        Ok(network)
    }

    /// Adds a host: its namespace, and its link to the bridge.
    ///
    /// # Errors
    /// If a tool fails.
    pub fn add(&mut self, host: Host) -> Result<()> {
        let (bridge, space, port) = (self.bridge(), self.namespace(host), host.name());
        let address = host.address();
        for line in [
            format!("ip netns add {space}"),
            format!("ip -n {bridge} link add {port} type veth peer name eth0 netns {space}"),
            format!("ip -n {bridge} link set {port} master br0 up"),
            format!("ip -n {space} link set lo up"),
            format!("ip -n {space} address add {address}/24 dev eth0"),
            format!("ip -n {space} link set eth0 up"),
        ] {
            shell::line(&line)?;
        }
        self.hosts.push(host);
        Ok(())
    }

    /// The file that stands for a host's namespace.
    pub fn namespace_file(&self, host: Host) -> PathBuf {
        PathBuf::from("/run/netns").join(self.namespace(host))
    }

    /// Moves this thread, and every thread and process it starts from now on, to where the clients are.
    ///
    /// # Errors
    /// If the process may not.
    pub fn enter_clients(&self) -> Result<()> {
        enter(&self.namespace_file(Host::Clients))
    }

    /// Loses everything that `from` sends to `to`.
    ///
    /// # Errors
    /// If a tool fails.
    pub fn cut(&mut self, from: Host, to: Host) -> Result<()> {
        let (space, address) = (self.namespace(from), to.address());
        shell::line(&format!(
            "ip -n {space} neigh replace {address} lladdr {NOWHERE} nud permanent dev eth0"
        ))?;
        self.cuts.push((from, to));
        Ok(())
    }

    /// Loses everything between two hosts.
    ///
    /// # Errors
    /// If a tool fails.
    pub fn cut_both(&mut self, one: Host, other: Host) -> Result<()> {
        self.cut(one, other)?;
        self.cut(other, one)
    }

    /// Delays everything from and to a host, each way, and loses some of it.
    ///
    /// # Errors
    /// If a tool fails.
    pub fn slow(&mut self, host: Host, delay: Duration, loss_percent: u32) -> Result<()> {
        let (bridge, port) = (self.bridge(), host.name());
        let (near, far) = (format!("{port}d"), format!("{port}e"));
        for line in [
            format!("ip -n {bridge} link add {near} type veth peer name {far}"),
            format!("ip -n {bridge} link set {near} up promisc on"),
            format!("ip -n {bridge} link set {port} nomaster promisc on"),
            format!("ip -n {bridge} link set {far} master br0 up"),
        ] {
            shell::line(&line)?;
        }
        let space = PathBuf::from("/run/netns").join(&bridge);
        let line = DelayLine::start(space, [port, near], delay, loss_percent)?;
        self.slow.push((host, line));
        Ok(())
    }

    /// Ends all cuts and delays.
    ///
    /// # Errors
    /// If a tool fails.
    pub fn heal(&mut self) -> Result<()> {
        for (from, to) in std::mem::take(&mut self.cuts) {
            let (space, address) = (self.namespace(from), to.address());
            // A second cut of the same pair has gone with the first.
            drop(shell::line(&format!("ip -n {space} neigh del {address} dev eth0")));
        }
        let bridge = self.bridge();
        for (host, line) in std::mem::take(&mut self.slow) {
            let port = host.name();
            line.stop();
            shell::line(&format!("ip -n {bridge} link del {port}d"))?;
            shell::line(&format!("ip -n {bridge} link set {port} master br0 promisc off"))?;
        }
        Ok(())
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    fn bridge(&self) -> String {
        format!("{}-bridge", self.prefix)
    }

    fn namespace(&self, host: Host) -> String {
        format!("{}-{}", self.prefix, host.name())
    }
}

/// Whether this process may have networks at all.
///
/// # Errors
/// If not.
pub fn check_allowed() -> Result<()> {
    // SAFETY: no arguments, no memory.
    match unsafe { libc::geteuid() } {
        0 => Ok(()),
        user => Err(HarnessError::NotAllowed(format!("this is user {user}"))),
    }
}

/// Moves this thread into a network namespace.
///
/// # Errors
/// If the process may not.
pub fn enter(namespace: &std::path::Path) -> Result<()> {
    let file = File::open(namespace).context(|| format!("opening {}", namespace.display()))?;
    // SAFETY: the descriptor is open; the call changes this thread's network only.
    let done = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    if done == 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error()).context(|| format!("entering {}", namespace.display()))
}
