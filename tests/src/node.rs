//! One node: its configuration, its folder, its process.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::{http, wait::within};

/// How long a node may take until it is ready, on a machine that compiles at the same time.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a node may take to end: more than its own drain deadline.
const END_TIMEOUT: Duration = Duration::from_secs(45);
/// How many of a log's last lines are shown.
const LOG_LINES_SHOWN: usize = 60;

/// A node that this process started, or may start again.
#[derive(Debug)]
pub struct Node {
    /// Its id in the cluster.
    pub id: u64,
    /// `127.0.0.1:PORT` of the public gRPC port.
    pub grpc: String,
    /// Of the HTTP port.
    pub http: String,
    /// Of the peer port.
    pub peer: String,
    /// Everything that it stores.
    pub data_dir: PathBuf,
    /// Its configuration file.
    pub config: PathBuf,
    /// What it printed, over all its lives.
    pub log: PathBuf,
    pub(crate) binary: PathBuf,
    pub(crate) launcher: Launcher,
    pub(crate) process: Option<Child>,
}

/// How a process is started, if not simply.
#[derive(Clone, Debug, Default)]
pub struct Launcher {
    /// Words before the binary, of a program that becomes the binary (such as `nsenter`).
    pub before: Vec<String>,
    /// Environment variables.
    pub variables: Vec<(String, String)>,
}

impl Node {
    /// Its endpoint for clients.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// Its process id, while it runs (or was not yet seen to have ended).
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Starts its process without waiting for it.
    ///
    /// # Errors
    /// When it runs already, or cannot be started.
    pub fn launch(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "node {} runs already", self.id);
        let log = open_log(&self.log)?;
        let mut command = match self.launcher.before.split_first() {
            None => Command::new(&self.binary),
            Some((program, words)) => {
                let mut command = Command::new(program);
                command.args(words).arg(&self.binary);
                command
            }
        };
        command.arg("server").arg("--config").arg(&self.config);
        // What is set in the tester's shell must not override the node's file.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TIDEMILL_") {
                command.env_remove(name);
            }
        }
        let child = command
            .envs(self.launcher.variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        self.process = Some(child);
        Ok(())
    }

    /// Waits until its `/ready` answers 200.
    ///
    /// # Errors
    /// When it ends instead, or takes too long.
    pub async fn await_ready(&mut self) -> Result<()> {
        let (id, http) = (self.id, self.http.clone());
        let deadline = tokio::time::Instant::now() + READY_TIMEOUT;
        loop {
            if let Ok((200, _)) = http::get(&http, "/ready").await {
                return Ok(());
            }
            if let Some(status) = self.ended()? {
                bail!(
                    "node {id} ended with {status} instead of becoming ready:\n{}",
                    self.log_tail()
                );
            }
            if tokio::time::Instant::now() >= deadline {
                bail!(
                    "node {id} is not ready after {READY_TIMEOUT:?}:\n{}",
                    self.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let child = self
            .process
            .as_ref()
            .with_context(|| format!("node {} does not run", self.id))?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process id is not 0")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal node {}", self.id))?;
        Ok(())
    }

    /// SIGKILL: no warning, no drain. Returns when the process is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self
            .process
            .take()
            .with_context(|| format!("node {} does not run", self.id))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits until the process has ended by itself.
    ///
    /// # Errors
    /// When it does not run, or does not end in time.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.await_end(END_TIMEOUT).await
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn await_end(&mut self, at_most: Duration) -> Result<ExitStatus> {
        let deadline = tokio::time::Instant::now() + at_most;
        loop {
            if let Some(status) = self.ended()? {
                self.process = None;
                return Ok(status);
            }
            if tokio::time::Instant::now() >= deadline {
                bail!(
                    "node {} has not ended after {at_most:?}:\n{}",
                    self.id,
                    self.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// How the process ended, if it did.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.process {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    /// Waits until a metric has a value that `wanted` holds of.
    ///
    /// # Errors
    /// When the time is up.
    pub async fn await_metric(
        &self,
        name: &str,
        at_most: Duration,
        wanted: impl Fn(f64) -> bool,
    ) -> Result<f64> {
        within(
            at_most,
            &format!("metric {name} of node {}", self.id),
            async || {
                let values = http::metrics(&self.http).await.ok()?;
                values.get(name).copied().filter(|value| wanted(*value))
            },
        )
        .await
    }

    /// All that it printed.
    #[must_use]
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last lines that it printed.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.process {
            // Gone already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn open_log(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}
