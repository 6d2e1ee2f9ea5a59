//! The durable accept alone: starts of a flow whose one step nobody serves.

use anyhow::Result;

use super::{SMALL, load, message, starts};
use crate::{
    account::Expected,
    figures::{self, Figures},
    harness::{FlowSpec, Progress, Stage},
    options::{Mode, Options},
    scenario::steps::no_rate_holds,
};

/// Runs it.
///
/// # Errors
/// When anything fails, or an execution is not accounted for.
pub async fn run(name: &str, options: &Options, progress: Progress) -> Result<Vec<Figures>> {
    let stage = Stage::set(options, &FlowSpec::chain(1, false), progress).await?;
    let start = starts(&stage, options, Mode::Accept, message(SMALL)).await?;
    let measured = load(&stage, options, start).await?;
    stage.settle(Expected::Running).await?;
    stage.leave().await?;
    Ok(vec![match measured {
        Some(measured) => figures::of_load(name, &stage, options, &measured, 1),
        None => no_rate_holds(name, &stage, options),
    }])
}
