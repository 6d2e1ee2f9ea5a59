//! How a node stops: gateways first, then leaderships, then the store.
//!
//! In this order nothing that was accepted is cut off: streams end and tell their clients to go
//! elsewhere, requests in hand are answered, actors answer what they have proposed, and only then are
//! leaderships handed over.

use std::time::Duration;

use futures::future::join_all;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    boot::{Running, start_unless},
    config::Config,
    telemetry,
};

/// How long requests in hand may take after the streams were told to end.
const REQUESTS_TIMEOUT: Duration = Duration::from_secs(5);
/// `128 + SIGTERM`, as for a process that was killed: the drain was not finished.
const EXIT_CUT_SHORT: i32 = 143;

/// Runs a node until SIGTERM or SIGINT, then drains it. A second signal, or the end of the drain's
/// deadline, ends the process at once.
///
/// # Errors
/// When the node cannot start.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let telemetry = telemetry::init(&config)?;
    let mut signals = Signals::new()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "tidemill starts");
    for line in config.to_string().lines() {
        tracing::info!(option = line, "configuration");
    }
    if config.insecure_no_auth {
        tracing::warn!(grpc = %config.grpc, http = %config.http, peer = %config.peer, "nothing is encrypted or authenticated, and insecure_no_auth allows ports beyond loopback: whoever reaches them can do everything");
    }
    let deadline = config.drain_deadline;
    let node_id = config.node_id;
    let give_up = CancellationToken::new();
    let start = start_unless(config, &give_up);
    tokio::pin!(start);
    let running = tokio::select! {
        running = &mut start => running?,
        () = signals.next() => {
            tracing::info!("told to stop before the node was part of its cluster");
            give_up.cancel();
            // It may have become one just now: then it is drained below.
            start.await?
        }
    };
    let Some(running) = running else {
        telemetry.stop().await;
        return Ok(());
    };
    if !give_up.is_cancelled() {
        tokio::select! {
            () = running.ready() => {
                let Running { grpc, http, peer, .. } = &running;
                println!("tidemill {node_id} ready: grpc {grpc} http {http} peers {peer}");
                signals.next().await;
            }
            () = signals.next() => {}
        }
    }
    tracing::info!("draining");
    tokio::select! {
        drained = timeout(deadline, running.drain()) => if drained.is_err() {
            tracing::error!("the drain did not end within its deadline");
            telemetry::finish_lines();
            std::process::exit(EXIT_CUT_SHORT);
        },
        () = signals.next() => {
            tracing::warn!("told to stop again, ending at once");
            telemetry::finish_lines();
            std::process::exit(EXIT_CUT_SHORT);
        }
    }
    tracing::info!("drained");
    telemetry.stop().await;
    Ok(())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl Running {
    /// Stops the node: hands over what it leads, makes its store durable, closes its ports.
    pub async fn drain(self) {
        self.health
            .set_service_status("", tonic_health::ServingStatus::NotServing)
            .await;
        self.node.shutdown.cancel();
        self.close.cancel();
        let mut ports = self.ports;
        if timeout(REQUESTS_TIMEOUT, join_all(&mut ports))
            .await
            .is_err()
        {
            tracing::warn!("requests were cut off");
            for port in ports {
                port.abort();
            }
        }
        self.stop.cancel();
        join_all(self.actors).await;
        let states: Vec<_> = self
            .node
            .replica
            .groups()
            .iter()
            .map(|group| (group.id(), group.state()))
            .collect();
        self.node.replica.drain().await;
        let flushed = tokio::task::spawn_blocking(move || {
            for (partition, state) in states {
                // Not needed for safety, the log has it all: it makes the next start shorter.
                if let Err(error) = state.flush() {
                    tracing::warn!(%partition, %error, "state was not flushed");
                }
            }
        });
        if flushed.await.is_err() {
            tracing::error!("flushing panicked");
        }
        self.engine.stop().await;
    }
}
