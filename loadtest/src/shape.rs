//! The shape of a load: when requests are sent.
//!
//! Closed loop: each client sends its next request when it has the answer to the one before; a server
//! that stalls is sent less, which hides the stall. Open loop: requests are due at fixed times whatever
//! the servers do, and latency is counted from then: no coordinated omission.

mod alarm;
mod closed;
mod open;
mod search;

use std::sync::Arc;

use tokio::{sync::watch, time::Instant};

pub use search::{Trial, highest};

use crate::{
    ledger::Ledger,
    meter::Meter,
    operation::{Failure, Operation},
};

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// So many clients, each with one request at a time.
    Closed {
        /// Clients.
        clients: usize,
    },
    /// At a fixed rate.
    Open {
        /// Requests per second.
        rate: f64,
        /// Requests under way at most.
        max_in_flight: usize,
    },
}

impl Shape {
    /// For results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed { .. } => "closed",
            Self::Open { .. } => "open",
        }
    }
}

/// What all requests of a load share.
#[derive(Debug)]
pub struct Load<O> {
    /// What is done.
    pub operation: O,
    /// What is counted.
    pub meter: Arc<Meter>,
    /// What was answered.
    pub ledger: Arc<Ledger>,
}

impl<O: Operation> Load<O> {
    /// Sends requests in this shape until `stop` says so and the last one has its answer.
    ///
    /// # Errors
    /// When a client panics, or the system gives no thread.
    pub async fn run(
        self: Arc<Self>,
        shape: Shape,
        stop: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        match shape {
            Shape::Closed { clients } => closed::run(&self, clients, &stop).await,
            Shape::Open {
                rate,
                max_in_flight,
            } => open::run(&self, open::Pace::new(rate), max_in_flight, stop).await,
        }
    }

    /// One request. `due` is when it should have been sent; without it, it counts from now, and belongs
    /// to the window in which it is answered. Says whether it got its answer.
    async fn request(&self, slot: usize, due: Option<Instant>) -> bool {
        let request_id = self.ledger.request_id();
        self.meter.sent();
        let sent = Instant::now();
        let outcome = self.operation.call(slot, &request_id).await;
        let now = Instant::now();
        let at = due.unwrap_or(now);
        match outcome {
            Ok(execution) => {
                self.ledger.acknowledge(execution);
                self.meter.answered(at, now - due.unwrap_or(sent));
                true
            }
            Err(failure) => {
                self.meter.failed(at, || failure.to_string());
                if let Failure::Unknown(_) = failure {
                    self.ledger.not_known(request_id);
                }
                false
            }
        }
    }
}
