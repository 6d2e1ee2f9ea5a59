//! The command line, run as a user runs it.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command};

/// The `tidemill` command, aimed at a cluster.
#[derive(Clone, Debug)]
pub struct Cli {
    binary: PathBuf,
    endpoints: Vec<String>,
}

/// What a command did.
#[derive(Clone, Debug)]
pub struct CliOutput {
    /// The command line, for messages.
    pub line: String,
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it printed as its result.
    pub stdout: String,
    /// What it said beside that.
    pub stderr: String,
}

impl Cli {
    /// The binary, aimed at these endpoints.
    #[must_use]
    pub fn new(binary: PathBuf, endpoints: Vec<String>) -> Self {
        Self { binary, endpoints }
    }

    /// A command that is ready to be changed and started by hand.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(args)
            .env("TIDEMILL_ENDPOINT", self.endpoints.join(","))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn run(&self, args: &[&str]) -> Result<CliOutput> {
        self.run_with_input(args, "").await
    }

    /// Runs a command to its end, with this text on its standard input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn run_with_input(&self, args: &[&str], input: &str) -> Result<CliOutput> {
        let mut command = self.command(args);
        command.stdin(Stdio::piped());
        let mut child = command.spawn().context("cannot start the command line")?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that does not read may end first; what it says is what counts.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = child.wait_with_output().await?;
        Ok(CliOutput {
            line: format!("tidemill {}", args.join(" ")),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).context("stdout is UTF-8")?,
            stderr: String::from_utf8(output.stderr).context("stderr is UTF-8")?,
        })
    }

    /// Runs a command with `--output json`, expects exit code 0, and gives its one document.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub async fn json(&self, args: &[&str]) -> Result<Value> {
        let mut all = args.to_vec();
        all.extend(["--output", "json"]);
        self.run(&all).await?.success()?.document()
    }
}

impl CliOutput {
    /// Itself, if it ended with 0.
    ///
    /// # Errors
    /// When it did not.
    pub fn success(self) -> Result<Self> {
        if self.code != 0 {
            bail!("{self}");
        }
        Ok(self)
    }

    /// Standard output as one JSON document.
    ///
    /// # Errors
    /// When it is none.
    pub fn document(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("no JSON document: {self}"))
    }

    /// Standard output as one JSON document a line.
    ///
    /// # Errors
    /// When a line is none.
    pub fn documents(&self) -> Result<Vec<Value>> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("no JSON line: {self}")))
            .collect()
    }

    /// The error that a failed command prints with `--output json`.
    ///
    /// # Errors
    /// When standard error holds none.
    pub fn error(&self) -> Result<Value> {
        let line = self.stderr.lines().last().unwrap_or_default();
        let value: Value =
            serde_json::from_str(line).with_context(|| format!("no JSON error: {self}"))?;
        Ok(value["error"].clone())
    }
}

impl std::fmt::Display for CliOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`{}` ended with {}\nstdout: {}\nstderr: {}",
            self.line, self.code, self.stdout, self.stderr
        )
    }
}
