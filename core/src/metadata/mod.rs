//! What the cluster agrees on: nodes, topics, assignments, epochs, configs.
//!
//! [`image`] is the state, [`command`] what may change it, [`log`] the durable Raft-ready log of commands, [`service`]
//! the one writer (on core 0), [`internal`] the topics of the broker itself, [`topic_config`] the settings a topic may have. Every core holds a read copy of the
//! newest [`ClusterImage`] and never waits for another core to look something up.

pub mod command;
mod frame;
pub mod image;
pub mod internal;
pub mod log;
pub mod name;
pub mod quota;
pub mod raft;
pub mod service;
pub mod snapshot;
pub mod topic_config;
mod topic_entries;

pub use command::{Command, MetadataError, Outcome};
pub use image::{Broker, ClusterImage, NodeImage, PartitionImage, PortMode, ReplicaSlot, TopicImage};
pub use topic_config::{Durability, TimestampType, TopicConfig};
