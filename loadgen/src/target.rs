//! Which broker a run drives and how: the `--target` argument, and what the broker says about its topics.

use heddle_proto::TopicId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The protocol spoken to the broker.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Heddle's own.
    Native,
    /// Kafka's: any broker that speaks it.
    Kafka,
}

/// A broker to begin with, as `native://host:port` or `kafka://host:port`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// How to speak to it.
    pub protocol: Protocol,
    /// `host:port`.
    pub address: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let help = || format!("{text:?} is no target: write native://host:port or kafka://host:port");
        let (scheme, address) = text.split_once("://").ok_or_else(help)?;
        let protocol = match scheme {
            "native" => Protocol::Native,
            "kafka" => Protocol::Kafka,
            _ => return Err(help()),
        };
        let (host, port) = address.rsplit_once(':').ok_or_else(help)?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(help());
        }
        Ok(Self { protocol, address: address.to_owned() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.protocol {
            Protocol::Native => "native",
            Protocol::Kafka => "kafka",
        };
        write!(f, "{scheme}://{}", self.address)
    }
}

/// Topics a run needs, created where missing.
#[derive(Clone, Debug)]
pub struct TopicPlan {
    /// Names, in order.
    pub names: Vec<String>,
    /// Partitions of each.
    pub partition_count: u32,
    /// Replicas of each partition; 0 leaves it to the broker.
    pub replication_factor: u16,
    /// Settings of each.
    pub configs: Vec<(String, String)>,
}

impl TopicPlan {
    /// One topic bears the plain name; several are numbered.
    pub fn names(topic: &str, count: u32) -> Vec<String> {
        match count {
            0 | 1 => vec![topic.to_owned()],
            count => (0..count).map(|i| format!("{topic}-{i:04}")).collect(),
        }
    }
}

/// Where one partition is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Topic name.
    pub topic: String,
    /// Topic id; zero where the protocol does not use it.
    pub topic_id: TopicId,
    /// Index in the topic.
    pub partition: u32,
    /// The broker that leads it.
    pub broker: i32,
}

/// What the broker's metadata says: the brokers, and every partition of the planned topics in order.
#[derive(Clone, Default, Debug)]
pub struct Layout {
    /// Broker id and `host:port`.
    pub brokers: Vec<(i32, String)>,
    /// Partitions, topic by topic.
    pub routes: Vec<Route>,
}

impl Layout {
    /// Where broker `id` listens.
    pub fn address_of(&self, id: i32) -> Option<&str> {
        self.brokers.iter().find(|(broker, _)| *broker == id).map(|(_, address)| address.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_parsed_and_printed() {
        for text in ["native://127.0.0.1:9092", "kafka://broker.example:19092", "kafka://[::1]:9092"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in ["127.0.0.1:9092", "http://a:1", "kafka://a", "kafka://:1", "native://a:70000", ""] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains("native://host:port"), "{error}");
        }
    }

    #[test]
    fn several_topics_are_numbered() {
        assert_eq!(TopicPlan::names("t", 1), ["t"]);
        assert_eq!(TopicPlan::names("t", 3), ["t-0000", "t-0001", "t-0002"]);
    }
}
