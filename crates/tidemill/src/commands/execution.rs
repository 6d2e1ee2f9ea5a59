//! `tidemill execution …`

use clap::Subcommand;
use tidemill_sdk::api::{Execution as Run, ExecutionState};

use crate::{
    context::Context,
    failure::Failure,
    table::details,
    views::{cell, execution_state, short_time, took},
};

mod cancel;
mod get;
mod graph;
mod list;
mod redrive;
mod start;
mod start_many;
mod steps;
mod watch;

pub use start::data;

/// Run flows and see what became of them.
#[derive(Debug, Subcommand)]
pub enum Execution {
    Start(start::Start),
    List(list::List),
    Get(get::Get),
    Steps(steps::Steps),
    Watch(watch::Watch),
    Cancel(cancel::Cancel),
    Redrive(redrive::Redrive),
}

impl Execution {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Start(command) => command.run(context).await,
            Self::List(command) => command.run(context).await,
            Self::Get(command) => command.run(context).await,
            Self::Steps(command) => command.run(context).await,
            Self::Watch(command) => command.run(context).await,
            Self::Cancel(command) => command.run(context).await,
            Self::Redrive(command) => command.run(context).await,
        }
    }
}

/// An execution, for people.
fn describe(run: &Run, color: bool) -> String {
    details(
        &[
            ("id", run.id.as_str().into()),
            (
                "flow",
                format!("{}, version {}", run.flow_id, run.flow_version).into(),
            ),
            ("state", cell(execution_state(run.state()))),
            ("reason", run.reason.as_str().into()),
            (
                "steps",
                format!(
                    "{} ({} live, {} dead)",
                    run.steps, run.steps_live, run.steps_dead
                )
                .into(),
            ),
            ("started", short_time(run.started_at.as_ref()).into()),
            (
                "took",
                took(run.started_at.as_ref(), run.ended_at.as_ref()).into(),
            ),
            ("request id", run.request_id.as_str().into()),
        ],
        color,
    )
}

/// A failure if it ended in any other way than it should: scripts go by the exit code.
fn judge(run: &Run) -> Result<(), Failure> {
    let (word, _) = execution_state(run.state());
    let failure = |code: &str| {
        let reason = if run.reason.is_empty() {
            String::new()
        } else {
            format!(": {}", run.reason)
        };
        Failure::failed(code, format!("the execution {} {word}{reason}", run.id))
    };
    match run.state() {
        ExecutionState::Succeeded => Ok(()),
        ExecutionState::Failed => Err(failure("EXECUTION_FAILED").hint(format!(
            "`tidemill execution steps {0}` shows why; `tidemill execution redrive {0}` runs its dead steps again",
            run.id
        ))),
        ExecutionState::Cancelled => Err(failure("EXECUTION_CANCELLED")),
        ExecutionState::TimedOut => Err(failure("EXECUTION_TIMED_OUT")),
        ExecutionState::Running | ExecutionState::Unspecified => {
            Err(failure("EXECUTION_NOT_ENDED"))
        }
    }
}
