//! The handlers that Restate calls, in a process of their own as our worker is, and what they saw.
//!
//! A port of its own answers every connection with one line of JSON: how often the timer handler ran,
//! for how many distinct numbers, and how late. Asking through Restate would add to what is measured.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use hdrhistogram::Histogram;
use restate_sdk::prelude::*;
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

/// The greatest lateness that is told apart: an hour.
const LATE_US_MAX: u64 = 3_600_000_000;

/// What the timer handler saw.
#[derive(Debug)]
struct Seen {
    numbers: BTreeSet<u64>,
    calls: u64,
    late_us: Histogram<u64>,
    last_unix_ms: u64,
}

struct Load {
    seen: Arc<Mutex<Seen>>,
}

/// Milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of this tool that reads the wall clock"
)]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[service(name = "load")]
impl Load {
    /// Gives back what it gets: the input and the output are durable, nothing is between.
    #[handler]
    async fn steps1(&self, _ctx: Context<'_>, number: u64) -> Result<u64, HandlerError> {
        Ok(number)
    }

    /// Three durable steps.
    #[handler]
    async fn steps3(&self, ctx: Context<'_>, number: u64) -> Result<u64, HandlerError> {
        let mut value = number;
        for _ in 0..3 {
            value = ctx.run(|| async move { Ok(value) }).await?;
        }
        Ok(value)
    }

    /// Was due at this time, in milliseconds since 1970; the part below a million million is that, the
    /// rest a number of its own. Called with `due * 1_000_000 + number`.
    #[handler]
    async fn timer(&self, _ctx: Context<'_>, due_and_number: u64) -> Result<(), HandlerError> {
        let now = unix_ms();
        let due = due_and_number / 1_000_000;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.calls += 1;
        if seen.numbers.insert(due_and_number % 1_000_000) {
            seen.late_us
                .saturating_record(now.saturating_sub(due).saturating_mul(1_000));
            seen.last_unix_ms = now;
        }
        Ok(())
    }
}

/// Serves until it is killed.
///
/// # Errors
/// When a port is taken.
pub async fn serve(handlers: SocketAddr, report: SocketAddr) -> Result<()> {
    let seen = Arc::new(Mutex::new(Seen {
        numbers: BTreeSet::new(),
        calls: 0,
        late_us: Histogram::new_with_bounds(1, LATE_US_MAX, 3)?,
        last_unix_ms: 0,
    }));
    let listener = TcpListener::bind(report).await?;
    let reported = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let line = {
                let seen = reported.lock().unwrap_or_else(PoisonError::into_inner);
                let ms = |micros: u64| micros as f64 / 1_000.0;
                json!({
                    "distinct": seen.numbers.len(),
                    "calls": seen.calls,
                    "late_p50_ms": ms(seen.late_us.value_at_quantile(0.5)),
                    "late_p99_ms": ms(seen.late_us.value_at_quantile(0.99)),
                    "late_max_ms": ms(seen.late_us.max()),
                    "last_unix_ms": seen.last_unix_ms,
                })
                .to_string()
            };
            // Who asked and went away needs no answer.
            drop(stream.write_all(line.as_bytes()).await);
        }
    });
    HttpServer::new(Endpoint::builder().bind(Load { seen }).build())
        .listen_and_serve(handlers)
        .await;
    Ok(())
}
