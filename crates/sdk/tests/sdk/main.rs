//! The client and the worker against small servers within the process, over real connections.

mod client;
mod mock;
mod worker;
