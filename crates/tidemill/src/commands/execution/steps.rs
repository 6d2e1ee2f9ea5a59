//! `tidemill execution steps`

use clap::Args;
use tidemill_sdk::{
    Client,
    api::{ListStepsRequest, PageRequest, Step},
};
use tidemill_types::limits::PAGE_SIZE_MAX;

use crate::{
    context::Context,
    failure::Failure,
    table::Table,
    views::{self, cell, short_time, step_remark, step_state, took},
};

/// Steps in one page when their messages come with them.
const PAGE_WITH_MESSAGES: u32 = 20;

/// List the steps of an execution in the order in which they were made.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill execution steps exe_01k…
  tidemill execution steps exe_01k… --step 3 --messages --output json")]
pub struct Steps {
    /// The execution's id (`exe_…`).
    execution: String,
    /// Only this step.
    #[arg(long, value_name = "NUMBER")]
    step: Option<u32>,
    /// With what went in and what came out.
    #[arg(long)]
    messages: bool,
}

impl Steps {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let steps = all(&client, &self.execution, self.step, self.messages).await?;
        let output = &context.output;
        if output.is_json() {
            let steps = steps.iter().map(|step| views::step(step, self.messages));
            return output.document(&steps.collect());
        }
        output.table(&table(&steps))?;
        if self.messages {
            for step in &steps {
                for (word, messages) in [("input", &step.input), ("output", &step.output)] {
                    for message in messages {
                        let data = views::message(message);
                        output.line(format!("\nstep {} {word}: {data:#}", step.number))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// All steps, page by page.
pub async fn all(
    client: &Client,
    execution: &str,
    number: Option<u32>,
    with_messages: bool,
) -> Result<Vec<Step>, Failure> {
    let size = if with_messages {
        PAGE_WITH_MESSAGES
    } else {
        PAGE_SIZE_MAX
    };
    let mut steps = Vec::new();
    let mut token = String::new();
    loop {
        let answer = client
            .list_steps(ListStepsRequest {
                execution_id: execution.to_owned(),
                with_messages,
                page: Some(PageRequest { size, token }),
                number,
            })
            .await?;
        steps.extend(answer.steps);
        token = answer.next_token;
        if token.is_empty() {
            return Ok(steps);
        }
    }
}

fn table(steps: &[Step]) -> Table {
    let header = [
        "STEP", "NODE", "STATE", "ATTEMPT", "FROM", "OUT", "STARTED", "TOOK", "WORKER", "REMARK",
    ];
    let mut table = Table::new(&header, "No steps.");
    for step in steps {
        let from: Vec<String> = step.from_steps.iter().take(4).map(u32::to_string).collect();
        let more = if step.from_steps.len() > 4 {
            ",…"
        } else {
            ""
        };
        table.row(vec![
            step.number.to_string().into(),
            step.node.as_str().into(),
            cell(step_state(step.state())),
            step.attempt.to_string().into(),
            format!("{}{more}", from.join(",")).into(),
            step.outputs.to_string().into(),
            short_time(step.started_at.as_ref()).into(),
            took(step.started_at.as_ref(), step.ended_at.as_ref()).into(),
            step.worker.as_str().into(),
            step_remark(step).into(),
        ]);
    }
    table
}
