//! How the nodes of a cluster work together, on core 0: who lives, who leads what, who is let in.
//!
//! Whoever leads the metadata runs the [`controller`], which hears from every node ([`session`], [`join`]) and decides elections.
//! What it decides goes through the metadata, and so to every node; the other way nodes say in [`message`]s what they have
//! to say. [`remote`] is what brokers ask each other
//! for clients, [`drain`] and [`fill`] say what moves, [`voters`] keeps an odd number of nodes voting on the metadata.

pub mod ask;
pub mod controller;
pub mod drain;
pub mod fill;
pub mod join;
pub mod message;
pub mod moves;
pub mod note;
pub mod notes;
pub mod remote;
pub mod session;
pub mod voters;
