//! One connection to one broker, whichever protocol it speaks, and the few things a generator does over it.

use crate::failure::Failure;
use crate::kafka::{self, KafkaError, admin, wire};
use crate::socket::Socket;
use crate::target::{Layout, Protocol, Route, Target, TopicPlan};
use bytes::Bytes;
use heddle_client::{Acks, ClientError, FetchFrom, NewTopic, ProduceTo, StartFrom};
use heddle_proto::{ErrorCode, Offset, PartitionIndex};
use std::time::Duration;

/// How long a broker may let a produce request wait for its replicas.
const PRODUCE_WAIT_MS: i32 = 30_000;

/// A connection; copies share it.
#[derive(Clone)]
pub enum Link {
    /// By Kafka's protocol.
    Kafka(kafka::Connection),
    /// By Heddle's own, through its client library.
    Native(heddle_client::Client),
}

/// Why a connection or a control request failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Of a Kafka connection.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// Of a native connection.
    #[error(transparent)]
    Native(#[from] ClientError),
    /// The native connection could not be made.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The broker's `host:port`.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The broker does not lead the topics as planned.
    #[error("{0}")]
    Topics(String),
}

impl LinkError {
    /// The kind a run counts it as.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Kafka(error) => error.failure(),
            Self::Native(error) => client_failure(error),
            Self::Connect { .. } => Failure::Refused,
            Self::Topics(_) => Failure::Broker(ErrorCode::UnknownTopicOrPartition as i16),
        }
    }
}

fn client_failure(error: &ClientError) -> Failure {
    match error {
        ClientError::Refused { code, .. } => Failure::Broker(*code as i16),
        ClientError::ConnectionClosed | ClientError::ConnectionFailed(_) => Failure::Disconnected,
        ClientError::Protocol(_) => Failure::Protocol,
        ClientError::Overloaded { .. } | ClientError::Unreachable { .. } => Failure::Refused,
        ClientError::TooLarge { .. } => Failure::Broker(ErrorCode::MessageTooLarge as i16),
    }
}

/// A place in a partition.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// Its first record.
    Earliest,
    /// Behind its last.
    Latest,
}

/// What a fetch of one partition brought.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Batches; a Kafka broker may cut off the last.
    pub batches: Bytes,
    /// Where the committed records end.
    pub committed: i64,
}

impl Link {
    /// Connects to `address` and introduces itself.
    pub async fn connect(protocol: Protocol, address: &str) -> Result<Self, LinkError> {
        match protocol {
            Protocol::Kafka => Ok(Self::Kafka(kafka::Connection::connect(address).await?)),
            Protocol::Native => {
                let socket = Socket::connect(address)
                    .await
                    .map_err(|source| LinkError::Connect { address: address.to_owned(), source })?;
                let (client, driver) = heddle_client::connection(socket);
                glommio::spawn_local(driver).detach();
                client.hello(wire::CLIENT_ID, None).await?;
                Ok(Self::Native(client))
            }
        }
    }

    /// Whether the connection is of no use any more.
    pub fn is_broken(&self) -> bool {
        match self {
            Self::Kafka(connection) => connection.is_broken(),
            Self::Native(client) => client.failure().is_some(),
        }
    }

    /// Sends a batch now; the future is the offset of its first record.
    pub fn produce(
        &self,
        route: &Route,
        acks: i8,
        batch: Bytes,
    ) -> impl Future<Output = Result<i64, Failure>> + use<> {
        let answer = match self {
            Self::Kafka(connection) => Either::Kafka(produce_kafka(connection, route, acks, batch)),
            Self::Native(client) => Either::Native(produce_native(client, route, acks, batch)),
        };
        async {
            match answer {
                Either::Kafka(answer) => answer.await,
                Either::Native(answer) => answer.await,
            }
        }
    }

    /// Reads one partition from `offset`, waiting up to `wait` for the first byte.
    pub async fn fetch(
        &self,
        route: &Route,
        offset: i64,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Fetched, Failure> {
        let bytes_max = i32::try_from(bytes_max).unwrap_or(i32::MAX);
        match self {
            Self::Kafka(connection) => {
                let limits = wire::FetchLimits {
                    wait_max_ms: wait.as_millis() as i32,
                    bytes_min: 1,
                    bytes_max,
                    partition_bytes_max: bytes_max,
                };
                let wanted =
                    wire::FetchPartition { topic: &route.topic, partition: route.partition as i32, offset };
                let answers = connection.fetch(limits, &[wanted]).await.map_err(|e| e.failure())?;
                let answer = answers.into_iter().next().ok_or(Failure::Protocol)?;
                match answer.error {
                    0 => Ok(Fetched { batches: answer.batches, committed: answer.high_watermark }),
                    code => Err(Failure::Broker(code)),
                }
            }
            Self::Native(client) => {
                let from = FetchFrom {
                    bytes_max: bytes_max as u32,
                    bytes_min: 1,
                    wait_max: wait,
                    ..FetchFrom::new(
                        route.topic_id,
                        PartitionIndex::new(route.partition),
                        Offset::new(offset),
                    )
                };
                let fetched = client.fetch(from).await.map_err(|e| client_failure(&e))?;
                Ok(Fetched { batches: fetched.batches, committed: fetched.committed.get() })
            }
        }
    }

    /// The offset of a place in a partition.
    pub async fn offset_of(&self, route: &Route, place: Place) -> Result<i64, Failure> {
        match self {
            Self::Kafka(connection) => {
                let timestamp = match place {
                    Place::Earliest => admin::EARLIEST,
                    Place::Latest => admin::LATEST,
                };
                admin::list_offset(connection, &route.topic, route.partition, timestamp)
                    .await
                    .map_err(|e| e.failure())
            }
            Self::Native(client) => {
                let at = match place {
                    Place::Earliest => StartFrom::Earliest,
                    Place::Latest => StartFrom::Latest,
                };
                let partition = PartitionIndex::new(route.partition);
                let listed = client.list_offsets(route.topic_id, partition, at).await;
                listed.map(|listed| listed.offset.get()).map_err(|e| client_failure(&e))
            }
        }
    }

    /// Creates the planned topics where they are missing.
    pub async fn create_topics(&self, plan: &TopicPlan) -> Result<(), LinkError> {
        match self {
            Self::Kafka(connection) => {
                admin::check_versions(connection).await?;
                Ok(admin::create_topics(connection, plan).await?)
            }
            Self::Native(client) => create_native(client, plan).await,
        }
    }

    /// Where the partitions of `topics` are.
    pub async fn layout(&self, topics: &[String]) -> Result<Layout, LinkError> {
        match self {
            Self::Kafka(connection) => Ok(admin::layout(connection, topics).await?),
            Self::Native(client) => layout_native(client, topics).await,
        }
    }
}

enum Either<K, N> {
    Kafka(K),
    Native(N),
}

fn produce_kafka(
    connection: &kafka::Connection,
    route: &Route,
    acks: i8,
    batch: Bytes,
) -> impl Future<Output = Result<i64, Failure>> + use<> {
    let (partition, acks) = (route.partition as i32, i16::from(acks));
    let answer = connection.produce(&route.topic, partition, acks, PRODUCE_WAIT_MS, batch);
    async {
        let answer = answer.await.map_err(|error| error.failure())?;
        match answer.error {
            0 => Ok(answer.base_offset),
            code => Err(Failure::Broker(code)),
        }
    }
}

fn produce_native(
    client: &heddle_client::Client,
    route: &Route,
    acks: i8,
    batch: Bytes,
) -> impl Future<Output = Result<i64, Failure>> + use<> {
    let to = ProduceTo::new(route.topic_id, PartitionIndex::new(route.partition));
    let answer = match acks {
        0 => Err(client.produce_unacked(to, batch)),
        1 => Ok(client.produce(to, Acks::Primary, batch)),
        _ => Ok(client.produce(to, Acks::All, batch)),
    };
    async move {
        let produced = match answer {
            Ok(call) => call.await.map(|produced| produced.base_offset.get()),
            Err(told) => told.map(|()| -1),
        };
        produced.map_err(|error| client_failure(&error))
    }
}

async fn create_native(client: &heddle_client::Client, plan: &TopicPlan) -> Result<(), LinkError> {
    for name in &plan.names {
        let topic = NewTopic {
            name: name.clone(),
            partition_count: plan.partition_count,
            replication_factor: plan.replication_factor,
            configs: plan.configs.clone(),
        };
        match client.create_topic(topic).await {
            Ok(_) => {}
            Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn layout_native(client: &heddle_client::Client, topics: &[String]) -> Result<Layout, LinkError> {
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let metadata = client.metadata(Some(&names), false).await?;
    let brokers = metadata.brokers.iter().map(|b| (b.id, format!("{}:{}", b.host, b.port))).collect();
    let mut routes = Vec::new();
    for name in topics {
        let found = metadata.topics.iter().find(|topic| topic.name == *name);
        let topic = found.ok_or_else(|| LinkError::Topics(format!("the broker does not know {name}")))?;
        if topic.error != ErrorCode::None {
            return Err(LinkError::Topics(format!("{name}: {}", topic.error)));
        }
        let mut partitions: Vec<_> = topic.partitions.iter().collect();
        partitions.sort_by_key(|p| p.partition);
        if let Some(bad) = partitions.iter().find(|p| p.error != ErrorCode::None) {
            return Err(LinkError::Topics(format!("{name}, partition {}: {}", bad.partition, bad.error)));
        }
        routes.extend(partitions.into_iter().map(|partition| Route {
            topic: name.clone(),
            topic_id: topic.id,
            partition: partition.partition.get(),
            broker: partition.broker,
        }));
    }
    Ok(Layout { brokers, routes })
}

/// Waits between two looks at topics that were just created.
const LAYOUT_RETRY: Duration = Duration::from_millis(50);
/// Looks at most: topics of a busy cluster take seconds to get their leaders.
const LAYOUT_TRIES: u32 = 400;

/// Creates the planned topics where missing, and waits until every partition has a broker that leads it.
pub async fn prepare_topics(target: &Target, plan: &TopicPlan) -> Result<Layout, LinkError> {
    let link = Link::connect(target.protocol, &target.address).await?;
    link.create_topics(plan).await?;
    let mut tries = 0;
    loop {
        tries += 1;
        match led_layout(&link, plan).await {
            Ok(layout) => return check_counts(layout, plan),
            Err(error) if tries >= LAYOUT_TRIES || !error.failure().is_stale_route() => return Err(error),
            Err(_) => glommio::timer::sleep(LAYOUT_RETRY).await,
        }
    }
}

/// The layout, once the brokers it names say themselves that they lead their partitions.
async fn led_layout(link: &Link, plan: &TopicPlan) -> Result<Layout, LinkError> {
    let layout = link.layout(&plan.names).await?;
    if matches!(link, Link::Native(_)) {
        return Ok(layout); // it names a core only once that core leads
    }
    for (broker, address) in &layout.brokers {
        let led: Vec<&Route> = layout.routes.iter().filter(|route| route.broker == *broker).collect();
        if !led.is_empty() {
            let leader = kafka::Connection::connect(address).await?;
            admin::check_leads(&leader, &led).await?;
        }
    }
    Ok(layout)
}

/// A topic that exists with another number of partitions would measure something else than was asked for.
fn check_counts(layout: Layout, plan: &TopicPlan) -> Result<Layout, LinkError> {
    for name in &plan.names {
        let count = layout.routes.iter().filter(|route| route.topic == *name).count();
        if count != plan.partition_count as usize {
            return Err(LinkError::Topics(format!(
                "topic {name} exists with {count} partitions, not {}: choose another --topic, or --partitions {count}",
                plan.partition_count
            )));
        }
    }
    Ok(layout)
}
