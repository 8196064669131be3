//! Whether this machine can do what a run needs: cuts that are one way and silent, delays that are real, disks that are full.

use std::io::{ErrorKind, Write};
use std::net::UdpSocket;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::error::{Context, Result};
use crate::network::{Host, Network, enter};
use crate::shell;
use crate::watchdog::Watchdog;

const PORT: u16 = 7000;

/// Longer than anything takes that arrives.
const SILENCE: Duration = Duration::from_millis(400);

const DELAY: Duration = Duration::from_millis(100);

/// What was tried, and whether it went as it should.
pub type Tried = Vec<(&'static str, bool)>;

/// Tries everything in a network and on a disk of its own, which are removed again.
///
/// # Errors
/// If the process may not, or a tool is missing.
pub fn examine() -> Result<Tried> {
    crate::network::check_allowed()?;
    let prefix = format!("hdl{}", std::process::id());
    let dir = std::env::temp_dir().join(format!("heddle-cluster-{}", std::process::id()));
    std::fs::create_dir_all(&dir).context(|| format!("creating {}", dir.display()))?;
    let before = links()?;
    let mut watchdog = Watchdog::start(&prefix, &dir)?;
    watchdog.remove_folder();
    let mut tried = network(&prefix)?;
    tried.extend(disk(&dir)?);
    tried.push(("the host's own links stay as they were", links()? == before));
    drop(watchdog);
    let left = shell::line("ip netns list")?.contains(&prefix) || dir.exists();
    tried.push(("nothing is left behind", !left));
    Ok(tried)
}

fn links() -> Result<String> {
    shell::line("ip -o link")
}

fn network(prefix: &str) -> Result<Tried> {
    let mut network = Network::create(prefix)?;
    let hosts = [Host::Node(1), Host::Node(2), Host::Node(3)];
    hosts.iter().try_for_each(|host| network.add(*host))?;
    let at = |host| socket(&network, host);
    let (one, two, three, clients) = (at(hosts[0])?, at(hosts[1])?, at(hosts[2])?, at(Host::Clients)?);
    let hear = |from: &UdpSocket, to: &UdpSocket| send(from, to, 100).is_some();
    let mut tried = Tried::new();
    let all = |pairs: &[(&UdpSocket, &UdpSocket)]| pairs.iter().all(|(from, to)| hear(from, to));
    tried.push((
        "hosts hear each other",
        all(&[(&one, &two), (&two, &one), (&one, &three), (&clients, &one)]),
    ));

    network.cut(hosts[0], hosts[1])?;
    let one_way = !hear(&one, &two) && all(&[(&two, &one), (&one, &three), (&one, &clients)]);
    tried.push(("a cut is silent and one way", one_way));
    network.heal()?;
    tried.push(("a cut heals", hear(&one, &two)));

    network.cut_both(hosts[0], Host::Clients)?;
    let apart = !hear(&one, &clients) && !hear(&clients, &one) && hear(&one, &two);
    tried.push(("clients are cut off", apart));
    network.heal()?;

    network.slow(hosts[0], DELAY, 0)?;
    let late =
        |from, to| [100, 20_000].iter().all(|bytes| send(from, to, *bytes).is_some_and(|t| t >= DELAY));
    tried
        .push(("a slow link delays small and large frames, both ways", late(&one, &two) && late(&two, &one)));
    let in_time = |from: &UdpSocket, to: &UdpSocket| send(from, to, 100).is_some_and(|took| took < DELAY);
    tried.push(("and no others", in_time(&two, &three)));
    network.heal()?;
    tried.push(("a slow link heals", in_time(&one, &two)));
    Ok(tried)
}

/// A socket at a host. A socket stays where it was made, whoever uses it.
fn socket(network: &Network, host: Host) -> Result<UdpSocket> {
    let space: PathBuf = network.namespace_file(host);
    let make = move || {
        enter(&space)?;
        let socket = UdpSocket::bind((host.address(), PORT)).context(|| format!("a socket at {host:?}"))?;
        socket.set_read_timeout(Some(SILENCE)).context(|| "a timeout".to_owned())?;
        Ok(socket)
    };
    std::thread::spawn(make).join().expect("the thread has no reason to panic")
}

/// How long a datagram takes, if it arrives.
fn send(from: &UdpSocket, to: &UdpSocket, bytes: usize) -> Option<Duration> {
    let begin = Instant::now();
    from.send_to(&vec![7; bytes], to.local_addr().ok()?).ok()?;
    let mut got = vec![0; 65_000];
    let count = to.recv(&mut got).ok()?;
    (count == bytes).then(|| begin.elapsed())
}

fn disk(dir: &Path) -> Result<Tried> {
    let disk = Disk::create(dir, 1, 64 << 20)?;
    let data = disk.data_dir();
    std::fs::create_dir_all(&data).context(|| format!("creating {}", data.display()))?;
    let direct = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(data.join("direct"))
        .is_ok();
    disk.fill()?;
    let write = || std::fs::File::create(data.join("more")).and_then(|mut file| file.write_all(&[7; 8192]));
    let is_full = write().is_err_and(|error| error.kind() == ErrorKind::StorageFull);
    disk.free()?;
    let has_room = write().is_ok();
    disk.lose()?;
    Ok(vec![
        ("a disk takes direct I/O", direct),
        ("a disk is full to the last block", is_full),
        ("and free again", has_room),
        ("and lost", !data.exists()),
    ])
}
