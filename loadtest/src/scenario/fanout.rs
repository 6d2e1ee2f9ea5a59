//! One step gives many messages, each becomes a step, and one step joins them all.

use anyhow::{Result, ensure};
use serde_json::json;

use super::{message, steps::finish};
use crate::{
    account::Expected,
    figures::Figures,
    harness::{FlowSpec, Progress, Stage},
    options::{Mode, Options},
    worker::COMPONENT,
};

/// Runs it.
///
/// # Errors
/// When anything fails, or an execution is not accounted for.
pub async fn run(name: &str, options: &Options, progress: Progress) -> Result<Vec<Figures>> {
    ensure!(
        options.mode == Mode::Finish,
        "fanout has no --mode accept: use steps1, steps3 or steps9"
    );
    let function = |id: &str, more: &str| {
        format!("{{id: {id}, componentId: {COMPONENT}, function: {id}{more}}}")
    };
    let spec = FlowSpec {
        graph: format!(
            "{{nodes: [{}, {}, {}], edges: [{{source: split, target: echo}}, {{source: echo, target: join}}]}}",
            function("split", ""),
            function("echo", ""),
            function("join", ", join: all"),
        ),
        served: true,
    };
    let stage = Stage::set(options, &spec, progress).await?;
    let steps = options.fan + 2;
    let data = json!({ "parts": options.fan }).to_string();
    let mut figures = finish(name, &stage, options, message(data), steps).await?;
    figures.insert("fan".to_owned(), json!(options.fan));
    stage.settle(Expected::Succeeded { steps }).await?;
    stage.leave().await?;
    Ok(vec![figures])
}
