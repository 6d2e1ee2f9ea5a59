//! `tidemill-loadtest check`: judges histories and exported journals, of this load test or anybody's.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::Output;

/// Which files are judged.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidemill journal export --endpoint http://10.0.0.1:7450 --out node-1.jsonl      (and so on for each node)
  tidemill-loadtest check history.jsonl node-1.jsonl node-2.jsonl node-3.jsonl

docs/reliability.md explains the format of histories and each rule. Exit code 1: a promise was broken.")]
pub struct Check {
    /// Histories and exported journals, in any order.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Text, or one JSON object.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Check {
    /// Reads the files and prints the verdict.
    ///
    /// # Errors
    /// When a file cannot be read, or is neither, and when a promise was broken.
    pub fn run(&self) -> Result<()> {
        let verdict = tidemill_checker::check(&self.files)?;
        match self.output {
            Output::Table => print!("{verdict}"),
            Output::Json => println!("{}", serde_json::to_string(&verdict)?),
        }
        if !verdict.is_clean() {
            bail!("a promise was broken");
        }
        Ok(())
    }
}
