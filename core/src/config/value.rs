//! Texts to values: sizes, pairs, addresses. Every `Err` says what is allowed.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};

/// Binary units, largest first.
const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Parses `67108864`, `64MiB`, `64 MiB`, `64M` or `64mb`; units are powers of 1024.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor =
        unit_factor(unit.trim()).ok_or("a size is a number of bytes or has a unit: 512KiB, 64MiB, 2GiB")?;
    let number: u64 = digits.parse().map_err(|_| "a size begins with a whole number, as in 64MiB")?;
    number.checked_mul(factor).ok_or_else(|| "the size is larger than any disk".to_owned())
}

fn unit_factor(unit: &str) -> Option<u64> {
    if unit.is_empty() {
        return Some(1);
    }
    let unit = unit.to_ascii_lowercase();
    let matches = |name: &str| {
        let name = name.to_ascii_lowercase();
        unit == name || unit == name.replace("ib", "") || unit == name.replace("ib", "b")
    };
    UNITS.iter().find(|(name, _)| matches(name)).map(|(_, factor)| *factor)
}

/// The shortest exact form: `64MiB`, `1048588B`.
pub fn format_bytes(bytes: u64) -> String {
    let (name, factor) = UNITS
        .iter()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
        .unwrap_or(&("B", 1));
    format!("{}{name}", bytes / factor)
}

/// Parses `NAME=VALUE,NAME=VALUE`; nothing is no pairs.
pub fn parse_pairs(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut pairs = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) =
            part.split_once('=').ok_or("configs are written NAME=VALUE, separated by commas")?;
        if pairs.insert(name.trim().to_owned(), value.trim().to_owned()).is_some() {
            return Err(format!("{name} is set twice"));
        }
    }
    Ok(pairs)
}

/// Splits `HOST:PORT` (`[::1]:9092` for IPv6) and resolves it; the first address wins.
pub fn parse_address(text: &str) -> Result<(String, SocketAddr), String> {
    let text = text.trim();
    let (host, port) = split_host_port(text)?;
    let mut addresses = (host.as_str(), port)
        .to_socket_addrs()
        .map_err(|error| format!("the host does not resolve: {error}"))?;
    let address = addresses.next().ok_or("the host resolves to no address")?;
    Ok((host, address))
}

/// Splits `HOST:PORT` without resolving; brackets around an IPv6 address are removed.
pub fn split_host_port(text: &str) -> Result<(String, u16), String> {
    const ALLOWED: &str = "an address is HOST:PORT, as in 127.0.0.1:9092 or [::1]:9092";
    let (host, port) = text.rsplit_once(':').ok_or(ALLOWED)?;
    let port: u16 =
        port.parse().map_err(|_| "a port is a number between 0 and 65535, as in 127.0.0.1:9092")?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bare {
        Some(host) if !host.is_empty() => Ok((host.to_owned(), port)),
        None if !host.is_empty() && !host.contains(':') => Ok((host.to_owned(), port)),
        _ => Err(ALLOWED.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64MiB", 64 << 20),
            ("64 mb", 64 << 20),
            ("2G", 2 << 30),
            ("7B", 7),
            ("1tib", 1 << 40),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "1.5GiB", "-1", "12 apples", "99999999999999999999", "99999999999TiB"] {
            assert!(parse_bytes(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn sizes_print_shortest_and_come_back() {
        for (bytes, text) in [(0, "0B"), (64 << 20, "64MiB"), (1048588, "1048588B"), (1536 << 10, "1536KiB")]
        {
            assert_eq!(format_bytes(bytes), text);
            assert_eq!(parse_bytes(text), Ok(bytes));
        }
    }

    #[test]
    fn pairs() {
        let parsed = parse_pairs("a=1, b = x=y,").unwrap();
        assert_eq!(
            parsed.into_iter().collect::<Vec<_>>(),
            [("a".into(), "1".into()), ("b".into(), "x=y".into())]
        );
        assert!(parse_pairs("").unwrap().is_empty());
        assert!(parse_pairs("a").is_err() && parse_pairs("a=1,a=2").is_err());
    }

    #[test]
    fn addresses() {
        let (host, address) = parse_address("127.0.0.1:9092").unwrap();
        assert_eq!((host.as_str(), address.port()), ("127.0.0.1", 9092));
        assert!(parse_address("[::1]:0").unwrap().1.is_ipv6());
        for text in ["", "9092", "host", ":9092", "127.0.0.1:", "127.0.0.1:70000", "::1:9092", "[]:1"] {
            assert!(parse_address(text).is_err(), "{text:?} was accepted");
        }
    }
}
