//! `tidemill execution list`

use clap::{Args, ValueEnum};
use tidemill_sdk::api::{ExecutionState, ListExecutionsRequest, PageRequest};
use tidemill_types::limits::PAGE_SIZE_MAX;

use crate::{
    context::Context,
    failure::Failure,
    table::Table,
    views::{self, cell, execution_state, short_time, took},
};

/// List the executions of a flow, newest first.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill execution list orders --state failed
  tidemill execution list orders --limit 0 --output json | jq length")]
pub struct List {
    /// Id or name of the flow.
    flow: String,
    /// Only executions in this state.
    #[arg(long, value_enum)]
    state: Option<State>,
    /// At most so many; 0 means all.
    #[arg(long, default_value_t = 50, value_name = "COUNT")]
    limit: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Running,
    Succeeded,
    Failed,
    Cancelled,
    TimedOut,
}

impl From<State> for ExecutionState {
    fn from(state: State) -> Self {
        match state {
            State::Running => Self::Running,
            State::Succeeded => Self::Succeeded,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
            State::TimedOut => Self::TimedOut,
        }
    }
}

impl List {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let most = if self.limit == 0 {
            usize::MAX
        } else {
            self.limit
        };
        let state = self
            .state
            .map_or(ExecutionState::Unspecified, ExecutionState::from);
        let mut executions = Vec::new();
        let mut token = String::new();
        loop {
            let left = u32::try_from(most - executions.len()).unwrap_or(u32::MAX);
            let answer = client
                .list_executions(ListExecutionsRequest {
                    flow: self.flow.clone(),
                    state: state as i32,
                    page: Some(PageRequest {
                        size: left.min(PAGE_SIZE_MAX),
                        token,
                    }),
                })
                .await?;
            executions.extend(answer.executions);
            token = answer.next_token;
            if token.is_empty() || executions.len() >= most {
                break;
            }
        }
        context.output.either(
            || executions.iter().map(views::execution).collect(),
            || {
                let header = [
                    "ID", "STATE", "VERSION", "STARTED", "TOOK", "STEPS", "REASON",
                ];
                let mut table = Table::new(&header, "No executions.");
                for run in &executions {
                    table.row(vec![
                        run.id.as_str().into(),
                        cell(execution_state(run.state())),
                        run.flow_version.to_string().into(),
                        short_time(run.started_at.as_ref()).into(),
                        took(run.started_at.as_ref(), run.ended_at.as_ref()).into(),
                        run.steps.to_string().into(),
                        run.reason.as_str().into(),
                    ]);
                }
                table
            },
        )?;
        if !token.is_empty() {
            context.output.note("There are more: --limit 0 shows all.");
        }
        Ok(())
    }
}
