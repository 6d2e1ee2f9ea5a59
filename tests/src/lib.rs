//! Starts real `tidemill` processes on 127.0.0.1, kills them, and asks them things: for the black-box
//! tests in `tests/tests` and for the load test.
//!
//! Owns processes, ports and folders, and gives all of them back: a dropped [`Cluster`] leaves nothing
//! running. Must never reach into a node but by what a user has: its ports, its files, signals. Waits
//! for conditions, each with a deadline; a pause only spaces two looks at one.

pub mod campaign;
pub mod cli;
pub mod cluster;
pub mod damage;
pub mod http;
pub mod journal;
pub mod ledger;
pub mod load;
pub mod node;
pub mod overload;
pub mod ports;
pub mod random;
pub mod tmpfs;
pub mod wait;
pub mod workspace;

mod binary;

pub use binary::tidemill_binary;
pub use cli::{Cli, CliOutput};
pub use cluster::{Cluster, ClusterBuilder};
pub use journal::Chain;
pub use load::Load;
pub use node::Node;
pub use tmpfs::Tmpfs;
pub use wait::{until, within};
