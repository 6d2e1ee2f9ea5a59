//! One node in this process: what its HTTP port answers to webhook requests, and as REST.

mod limits;
mod replies;
mod rest;
mod server;
mod signatures;
