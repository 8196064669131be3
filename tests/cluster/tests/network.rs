//! The network of a run, tried with datagrams: cuts are one way and silent, delays are real, nothing of the host changes.
//!
//! Takes root: `sudo cargo test -p heddle-cluster-tests --test network -- --ignored`

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use heddle_cluster::network::{Host, Network, enter};
use heddle_cluster::shell;
use heddle_cluster::watchdog::Watchdog;

const PORT: u16 = 7000;

/// Longer than anything takes that arrives here.
const SILENCE: Duration = Duration::from_millis(400);

/// A socket at a host. A socket stays where it was made, whoever uses it.
fn socket(network: &Network, host: Host) -> UdpSocket {
    let space: PathBuf = network.namespace_file(host);
    let make = move || {
        enter(&space).expect("the namespace is there");
        UdpSocket::bind((host.address(), PORT)).expect("the address is there")
    };
    let socket = std::thread::spawn(make).join().expect("a socket");
    socket.set_read_timeout(Some(SILENCE)).expect("a timeout");
    socket
}

/// How long a datagram takes, if it arrives.
fn send(from: &UdpSocket, to: &UdpSocket, bytes: usize) -> Option<Duration> {
    let begin = Instant::now();
    let address = to.local_addr().expect("an address");
    from.send_to(&vec![7; bytes], address).expect("a cut is silent");
    let mut got = vec![0; 65_000];
    to.recv(&mut got).ok().map(|count| {
        assert_eq!(count, bytes);
        begin.elapsed()
    })
}

fn links() -> String {
    shell::line("ip -o link").expect("links are listed")
}

fn spaces(prefix: &str) -> usize {
    shell::line("ip netns list").expect("namespaces are listed").matches(prefix).count()
}

#[test]
#[ignore = "takes root"]
fn a_network_is_cut_slowed_healed_and_removed() {
    let prefix = format!("hdt{}", std::process::id());
    let before = links();
    let watchdog = Watchdog::start(&prefix, Path::new("/nonexistent")).expect("a watchdog");
    let mut network = Network::create(&prefix).expect("a network");
    let hosts = [Host::Node(1), Host::Node(2), Host::Node(3)];
    hosts.iter().for_each(|host| network.add(*host).expect("a host"));
    let [one, two, three] = hosts.map(|host| socket(&network, host));
    let clients = socket(&network, Host::Clients);
    for (from, to) in [(&one, &two), (&two, &one), (&one, &three), (&clients, &one)] {
        assert!(send(from, to, 100).is_some(), "all hear each other");
    }

    network.cut(hosts[0], hosts[1]).expect("a cut");
    assert_eq!(send(&one, &two, 100), None, "1 is not heard by 2");
    assert!(send(&two, &one, 100).is_some(), "but hears it");
    assert!(send(&one, &three, 100).is_some() && send(&one, &clients, 100).is_some());
    network.heal().expect("it heals");
    assert!(send(&one, &two, 100).is_some());

    network.cut_both(hosts[0], Host::Clients).expect("a cut");
    assert_eq!((send(&one, &clients, 100), send(&clients, &one, 100)), (None, None));
    network.heal().expect("it heals");

    network.slow(hosts[0], Duration::from_millis(100), 0).expect("a delay");
    for bytes in [100, 20_000] {
        let took = send(&one, &two, bytes).expect("it arrives");
        assert!(took >= Duration::from_millis(100), "{took:?}");
        let took = send(&two, &one, bytes).expect("it arrives");
        assert!(took >= Duration::from_millis(100), "{took:?}");
    }
    let others = send(&two, &three, 100).expect("it arrives");
    assert!(others < Duration::from_millis(90), "others are not slowed: {others:?}");
    network.heal().expect("it heals");
    let took = send(&one, &two, 100).expect("it arrives");
    assert!(took < Duration::from_millis(90), "{took:?}");

    assert_eq!(links(), before, "the host's own links are as they were");
    assert_eq!(spaces(&prefix), 5);
    drop(watchdog);
    assert_eq!(spaces(&prefix), 0, "nothing is left");
}
