//! Waiting for conditions.

use std::{future::Future, time::Duration};

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// Pause between two looks at a condition.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long a condition may take when the test says nothing: far longer than it takes on a busy
/// machine, so that only what never comes true fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `look` gives something, for as long as `at_most`.
///
/// # Errors
/// When the time is up; names what was waited for.
pub async fn within<T, F, Fut>(at_most: Duration, what: &str, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + at_most;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("waited {at_most:?} in vain: {what}");
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// [`within`] the usual patience.
///
/// # Errors
/// As [`within`].
pub async fn until<T, F, Fut>(what: &str, look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    within(PATIENCE, what, look).await
}
