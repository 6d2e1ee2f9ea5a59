//! The worker: a process of its own, so that its CPU is none of the servers' and none of the clients'.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use tidemill_sdk::{Outcome, TaskContext, Worker};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
};

use crate::{servers::Servers, usage};

/// Most tasks that the worker process holds at once.
const CONCURRENCY: u32 = 1_024;
/// The component that it serves.
pub const COMPONENT: &str = "load";
/// Most messages that `split` gives, whatever it is asked.
const PARTS_MAX: u64 = 10_000;

/// A worker process that runs until this is dropped, or this process is gone.
#[derive(Debug)]
pub struct WorkerProcess {
    child: Child,
}

impl WorkerProcess {
    /// Starts it: this program with the subcommand `worker`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn start(servers: &Servers) -> Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .args(["worker", "--concurrency", &CONCURRENCY.to_string()])
            .args(["--endpoints", &servers.endpoints_for(0).join(",")])
            // Nothing is ever written: its end is the end of this process, however that ends.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the worker process")?;
        Ok(Self { child })
    }

    /// Its user and system time, in seconds.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_seconds(&self) -> Result<f64> {
        usage::cpu_seconds(self.child.id().context("the worker process has ended")?)
    }
}

/// Serves until standard input ends.
///
/// # Errors
/// When the endpoints are wrong.
pub async fn serve(endpoints: Vec<String>, concurrency: u32) -> Result<()> {
    let worker = Worker::builder(&endpoints)
        .name("load")
        .function(COMPONENT, "echo", async |task: TaskContext| {
            Ok(Outcome::message(task.message()))
        })
        .function(COMPONENT, "split", async |task: TaskContext| {
            let data: serde_json::Value = task.data()?;
            let parts = data["parts"].as_u64().unwrap_or(1).min(PARTS_MAX);
            let message = task.message();
            Ok((0..parts).fold(Outcome::none(), |outcome, _| {
                outcome.and_message(message.clone())
            }))
        })
        .function(COMPONENT, "join", async |_: TaskContext| {
            Ok(Outcome::json(serde_json::json!({})))
        })
        .concurrency(concurrency);
    let mut stdin = tokio::io::stdin();
    let parent_gone = async move {
        let mut nothing = [0_u8; 64];
        while let Ok(1..) = stdin.read(&mut nothing).await {}
    };
    worker.run_until(parent_gone).await?;
    Ok(())
}
