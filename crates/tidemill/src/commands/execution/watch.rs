//! `tidemill execution watch`

use std::io::Write as _;

use clap::Args;
use serde_json::{Value, json};
use terminal_size::terminal_size;
use tidemill_sdk::{
    Client,
    api::{Execution, GetExecutionRequest, GetFlowVersionRequest, WatchExecutionRequest},
};

use super::{
    graph::{Graph, Picture, one},
    judge,
};
use crate::{
    context::Context,
    failure::Failure,
    output::Output,
    table::printable,
    views::{self, execution_state, short_time, step_state},
};

/// The terminal's size when it does not say.
const SIZE_DEFAULT: (usize, usize) = (80, 24);

/// Follow an execution until it has ended: the nodes of its flow, and what each is doing.
///
/// Running is yellow, succeeded green, failed and dead red, skipped grey. On a terminal the picture is
/// redrawn in place; elsewhere each change is a line. The exit code is 0 only if it succeeded.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill execution watch $(tidemill execution start orders)
  tidemill execution watch exe_01k… --output json     one JSON document per change")]
pub struct Watch {
    /// The execution's id (`exe_…`).
    execution: String,
}

impl Watch {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let request = GetExecutionRequest {
            execution_id: self.execution.clone(),
        };
        let run = client
            .get_execution(request)
            .await?
            .execution
            .unwrap_or_default();
        let output = context.output;
        let graph = if output.is_json() {
            Graph::default()
        } else {
            graph(&client, &run).await
        };
        let mut picture = Picture::new(graph);
        let mut drawn = 0;
        let mut watch = client.watch_execution(WatchExecutionRequest {
            execution_id: self.execution,
        });
        while let Some(change) = watch.next().await? {
            if output.is_json() {
                let steps: Vec<Value> = change
                    .steps
                    .iter()
                    .map(|step| views::step(step, false))
                    .collect();
                output.stream(&json!({
                    "execution": change.execution.as_ref().map(views::execution),
                    "steps": steps,
                }))?;
                picture.take(change.execution, Vec::new());
                continue;
            }
            let state_before = picture.execution().state;
            let changed = picture.take(change.execution, change.steps);
            if output.terminal {
                drawn = redraw(&output, &picture, drawn)?;
                continue;
            }
            for step in &changed {
                let (word, _) = step_state(step.state());
                let at = step
                    .ended_at
                    .as_ref()
                    .or(step.started_at.as_ref())
                    .or(step.created_at.as_ref());
                let text = printable(&one(step, word));
                let node = printable(&step.node);
                output.line(format!(
                    "{} step {} {node}: {text}",
                    short_time(at),
                    step.number
                ))?;
            }
            let run = picture.execution();
            if run.state != state_before {
                let (word, _) = execution_state(run.state());
                let at = run.ended_at.as_ref().or(run.started_at.as_ref());
                output.line(format!("{} execution {}: {word}", short_time(at), run.id))?;
            }
        }
        judge(picture.execution())
    }
}

/// The flow as it was when the execution began; without it (it may be deleted) the nodes are shown as
/// they come up.
async fn graph(client: &Client, run: &Execution) -> Graph {
    let request = GetFlowVersionRequest {
        flow: run.flow_id.clone(),
        version: run.flow_version,
    };
    match client.get_flow_version(request).await {
        Ok(answer) => Graph::from_document(&answer.version.unwrap_or_default().document),
        Err(_) => Graph::default(),
    }
}

/// Draws over what was drawn before and returns how many lines there are now.
fn redraw(output: &Output, picture: &Picture, drawn: usize) -> Result<usize, Failure> {
    let (width, height) = terminal_size()
        .map(|(width, height)| (usize::from(width.0), usize::from(height.0)))
        .unwrap_or(SIZE_DEFAULT);
    let lines = picture.lines(output.color, width, height);
    let mut frame = String::new();
    if drawn > 0 {
        frame.push_str(&format!("\x1b[{drawn}A"));
    }
    for line in &lines {
        frame.push_str("\r\x1b[2K");
        frame.push_str(line);
        frame.push('\n');
    }
    // What is left of a longer picture before.
    frame.push_str("\x1b[J");
    // One write for a frame: no flicker.
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(frame.as_bytes())?;
    stdout.flush()?;
    Ok(lines.len())
}
