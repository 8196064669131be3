//! What an operator sees: metrics, health, and the state of the cluster.

mod cluster;
pub mod metrics;
pub mod peers;
pub mod render;
pub mod server;
pub mod stages;
pub mod status;
