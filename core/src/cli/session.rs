//! The client commands' way to the brokers: connections on this executor, and errors in a user's words.

use super::CliError;
use crate::config::split_host_port;
use crate::metadata::name::check_topic_name;
use crate::runtime::{block_on::spawn, time};
use heddle_client::router::{Environment, Located, Router, RouterOptions};
use heddle_client::{Client, ClientError, ErrorCode, PartitionIndex, TopicInfo, connection};
use heddle_net::socket::{ConnectError, Stream};
use std::io;
use std::time::Duration;

/// A broker that does not answer by then is called unreachable.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a topic may take until its partitions have primaries, in steps of [`TOPIC_PAUSE`].
const TOPIC_ATTEMPTS_MAX: usize = 50;
const TOPIC_PAUSE: Duration = Duration::from_millis(100);

/// Connects over TCP on this executor.
#[derive(Clone, Copy, Debug)]
pub struct OnThisExecutor;

impl Environment for OnThisExecutor {
    async fn connect(&self, host: &str, port: u16) -> io::Result<Client> {
        let stream =
            Stream::connect(&address(host, port), CONNECT_TIME_MAX).await.map_err(|error| match error {
                ConnectError::Resolve { source, .. } | ConnectError::Refused { source, .. } => source,
            })?;
        let (client, driver) = connection(stream);
        // How the connection ended is told by every call that waits for it.
        spawn(async { drop(driver.await) });
        Ok(client)
    }

    async fn sleep(&self, time: Duration) {
        time::sleep(time).await;
    }
}

/// `HOST:PORT`, with brackets around an IPv6 address.
pub fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Connections to the cluster that one broker was named of.
#[derive(Clone, Debug)]
pub struct Session {
    server: String,
    router: Router<OnThisExecutor>,
}

impl Session {
    /// Connects to `server`, at once or not at all.
    pub async fn open(server: &str) -> Result<Session, CliError> {
        let host_and_port = split_host_port(server)
            .map_err(|allowed| CliError::Usage(format!("--server {server}: {allowed}")))?;
        let options = RouterOptions {
            name: format!("heddle {}", env!("CARGO_PKG_VERSION")),
            ..RouterOptions::default()
        };
        let router = Router::new(OnThisExecutor, [host_and_port], options);
        let session = Session { server: server.to_owned(), router };
        session.any().await?;
        Ok(session)
    }

    /// The router, for what needs one.
    pub fn router(&self) -> Router<OnThisExecutor> {
        self.router.clone()
    }

    /// A connection to any broker.
    pub async fn any(&self) -> Result<Client, CliError> {
        self.router.any().await.map_err(|error| self.failed("connecting", error))
    }

    /// The owner of a partition.
    pub async fn owner(&self, topic: &str, partition: PartitionIndex) -> Result<Located, CliError> {
        let located = self.router.locate(topic, partition).await;
        located.map_err(|error| self.failed(&format!("partition {partition} of topic `{topic}`"), error))
    }

    /// A topic whose partitions all have primaries. Created if missing, `auto_create`, and the broker allows it.
    pub async fn topic(&self, name: &str, auto_create: bool) -> Result<TopicInfo, CliError> {
        let client = self.any().await?;
        let what = format!("topic `{name}`");
        for _ in 0..TOPIC_ATTEMPTS_MAX {
            let metadata = client.metadata(Some(&[name]), auto_create).await;
            let topics = metadata.map_err(|error| self.failed(&what, error))?.topics;
            let topic = topics.into_iter().find(|topic| topic.name == name);
            match topic {
                Some(topic) if topic.error.is_none() && has_primaries(&topic) => return Ok(topic),
                Some(topic) if !topic.error.is_none() && topic.error != ErrorCode::LeaderNotAvailable => {
                    return Err(refused(name, topic.error));
                }
                None => return Err(refused(name, ErrorCode::UnknownTopicOrPartition)),
                Some(_) => time::sleep(TOPIC_PAUSE).await,
            }
        }
        Err(refused(name, ErrorCode::LeaderNotAvailable))
    }

    /// A client's error in a user's words; `what` says what was asked for.
    pub fn failed(&self, what: &str, error: ClientError) -> CliError {
        let what = what.to_owned();
        match error {
            ClientError::Refused { code, message } => CliError::Refused { what, code, message },
            ClientError::Unreachable { address, source } => {
                let hint = match address == self.server {
                    true => String::new(),
                    false => format!(
                        " This address was told by {}: if it is wrong, set advertised_host and advertised_port there.",
                        self.server
                    ),
                };
                CliError::Unreachable { server: address, detail: source.to_string(), hint }
            }
            ClientError::ConnectionClosed | ClientError::ConnectionFailed(_) => {
                CliError::Lost { server: self.server.clone(), what, detail: error.to_string() }
            }
            error => CliError::Client { what, detail: error.to_string() },
        }
    }
}

fn has_primaries(topic: &TopicInfo) -> bool {
    !topic.partitions.is_empty() && topic.partitions.iter().all(|partition| partition.broker >= 0)
}

fn refused(name: &str, code: ErrorCode) -> CliError {
    let message = match code {
        ErrorCode::InvalidTopicException => {
            check_topic_name(name).err().unwrap_or_else(|| code.description().to_owned())
        }
        ErrorCode::UnknownTopicOrPartition => {
            "it does not exist; `heddle topic list` shows what does, `heddle topic create` makes it"
                .to_owned()
        }
        code => code.description().to_owned(),
    };
    CliError::Refused { what: format!("topic `{name}`"), code, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn session() -> Session {
        let router = Router::new(OnThisExecutor, [], RouterOptions::default());
        Session { server: "a:1".to_owned(), router }
    }

    #[test]
    fn an_advertised_address_that_fails_is_explained() {
        let source = Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
        let error = |address: &str| {
            let error = ClientError::Unreachable { address: address.to_owned(), source: source.clone() };
            session().failed("x", error).to_string()
        };
        assert!(error("b:2").contains("advertised_host") && error("b:2").contains("at b:2"));
        assert!(!error("a:1").contains("advertised_host"));
    }

    #[test]
    fn addresses_of_both_families() {
        assert_eq!(address("localhost", 1), "localhost:1");
        assert_eq!(address("::1", 1), "[::1]:1");
    }

    #[test]
    fn nobody_there_is_said_at_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().to_string();
        drop(listener);
        let opened = crate::runtime::block_on::block_on(Session::open(&server)).unwrap();
        let message = opened.unwrap_err().to_string();
        assert!(message.contains(&server) && message.contains("HEDDLE_SERVER"), "{message}");
    }
}
