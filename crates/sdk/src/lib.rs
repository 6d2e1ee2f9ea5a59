//! What users of Tidemill link: a [`Client`] for everything the API offers, and a [`Worker`] that runs
//! the steps of their own components.
//!
//! Owns: finding the cluster through any node, failing over between nodes, retrying with the same
//! request id, and a worker's half of the promise (every completion is sent until it is answered).
//! Must never depend on the engine: what it knows comes over the wire.
//!
//! The promise: effects inside Tidemill are exactly-once; effects of a step outside of it are
//! at-least-once, with [`TaskContext::idempotency_key`] the same for every attempt.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use serde_json::json;
//! use tidemill_sdk::{Client, Outcome, TaskContext, TaskError, Worker};
//!
//! /// Runs the function `greet` of the component `hello`.
//! async fn greet(task: TaskContext) -> Result<Outcome, TaskError> {
//!     let person: serde_json::Value = task.data()?;
//!     let Some(name) = person["name"].as_str() else {
//!         return Err(TaskError::fatal("NO_NAME", "the message has no `name`"));
//!     };
//!     Ok(Outcome::json(json!({ "greeting": format!("Hello, {name}") })))
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // A worker: in a process of its own, as a rule.
//! let worker = Worker::builder(["http://127.0.0.1:7450"])
//!     .name("greeter-1")
//!     .function("hello", "greet", greet)
//!     .concurrency(32)
//!     .lease(Duration::from_secs(30));
//! let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
//! let running = tokio::spawn(worker.run_until(async { drop(stopped.await) }));
//!
//! // A client: defines a flow, starts it, runs it once and waits for what comes out.
//! let client = Client::connect(["http://127.0.0.1:7450"]).await?;
//! client.apply("{name: greetings, graph: {nodes: [{id: a, componentId: hello, function: greet}]}}").await?;
//! client.publish("greetings").await?;
//! client.start_flow_by_name("greetings").await?;
//! let started = client.start("greetings", &json!({"name": "Ada"})).await?;
//! let ended = client.wait(&started.execution_id, Duration::from_secs(30)).await?;
//! println!("{:?}: {:?}", ended.execution.map(|e| e.state), ended.output);
//!
//! let _ = stop.send(());
//! running.await??;
//! # Ok(())
//! # }
//! ```

pub mod client;
pub mod error;
pub mod limits;
pub mod message;
pub mod worker;

mod backoff;
mod nodes;
mod request_id;

/// The messages of the public API, as generated from `proto/tidemill/v1`.
pub use tidemill_proto::v1 as api;

pub use client::{Client, ClientBuilder, ExecutionWatch, JournalReader};
pub use error::{ClientError, ErrorKind, Violation};
pub use message::MessageJson;
pub use nodes::InvalidEndpoint;
pub use request_id::new_request_id;
pub use worker::{
    Outcome, TaskContext, TaskError, Worker, WorkerBuilder, WorkerError, WorkerReport,
};
