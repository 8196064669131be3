//! Check: are the ports free? A probing bind without SO_REUSEPORT also sees listeners that would share the port.

use super::Finding;
use crate::config::Config;
use crate::fatal::Fatal;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// How long ports may still be taken by a broker that was killed: the kernel takes its rings apart, and closes the
/// sockets they hold, some milliseconds after the process is gone.
const PREDECESSOR_MAX: Duration = Duration::from_secs(2);

const LOOK_EVERY: Duration = Duration::from_millis(5);

pub const CHECK: &str = "ports";

/// One finding per address that cannot be listened on, or one that says all can.
pub fn check(config: &Config) -> Vec<Finding> {
    let addresses = addresses(config);
    let problems: Vec<Finding> = addresses.iter().filter_map(|address| problem(*address)).collect();
    if problems.is_empty() {
        let listed: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
        return vec![Finding::ok(CHECK, format!("free: {}", listed.join(", ")))];
    }
    problems
}

/// Waits a little while a port is in use, so that a broker can be started right after it was killed.
pub fn wait_for_predecessor(config: &Config) {
    let deadline = Instant::now() + PREDECESSOR_MAX;
    let addresses = addresses(config);
    while addresses.iter().any(|address| is_in_use(*address)) && Instant::now() < deadline {
        std::thread::sleep(LOOK_EVERY);
    }
}

fn is_in_use(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

fn addresses(config: &Config) -> Vec<SocketAddr> {
    let brokers = (0..config.port_count()).map(|core| config.listen_of_core(core));
    brokers.chain(config.admin).collect()
}

fn problem(address: SocketAddr) -> Option<Finding> {
    match TcpListener::bind(address) {
        Ok(_) => None,
        Err(error) => Some(classify(address, error.kind(), &error.to_string())),
    }
}

fn classify(address: SocketAddr, kind: ErrorKind, detail: &str) -> Finding {
    match kind {
        ErrorKind::AddrInUse => Finding::fail(
            CHECK,
            format!("{address} is in use by another process"),
            format!(
                "Find it with `ss -ltnp sport = :{}`; stop it, or choose another port with --listen or --admin.",
                address.port()
            ),
        ),
        ErrorKind::PermissionDenied => Finding::fail(
            CHECK,
            format!("this user may not listen on {address}"),
            "Ports below 1024 need privileges; choose a higher one.",
        ),
        ErrorKind::AddrNotAvailable => Finding::fail(
            CHECK,
            format!("{} is not an address of this machine", address.ip()),
            "Use an address that `ip addr` lists, 127.0.0.1, or 0.0.0.0 for all.",
        ),
        _ => Finding::fail(
            CHECK,
            format!("cannot listen on {address}: {detail}"),
            "Check --listen and --admin.",
        ),
    }
}

/// For a user who asks while the broker runs: a port in use is then as it should be.
pub fn unless_running(finding: Finding) -> Finding {
    if finding.check != CHECK || !finding.what.contains("in use") {
        return finding;
    }
    let advice = format!("If that is this broker, all is well. {}", finding.advice.unwrap_or_default());
    Finding::warn(CHECK, finding.what, advice)
}

/// The exit that belongs to the one failing port.
pub fn fatal(config: &Config, finding: &Finding) -> Fatal {
    let in_use = addresses(config)
        .into_iter()
        .find(|address| finding.what.starts_with(&format!("{address} ")) && finding.what.contains("in use"));
    match in_use {
        Some(address) => Fatal::PortInUse {
            address: address.to_string(),
            detail: format!("`ss -ltnp sport = :{}` shows by whom", address.port()),
        },
        None => Fatal::Listen { address: config.listen.to_string(), detail: finding.what.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn config(listen: SocketAddr) -> Config {
        let pairs = [("listen", listen.to_string()), ("cores", "1".to_owned()), ("admin", "none".to_owned())];
        let command_line = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Config::load(&Sources { command_line, ..Sources::default() }).unwrap()
    }

    #[test]
    fn a_listening_port_is_seen_and_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let config = config(address);
        let findings = check(&config);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].what.contains(&address.to_string()), "{findings:?}");
        assert!(
            matches!(fatal(&config, &findings[0]), Fatal::PortInUse { address: a, .. } if a == address.to_string())
        );
    }

    #[test]
    fn other_refusals_have_their_own_words() {
        let address: SocketAddr = "192.0.2.1:80".parse().unwrap();
        assert!(classify(address, ErrorKind::PermissionDenied, "").what.contains("may not"));
        let foreign = classify(address, ErrorKind::AddrNotAvailable, "");
        assert!(foreign.what.contains("not an address of this machine"));
        assert!(matches!(fatal(&config("127.0.0.1:0".parse().unwrap()), &foreign), Fatal::Listen { .. }));
    }
}
