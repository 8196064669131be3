//! Tests of the Kafka codec against the `kafka-protocol` crate as the other side of the wire.

mod control;
mod fetch;
mod header;
mod produce;
mod refuse;
mod shape;
mod versions;
