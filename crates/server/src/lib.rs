//! The node: partition actors, gateways, config, boot and drain.
//!
//! [`run`] is all that the binary needs. Requests come in at a gateway (`gateway`, `work`), which asks a
//! group's actor ([`actor`]) on its leader; the actor feeds the pure core and proposes what it decided
//! through the replica. Must never: decide anything that `core` should, or touch openraft or RocksDB.

pub mod activator;
pub mod actor;
pub mod boot;
pub mod clock;
mod cluster_service;
pub mod config;
mod door;
pub mod drain;
mod engine;
mod files;
pub mod gateway;
mod http;
mod late;
mod listen;
pub mod metrics;
pub mod node;
mod request;
mod rows;
mod services;
pub mod telemetry;
pub mod work;

pub use config::{Config, ConfigError, Overrides};
pub use drain::run;
pub use node::Node;
