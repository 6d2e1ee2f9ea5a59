//! One node in this process: what its HTTP port answers to webhook requests.

mod limits;
mod replies;
mod server;
mod signatures;
