//! `tidemill`: the server and the command line in one binary.
//!
//! Owns what people type and read. Decides nothing about flows: commands go to a server by the public
//! API, or read files, and both end in one of four exit codes (see [`failure::Exit`]).

use std::process::ExitCode;

use clap::Parser as _;

mod cli;
mod commands;
mod context;
mod example;
mod failure;
mod output;

use tidemill::{journal, table, views};

use cli::Cli;
use context::Context;
use failure::{Exit, Failure};
use output::Output;

/// glibc's malloc was measured to take a third of a partition's thread when many small things of many
/// ages come and go (plans, rows); see docs/performance.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A runtime that always has something to run looks for what has come on sockets after so many tasks. tokio's 61 are up
/// to 20 ms of a busy server's, in which a quiet caller is not seen.
const TASKS_PER_EVENTS: u32 = 8;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let output = Output::new(cli.global.output);
    let context = Context::new(&cli.global, output);
    let result = tokio::runtime::Builder::new_multi_thread()
        .event_interval(TASKS_PER_EVENTS)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("RUNTIME", format!("cannot start: {error}")))
        .and_then(|runtime| {
            let result = runtime.block_on(commands::run(cli.command, &context));
            // A command that is through does not wait for what it left in the background.
            runtime.shutdown_background();
            result
        });
    match result {
        Ok(()) => Exit::Done.into(),
        Err(failure) => failure.report(&context.output).into(),
    }
}

/// clap's errors, which include `--help` and `--version`.
fn usage(error: &clap::Error) -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let json = args.iter().any(|arg| arg == "--output=json")
        || args.windows(2).any(|pair| pair == ["--output", "json"]);
    if error.use_stderr() && json {
        return Failure::usage(error.to_string().trim().to_owned())
            .report(&Output::new(output::Format::Json))
            .into();
    }
    // Nothing is to be done about a closed pipe.
    let _ = error.print();
    if error.use_stderr() {
        Exit::Usage.into()
    } else {
        Exit::Done.into()
    }
}
