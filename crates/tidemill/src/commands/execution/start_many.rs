//! `tidemill execution start --count`: many executions of one flow, and what became of them.

use std::{
    collections::BTreeMap,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tidemill_sdk::{
    Client,
    api::{ExecutionState, Message, StartExecutionRequest},
};
use tokio::task::JoinSet;

use crate::{context::Context, failure::Failure, table::details, views::execution_state};

/// How often progress is said.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// What to start, how often, how many at once.
pub struct StartMany {
    pub flow: String,
    pub data: String,
    pub count: u64,
    pub parallel: u64,
    /// Starts per second; none: as fast as answers come.
    pub rate: Option<u32>,
    pub wait: bool,
    /// Each start's request id begins with it, so that the whole command is safe to repeat.
    pub request_id: String,
}

/// What one start came to.
struct One {
    state: Option<ExecutionState>,
    took: Duration,
}

impl StartMany {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let begun = Instant::now();
        let (next, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (count, parallel) = (self.count, self.parallel.min(self.count));
        let spec = Arc::new(self);
        let mut starters = JoinSet::new();
        for _ in 0..parallel {
            let (client, spec) = (client.clone(), spec.clone());
            let (next, ended, timeout) = (next.clone(), ended.clone(), context.timeout);
            starters.spawn(async move {
                let mut done = Vec::new();
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= spec.count {
                        return Ok::<_, Failure>(done);
                    }
                    let due = spec.due(begun, number);
                    tokio::time::sleep_until(due.into()).await;
                    done.push(spec.one(&client, number, due, timeout).await?);
                    ended.fetch_add(1, Relaxed);
                }
            });
        }
        let mut all = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
        let mut progress = tokio::time::interval(PROGRESS_EVERY);
        loop {
            tokio::select! {
                joined = starters.join_next() => match joined {
                    None => break,
                    Some(Ok(done)) => all.extend(done?),
                    Some(Err(error)) => return Err(Failure::failed("STARTER", error.to_string())),
                },
                _ = progress.tick() => say(context, ended.load(Relaxed), count),
            }
        }
        say(context, ended.load(Relaxed), count);
        report(context, &all, begun.elapsed(), spec.wait)
    }

    /// When this start should begin: with a rate, its time is counted from there, for otherwise
    /// the starts that an outage holds up would not count it.
    fn due(&self, begun: Instant, number: u64) -> Instant {
        match self.rate {
            None => Instant::now(),
            Some(rate) => begun + Duration::from_secs_f64(number as f64 / f64::from(rate)),
        }
    }

    async fn one(
        &self,
        client: &Client,
        number: u64,
        due: Instant,
        timeout: Duration,
    ) -> Result<One, Failure> {
        let request_id = if self.request_id.is_empty() {
            String::new()
        } else {
            format!("{}-{number}", self.request_id)
        };
        let message = Message {
            data: self.data.clone().into(),
            ..Message::default()
        };
        let request = StartExecutionRequest {
            flow: self.flow.clone(),
            message: Some(message),
            request_id,
            ..StartExecutionRequest::default()
        };
        let state = if self.wait {
            let ran = client.run(request, timeout).await?;
            Some(ran.execution.unwrap_or_default().state())
        } else {
            client.start_execution(request).await?;
            None
        };
        Ok(One {
            state,
            took: due.elapsed(),
        })
    }
}

/// Progress goes to stderr: results alone are on stdout.
fn say(context: &Context, ended: u64, count: u64) {
    let mut stderr = std::io::stderr().lock();
    // Progress that cannot be said must not end the work.
    let _ = if context.output.is_json() {
        writeln!(stderr, "{}", json!({ "ended": ended, "of": count }))
    } else {
        writeln!(stderr, "{ended} of {count}")
    };
}

fn report(context: &Context, all: &[One], took: Duration, waited: bool) -> Result<(), Failure> {
    let mut millis: Vec<f64> = all.iter().map(|one| one.took.as_secs_f64() * 1e3).collect();
    millis.sort_by(f64::total_cmp);
    let quantile = |q: f64| {
        let at = ((millis.len() as f64 * q).ceil() as usize).clamp(1, millis.len().max(1)) - 1;
        millis
            .get(at)
            .map_or(0.0, |ms| (ms * 100.0).round() / 100.0)
    };
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for one in all {
        *states
            .entry(
                one.state
                    .map_or("started", |state| execution_state(state).0),
            )
            .or_default() += 1;
    }
    let rate = (all.len() as f64 / took.as_secs_f64() * 10.0).round() / 10.0;
    if context.output.is_json() {
        let mut value = json!({
            "started": all.len(),
            "p50_ms": quantile(0.5),
            "p99_ms": quantile(0.99),
            "max_ms": quantile(1.0),
            "rate_per_s": rate,
        });
        for (state, count) in &states {
            value[*state] = json!(count);
        }
        context.output.document(&value)?;
    } else {
        let mut lines = vec![("started", all.len().to_string().into())];
        for (state, count) in &states {
            lines.push((*state, count.to_string().into()));
        }
        lines.push(("p50", format!("{} ms", quantile(0.5)).into()));
        lines.push(("p99", format!("{} ms", quantile(0.99)).into()));
        lines.push(("slowest", format!("{} ms", quantile(1.0)).into()));
        lines.push(("rate", format!("{rate}/s").into()));
        context.output.line(details(&lines, context.output.color))?;
    }
    let wrong = all
        .iter()
        .filter(|one| !matches!(one.state, None | Some(ExecutionState::Succeeded)))
        .count();
    if waited && wrong > 0 {
        return Err(Failure::failed(
            "EXECUTIONS_NOT_SUCCEEDED",
            format!("{wrong} did not succeed"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_due_at_the_rate_that_was_asked_for() {
        let many = |rate| StartMany {
            flow: String::new(),
            data: String::new(),
            count: 10,
            parallel: 1,
            rate,
            wait: false,
            request_id: String::new(),
        };
        let begun = Instant::now();
        let at = |number| many(Some(200)).due(begun, number) - begun;
        assert_eq!(at(0), Duration::ZERO);
        assert_eq!(at(200), Duration::from_secs(1));
        assert_eq!(at(1_000), Duration::from_secs(5));
        assert!(many(None).due(begun, 1_000) < begun + Duration::from_secs(5));
    }
}
