//! A cluster on 127.0.0.1 that stays up until the user has had enough.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cluster::Cluster;
use crate::error::Result;

static ENOUGH: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: libc::c_int) {
    ENOUGH.store(true, Ordering::Relaxed);
}

/// Says where the nodes are and waits for Ctrl-C or SIGTERM; then ends the nodes, the last first.
///
/// # Errors
/// If a node ends by itself, or not as it should.
pub fn stay(mut cluster: Cluster) -> Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let handler: extern "C" fn(libc::c_int) = on_signal;
        // SAFETY: the handler only stores to an atomic.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
    for node in cluster.nodes.values() {
        let options = node.options();
        println!(
            "node {}: clients {}, admin {}, log {}",
            options.id,
            options.listen,
            options.admin,
            options.log.display()
        );
    }
    println!("bootstrap: {}", cluster.bootstrap());
    while !ENOUGH.load(Ordering::Relaxed) {
        for node in cluster.nodes.values_mut() {
            node.check_alive()?;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    for node in cluster.nodes.values_mut().rev() {
        node.terminate()?;
    }
    Ok(())
}
