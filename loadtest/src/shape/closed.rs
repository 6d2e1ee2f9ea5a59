//! Clients that each wait for the answer before they send the next request.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{sync::watch, task::JoinSet, time::sleep};

use super::Load;
use crate::operation::Operation;

/// After a failure: a server that refuses at once must not be asked in a busy loop.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// Runs until `stop`.
///
/// # Errors
/// When a client panics.
pub async fn run<O: Operation>(
    load: &Arc<Load<O>>,
    clients: usize,
    stop: &watch::Receiver<bool>,
) -> Result<()> {
    let mut tasks = JoinSet::new();
    for slot in 0..clients {
        let (load, stop) = (Arc::clone(load), stop.clone());
        tasks.spawn(async move {
            while !*stop.borrow() {
                if !load.request(slot, None).await {
                    sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a client of the load panicked")?;
    }
    Ok(())
}
