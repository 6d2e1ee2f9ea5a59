//! `tidemill worker example`

use std::{io::IsTerminal as _, time::Duration};

use clap::Args;
use serde_json::json;
use tidemill_sdk::{Worker, WorkerReport};
use tracing_subscriber::EnvFilter;

use crate::{cli::duration, context::Context, example, failure::Failure};

/// Serve the components that the OIH sample flows name, and the component `example` (functions echo,
/// sleep, fail, split, count), until ctrl-c or SIGTERM; then finish what is under way.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill worker example
  tidemill worker example --concurrency 256            for load
  tidemill worker example --delay 2s --name slow-1     to have time to look

docs/workers.md says how to write a worker of your own.")]
pub struct Example {
    /// Tasks at once.
    #[arg(long, default_value_t = 64, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Wait this long in every task.
    #[arg(long, value_parser = duration, default_value = "0ms", value_name = "TIME")]
    delay: Duration,
    /// How long a task may stay unheard of before another worker gets it.
    #[arg(long, value_parser = duration, default_value = "30s", value_name = "TIME")]
    lease: Duration,
    /// How long `reboundTrigger` asks to wait each time.
    #[arg(long, value_parser = duration, default_value = "100ms", value_name = "TIME")]
    rebound: Duration,
    /// Shown in the steps that it ran.
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
}

impl Example {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let filter = EnvFilter::try_from_env("TIDEMILL_LOG_LEVEL")
            .unwrap_or_else(|_| EnvFilter::new("info"));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .init();
        let name = if self.name.is_empty() {
            format!("example-{}", std::process::id())
        } else {
            self.name
        };
        let settings = example::Settings {
            delay: self.delay,
            rebound: self.rebound,
        };
        let builder = Worker::builder(&context.endpoints)
            .name(name)
            .concurrency(self.concurrency)
            .lease(self.lease);
        let worker = example::register(builder, settings)
            .build()
            .map_err(|error| Failure::usage(error.to_string()))?;
        // Registered before anything runs: a signal that comes at once must not kill.
        let stop = stop_signal()?;
        let report = worker.run_until(stop).await;
        show(context, &report)
    }
}

fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            // The second signal means now; leases run out by themselves.
            std::process::exit(1);
        });
    })
}

fn show(context: &Context, report: &WorkerReport) -> Result<(), Failure> {
    if context.output.is_json() {
        return context.output.document(&json!({
            "taken": report.taken,
            "accepted": report.accepted,
            "already": report.already,
            "lost": report.lost,
            "invalid": report.invalid,
            "panics": report.panics,
            "unanswered": report.unanswered,
            "abandoned": report.abandoned,
            "connections": report.connections,
        }));
    }
    context.output.line(format!(
        "{} tasks taken, {} completions accepted, {} already there, {} leases lost, {} left unanswered",
        report.taken,
        report.accepted,
        report.already,
        report.lost,
        report.unanswered + report.abandoned,
    ))
}
