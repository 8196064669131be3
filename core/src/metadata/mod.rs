//! What the cluster agrees on: nodes, topics, assignments, epochs, configs.
//!
//! [`image`] is the state, [`command`] what may change it, [`elections`] the part of it that says who leads, [`raft`] the log of commands that the nodes agree on,
//! [`reassign`] what moves replicas, [`service`] what the rest of a node sees of it (on core 0), [`peers`] its way to other nodes, [`internal`] the topics of the broker itself, [`topic_config`] the settings a topic may have. Every core holds a read copy of the
//! newest [`ClusterImage`] and never waits for another core to look something up.

pub mod command;
pub mod elections;
mod filling;
mod frame;
pub mod image;
pub mod internal;
pub mod name;
pub mod peers;
pub mod placing;
pub mod quota;
pub mod raft;
pub mod reassign;
pub mod service;
pub mod snapshot;
pub mod topic_config;
mod topic_entries;

pub use command::{Command, MetadataError, Outcome};
pub use image::{Broker, ClusterImage, NodeImage, PartitionImage, PortMode, ReplicaSlot, TopicImage};
pub use topic_config::{Durability, TimestampType, TopicConfig};
