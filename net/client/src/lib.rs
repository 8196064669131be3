//! The Rust client of Heddle's native protocol, for any async runtime: it works over whatever reads and
//! writes as `futures-io` does (tokio through `tokio_util::compat`, glommio and smol as they are), and never
//! names a runtime itself.
//!
//! [`connection`] makes a [`Client`] and a [`Driver`] from a connected stream; spawn the driver, use the
//! client:
//!
//! ```no_run
//! # async fn example(stream: impl futures_lite::AsyncRead + futures_lite::AsyncWrite + Unpin + Send + 'static,
//! #     spawn: impl Fn(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>), batch: bytes::Bytes,
//! # ) -> Result<(), heddle_client::ClientError> {
//! use heddle_client::{Acks, NewTopic, PartitionIndex, ProduceTo, connection};
//!
//! let (client, driver) = connection(stream);
//! spawn(Box::pin(async { drop(driver.await) }));
//! client.hello("example", None).await?;
//! let topic = client.create_topic(NewTopic::named("events")).await?;
//! let to = ProduceTo::new(topic, PartitionIndex::new(0));
//! // Pipelined: both requests are on their way before the first answer is awaited.
//! let (first, second) = (client.produce(to, Acks::All, batch.clone()), client.produce(to, Acks::All, batch));
//! println!("{} {}", first.await?.base_offset, second.await?.base_offset);
//! # Ok(())
//! # }
//! ```
//!
//! A partition is served by one core of one node, and each core has an address of its own; [`router`] keeps a
//! connection to each, sends requests where they belong, and tries again where that helps.
//!
//! Memory is bounded everywhere: what is queued to be sent, the calls unanswered, and the bytes a
//! subscription may hold.
mod call;
mod client;
mod connection;
mod error;
pub mod router;
mod state;
mod subscription;
mod wire;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use call::{
    Call, Fetched, Listed, Metadata, Produced, ProducerIdentity, Subscribed, TopicDescription, Welcome,
};
pub use client::{Acks, Client, FetchFrom, NewTopic, ProduceTo, TopicChange};
pub use connection::{ClientOptions, Driver, connection, connection_with};
pub use error::ClientError;
pub use heddle_proto::native::{Broker, ConfigEntry, PartitionDetail, PartitionInfo, StartFrom, TopicInfo};
pub use heddle_proto::{
    CoreId, Epoch, ErrorCode, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp,
    TopicId, TopicPartition, batch,
};
pub use subscription::{Delivery, Subscription};
