//! What an operator sees: metrics, health, and the state of the cluster.

pub mod metrics;
pub mod render;
pub mod server;
pub mod stages;
pub mod status;
