//! The smallest HTTP client that can ask the admin address, and the metrics it answers with.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::wait::HANG;

/// An answer, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Everything after the headers.
    pub body: String,
}

/// Asks `GET path`.
///
/// # Errors
/// Those of the socket, and an answer that is not HTTP.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"))
}

/// Sends `text` and reads the answer to its end.
///
/// # Errors
/// Those of the socket, and an answer that is not HTTP.
pub fn request(address: SocketAddr, text: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(HANG))?;
    stream.write_all(text.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer).map_err(io::Error::other)?;
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no end of the headers"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status in {head:?}")))?;
    Ok(Answer { status, body: body.to_owned() })
}

/// One look at `/metrics`.
#[derive(Clone, Debug)]
pub struct Metrics {
    text: String,
}

impl Metrics {
    /// Wraps the text of `/metrics`.
    pub fn new(text: String) -> Metrics {
        Metrics { text }
    }

    /// The sum of `heddle_NAME` over all cores and labels; a counter is asked for without its `_total`.
    ///
    /// # Panics
    /// If there is no such metric.
    pub fn sum(&self, name: &str) -> u64 {
        let values: Vec<u64> = self.values(name).collect();
        assert!(!values.is_empty(), "no metric heddle_{name} in:\n{}", self.text);
        values.iter().sum()
    }

    /// As [`Metrics::sum`], but what does not exist yet is 0: counters with labels come to life when first counted.
    pub fn sum_or_zero(&self, name: &str) -> u64 {
        self.values(name).sum()
    }

    /// The sum of `heddle_NAME` over all series that have each of these labels, as `name="value"`; `None` if none has.
    pub fn sum_with(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let names = [format!("heddle_{name}"), format!("heddle_{name}_total")];
        let values = self.text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (metric, found) = series.split_once('{').unwrap_or((series, ""));
            let found: Vec<&str> = found.trim_end_matches('}').split(',').collect();
            let is_it = names.iter().any(|name| name == metric) && labels.iter().all(|it| found.contains(it));
            is_it.then(|| value.parse::<f64>().ok())?
        });
        values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn values(&self, name: &str) -> impl Iterator<Item = u64> {
        let names = [format!("heddle_{name}"), format!("heddle_{name}_total")];
        self.text.lines().filter_map(move |line| {
            let (series, value) = line.rsplit_once(' ')?;
            let metric = series.split('{').next()?;
            names.iter().any(|name| name == metric).then(|| value.parse().ok())?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed() {
        let metrics = Metrics::new(
            "# TYPE heddle_a counter\nheddle_a_total{core=\"0\"} 3\nheddle_a_total{core=\"1\"} 4\nheddle_ab 9\n".into(),
        );
        assert_eq!(metrics.sum("a"), 7);
        assert_eq!(metrics.sum("ab"), 9);
        assert_eq!(metrics.sum_or_zero("b"), 0);
        assert_eq!(metrics.sum_with("a", &["core=\"1\""]), Some(4.0));
        assert_eq!(metrics.sum_with("a", &["core=\"2\""]), None);
    }
}
