//! Sends requests to the core that owns a partition: one connection per broker, found by metadata, with
//! retries.
//!
//! A [`Router`] connects when it must, asks for metadata when it knows too little or is told it knows wrong
//! (NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION, a lost connection), and tries again what may succeed
//! later, with growing pauses. [`Producer`] and [`Consumer`] are what most programs need of it.
//!
//! A retry after a lost connection may repeat what was done already: batches arrive at least once, unless
//! they carry a producer id and sequences, by which the broker knows repetitions.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::AHashMap;
use heddle_proto::{Epoch, ErrorCode, PartitionIndex, TopicId};

use crate::call::{Call, Metadata};
use crate::client::{Client, ProduceTo};
use crate::error::ClientError;

mod consumer;
mod environment;
mod partitioner;
mod producer;

#[cfg(test)]
mod tests;

pub use consumer::Consumer;
pub use environment::{Closures, Environment};
pub use partitioner::partition_of;
pub use producer::Producer;

/// How a router behaves.
#[derive(Clone, Debug)]
pub struct RouterOptions {
    /// How the client is named in the brokers' logs.
    pub name: String,
    /// The cluster expected; brokers of another are refused. `None` takes any.
    pub cluster: Option<String>,
    /// Whether topics that do not exist are created, if the broker allows it.
    pub auto_create: bool,
    /// How often something is tried altogether.
    pub attempt_count_max: usize,
    /// Pause after the first failure; doubled with each further one.
    pub pause_min: Duration,
    /// Longest pause.
    pub pause_max: Duration,
}

impl Default for RouterOptions {
    fn default() -> RouterOptions {
        RouterOptions {
            name: "heddle-client".to_owned(),
            cluster: None,
            auto_create: false,
            attempt_count_max: 10,
            pause_min: Duration::from_millis(20),
            pause_max: Duration::from_secs(2),
        }
    }
}

impl RouterOptions {
    /// The pause after `failure_count` failures in a row.
    fn pause(&self, failure_count: usize) -> Duration {
        let doublings = u32::try_from(failure_count.saturating_sub(1)).unwrap_or(u32::MAX).min(30);
        self.pause_min.saturating_mul(1 << doublings).min(self.pause_max)
    }
}

/// Where a partition is served, and the connection to there.
#[derive(Clone, Debug)]
pub struct Located {
    /// The connection to the owner.
    pub client: Client,
    /// The topic's id.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// Epoch of the owner.
    pub epoch: Epoch,
}

impl From<&Located> for ProduceTo {
    fn from(located: &Located) -> ProduceTo {
        ProduceTo { topic: located.topic, partition: located.partition, epoch: located.epoch }
    }
}

/// Connections to the brokers of a cluster. Cheap to clone; clones share everything.
#[derive(Debug)]
pub struct Router<E> {
    inner: Arc<Inner<E>>,
}

#[derive(Debug)]
struct Inner<E> {
    environment: E,
    options: RouterOptions,
    /// Addresses to begin with.
    bootstrap: Vec<Address>,
    routes: Mutex<Routes>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Address {
    host: String,
    port: u16,
}

#[derive(Debug, Default)]
struct Routes {
    brokers: AHashMap<i32, Address>,
    topics: AHashMap<String, Topic>,
    clients: AHashMap<Address, Client>,
}

#[derive(Debug)]
struct Topic {
    id: TopicId,
    partitions: Vec<Route>,
}

#[derive(Copy, Clone, Debug)]
struct Route {
    partition: PartitionIndex,
    broker: i32,
    epoch: Epoch,
    error: ErrorCode,
}

impl<E> Clone for Router<E> {
    fn clone(&self) -> Router<E> {
        Router { inner: self.inner.clone() }
    }
}

impl<E: Environment> Router<E> {
    /// A router that begins at any of `bootstrap` (host and port); nothing is connected yet.
    pub fn new(
        environment: E,
        bootstrap: impl IntoIterator<Item = (String, u16)>,
        options: RouterOptions,
    ) -> Router<E> {
        let bootstrap = bootstrap.into_iter().map(|(host, port)| Address { host, port }).collect();
        Router { inner: Arc::new(Inner { environment, options, bootstrap, routes: Mutex::default() }) }
    }

    /// A connection to any broker, for requests that concern no partition.
    pub async fn any(&self) -> Result<Client, ClientError> {
        if let Some(client) = self.inner.connected() {
            return Ok(client);
        }
        let mut refusal = ClientError::ConnectionClosed;
        for address in self.inner.candidates() {
            match self.client_at(&address).await {
                Ok(client) => return Ok(client),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// The number of partitions of a topic.
    pub async fn partition_count(&self, topic: &str) -> Result<usize, ClientError> {
        let mut attempts = self.attempts();
        loop {
            if let Some(count) = self.inner.partition_count(topic) {
                return Ok(count);
            }
            if let Err(error) = self.refresh(topic).await {
                attempts.failed(error).await?;
            }
        }
    }

    /// Where a partition is served now, without retries.
    pub async fn locate(&self, topic: &str, partition: PartitionIndex) -> Result<Located, ClientError> {
        if self.inner.route(topic, partition).is_none() {
            self.refresh(topic).await?;
        }
        let Some((id, route, address)) = self.inner.route(topic, partition) else {
            return Err(unknown_partition(topic, partition));
        };
        if !route.error.is_none() {
            self.inner.forget(topic);
            return Err(ClientError::refused(route.error, format!("partition {partition} of {topic:?}")));
        }
        let Some(address) = address else {
            self.inner.forget(topic);
            return Err(ClientError::refused(
                ErrorCode::LeaderNotAvailable,
                format!("partition {partition} of {topic:?} has no primary now"),
            ));
        };
        let client = self.client_at(&address).await.inspect_err(|_| self.inner.forget(topic))?;
        Ok(Located { client, topic: id, partition, epoch: route.epoch })
    }

    /// Sends `request` to the owner of a partition, and again after failures that may pass.
    pub async fn at_owner<T>(
        &self,
        topic: &str,
        partition: PartitionIndex,
        request: impl Fn(&Located) -> Call<T>,
    ) -> Result<T, ClientError> {
        let mut attempts = self.attempts();
        loop {
            match self.try_at_owner(topic, partition, &request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => attempts.failed(error).await?,
            }
        }
    }

    async fn try_at_owner<T>(
        &self,
        topic: &str,
        partition: PartitionIndex,
        request: &impl Fn(&Located) -> Call<T>,
    ) -> Result<T, ClientError> {
        let owner = self.locate(topic, partition).await?;
        owner.client.ready().await.inspect_err(|error| self.on_failure(topic, error))?;
        request(&owner).await.inspect_err(|error| self.on_failure(topic, error))
    }

    /// Forgets where a topic's partitions are if `error` says that we know wrong.
    fn on_failure(&self, topic: &str, error: &ClientError) {
        if error.is_misrouted() {
            self.inner.forget(topic);
        }
    }

    fn attempts(&self) -> Attempts<'_, E> {
        Attempts { router: self, failure_count: 0 }
    }

    async fn pause(&self, failure_count: usize) {
        self.inner.environment.sleep(self.inner.options.pause(failure_count)).await;
    }

    async fn refresh(&self, topic: &str) -> Result<(), ClientError> {
        let client = self.any().await?;
        let metadata = client.metadata(Some(&[topic]), self.inner.options.auto_create).await?;
        self.inner.routes().learn(metadata);
        match self.inner.routes().topics.contains_key(topic) {
            true => Ok(()),
            false => Err(ClientError::refused(
                ErrorCode::UnknownTopicOrPartition,
                format!("topic {topic:?} does not exist"),
            )),
        }
    }

    async fn client_at(&self, address: &Address) -> Result<Client, ClientError> {
        if let Some(client) = self.inner.routes().live(address) {
            return Ok(client);
        }
        let connected = self.inner.environment.connect(&address.host, address.port).await;
        let client = connected.map_err(|error| ClientError::Unreachable {
            address: format!("{}:{}", address.host, address.port),
            source: Arc::new(error),
        })?;
        client.hello(&self.inner.options.name, self.inner.options.cluster.as_deref()).await?;
        Ok(self.inner.routes().keep(address, client))
    }
}

/// Counts failures in a row.
struct Attempts<'a, E> {
    router: &'a Router<E>,
    failure_count: usize,
}

impl<E: Environment> Attempts<'_, E> {
    /// Pauses if another attempt may help, else gives the error back.
    async fn failed(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.failure_count += 1;
        if !error.is_retryable() || self.failure_count >= self.router.inner.options.attempt_count_max {
            return Err(error);
        }
        self.router.pause(self.failure_count).await;
        Ok(())
    }
}

fn unknown_partition(topic: &str, partition: PartitionIndex) -> ClientError {
    ClientError::refused(
        ErrorCode::UnknownTopicOrPartition,
        format!("topic {topic:?} has no partition {partition}"),
    )
}

impl<E> Inner<E> {
    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partition_count(&self, topic: &str) -> Option<usize> {
        self.routes().topics.get(topic).map(|topic| topic.partitions.len())
    }

    fn forget(&self, topic: &str) {
        self.routes().topics.remove(topic);
    }

    fn connected(&self) -> Option<Client> {
        self.routes().clients.values().find(|client| client.failure().is_none()).cloned()
    }

    /// Every address worth trying: those given first, then those learned.
    fn candidates(&self) -> Vec<Address> {
        let mut candidates = self.bootstrap.clone();
        let learned: Vec<Address> = self.routes().brokers.values().cloned().collect();
        candidates.extend(learned.into_iter().filter(|address| !self.bootstrap.contains(address)));
        candidates
    }

    fn route(&self, topic: &str, partition: PartitionIndex) -> Option<(TopicId, Route, Option<Address>)> {
        let routes = self.routes();
        let topic = routes.topics.get(topic)?;
        let route = topic.partitions.iter().find(|route| route.partition == partition)?;
        Some((topic.id, *route, routes.brokers.get(&route.broker).cloned()))
    }
}

impl Routes {
    fn learn(&mut self, metadata: Metadata) {
        let addresses = metadata.brokers.into_iter();
        self.brokers =
            addresses.map(|broker| (broker.id, Address { host: broker.host, port: broker.port })).collect();
        for topic in metadata.topics {
            if !topic.error.is_none() {
                self.topics.remove(&topic.name);
                continue;
            }
            let routes = topic.partitions.into_iter().map(|info| Route {
                partition: info.partition,
                broker: info.broker,
                epoch: info.epoch,
                error: info.error,
            });
            self.topics.insert(topic.name, Topic { id: topic.id, partitions: routes.collect() });
        }
    }

    fn live(&mut self, address: &Address) -> Option<Client> {
        let client = self.clients.get(address)?;
        if client.failure().is_none() {
            return Some(client.clone());
        }
        self.clients.remove(address);
        None
    }

    /// Keeps a new connection, unless another task was faster.
    fn keep(&mut self, address: &Address, client: Client) -> Client {
        if let Some(other) = self.live(address) {
            return other;
        }
        self.clients.insert(address.clone(), client.clone());
        client
    }
}
