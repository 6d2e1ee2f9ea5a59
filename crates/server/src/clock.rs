//! Wall-clock time enters the server here and nowhere else, so that tests can set it.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tidemill_types::Timestamp;

/// Reads the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The machine's clock.
#[must_use]
pub fn system() -> Clock {
    Arc::new(now)
}

/// The machine's time, now. A clock before 1970 or beyond the year 290,000 reads as the nearest of both.
#[must_use]
#[allow(clippy::disallowed_methods)]
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
