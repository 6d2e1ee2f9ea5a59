//! The scenarios: one file each, and their list.

mod endurance;
mod fanout;
mod history;
mod payload;
mod recovery;
mod schedules;
mod start;
mod steps;
mod timers;
mod waiting;
mod webhook;

use anyhow::Result;
use clap::ValueEnum;
use tidemill_sdk::api::Message;

use crate::{
    figures::Figures,
    harness::{Measured, Progress, Stage},
    operation::{Operation, Start},
    options::{Mode, Options},
};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// One worker step, from request to final answer.
    Steps1,
    /// Three worker steps in a chain.
    Steps3,
    /// Nine worker steps in a chain.
    Steps9,
    /// The durable accept alone: nobody serves the step.
    Start,
    /// One step gives 100 messages, each is a step, one joins them.
    Fanout,
    /// Webhook requests until they are stored, over all nodes.
    Webhook,
    /// Executions that wait, and finished ones: memory, disk, restart time.
    Waiting,
    /// Executions that all fall due within 5 s: lateness. With --sleep 1h: what sleeping ones cost.
    Timers,
    /// SIGKILL of the leader under load (use --nodes 3): the gap, nothing lost, the way back.
    Recovery,
    /// Whether finished executions make new ones slower: a row for each tenth of --count.
    History,
    /// A fixed --rate for a long --duration: a line each --every, memory and disk included.
    Endurance,
    /// One worker step on messages of 256 B, 4 KiB, 64 KiB and 1 MiB.
    Payload,
    /// Schedules that are armed, and a burst of them that fires: rate, memory, idle CPU, lateness.
    Schedules,
}

impl Scenario {
    /// As on the command line.
    pub fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// For `list`.
    pub fn explain(self) -> String {
        self.to_possible_value()
            .and_then(|value| value.get_help().map(ToString::to_string))
            .unwrap_or_default()
    }

    /// Runs it once. Most give one result, some one for each size.
    ///
    /// # Errors
    /// When anything fails, or an execution is not accounted for.
    pub async fn run(self, options: &Options) -> Result<Vec<Figures>> {
        let progress = Progress::new(self.name(), options.quiet);
        match self {
            Self::Steps1 => steps::run(&self.name(), 1, options, progress).await,
            Self::Steps3 => steps::run(&self.name(), 3, options, progress).await,
            Self::Steps9 => steps::run(&self.name(), 9, options, progress).await,
            Self::Start => start::run(&self.name(), options, progress).await,
            Self::Fanout => fanout::run(&self.name(), options, progress).await,
            Self::Webhook => webhook::run(&self.name(), options, progress).await,
            Self::Waiting => waiting::run(&self.name(), options, progress).await,
            Self::Timers => timers::run(&self.name(), options, progress).await,
            Self::Recovery => recovery::run(&self.name(), options, progress).await,
            Self::History => history::run(&self.name(), options, progress).await,
            Self::Endurance => endurance::run(&self.name(), options, progress).await,
            Self::Payload => payload::run(&self.name(), options, progress).await,
            Self::Schedules => schedules::run(&self.name(), options).await,
        }
    }
}

/// A message of these bytes of JSON.
fn message(data: impl Into<Vec<u8>>) -> Message {
    Message {
        data: data.into().into(),
        ..Message::default()
    }
}

/// The message of scenarios in which it does not matter.
const SMALL: &str = r#"{"n":1}"#;

/// Starts of the stage's flow, by as many connections as there are clients.
async fn starts(stage: &Stage, options: &Options, mode: Mode, message: Message) -> Result<Start> {
    Ok(Start {
        clients: stage.clients(options).await?,
        flow: stage.flow.clone(),
        message,
        mode,
    })
}

/// One load from request to final answer: by the shape that the options ask for, or the best one that a
/// search finds.
async fn measure(stage: &Stage, options: &Options, message: Message) -> Result<Option<Measured>> {
    let start = starts(stage, options, Mode::Finish, message).await?;
    load(stage, options, start).await
}

/// The same of any operation.
async fn load<O: Operation + Clone>(
    stage: &Stage,
    options: &Options,
    operation: O,
) -> Result<Option<Measured>> {
    match options.search_p99 {
        None => {
            let measured = stage.measure(operation, options.shape(), options).await?;
            Ok(Some(measured.answered()?))
        }
        Some(limit_ms) => crate::search::search(stage, options, limit_ms, &operation).await,
    }
}
