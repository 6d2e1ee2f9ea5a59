//! The picture of an execution: each node of the flow with what its steps are doing.
//!
//! A pure function from the execution and its steps to lines; who prints them decides where.

use std::collections::BTreeMap;

use serde_json::Value;
use tidemill_sdk::api::{Execution, ExecutionState, Step, StepState};

use crate::{
    table::{Style, printable},
    views::{execution_state, step_remark, step_state, took},
};

/// The flow's nodes in the order of its document, each with its targets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    nodes: Vec<(String, Vec<String>)>,
}

impl Graph {
    /// Reads the graph of a flow document. What cannot be read is left out: it is only a picture.
    pub fn from_document(document: &str) -> Self {
        let document: Value = serde_json::from_str(document).unwrap_or_default();
        let list = |key: &str| {
            document["graph"][key]
                .as_array()
                .cloned()
                .unwrap_or_default()
        };
        let edges = list("edges");
        let nodes = list("nodes")
            .iter()
            .filter_map(|node| node["id"].as_str())
            .map(|id| {
                let targets = edges
                    .iter()
                    .filter(|edge| edge["source"] == id)
                    .filter_map(|edge| edge["target"].as_str().map(str::to_owned));
                (id.to_owned(), targets.collect())
            })
            .collect();
        Self { nodes }
    }
}

/// What is known of an execution so far.
#[derive(Debug, Default)]
pub struct Picture {
    graph: Graph,
    execution: Execution,
    steps: BTreeMap<u32, Step>,
}

impl Picture {
    pub fn new(graph: Graph) -> Self {
        Self {
            graph,
            ..Self::default()
        }
    }

    pub fn execution(&self) -> &Execution {
        &self.execution
    }

    /// Takes a change; returns the steps whose state or attempt is new.
    pub fn take(&mut self, execution: Option<Execution>, steps: Vec<Step>) -> Vec<Step> {
        if let Some(execution) = execution {
            self.execution = execution;
        }
        let mut changed = Vec::new();
        for step in steps {
            if !self.graph.nodes.iter().any(|(node, _)| *node == step.node) {
                self.graph.nodes.push((step.node.clone(), Vec::new()));
            }
            let old = self.steps.insert(step.number, step.clone());
            let same = |old: &Step| old.state == step.state && old.attempt == step.attempt;
            if !old.as_ref().is_some_and(same) {
                changed.push(step);
            }
        }
        changed
    }

    /// The lines to show: a header, a line for each node, and what there is no room for as a count.
    pub fn lines(&self, color: bool, width: usize, height: usize) -> Vec<String> {
        let run = &self.execution;
        let (word, style) = execution_state(run.state());
        // The id alone is 30 characters: on a narrow terminal the counts go first, so that no line
        // wraps and redrawing in place still meets every line.
        let counts = format!(
            "  {} steps, {} live, {} dead  {}",
            run.steps,
            run.steps_live,
            run.steps_dead,
            took(run.started_at.as_ref(), run.ended_at.as_ref()),
        );
        let left = width.saturating_sub(run.id.chars().count() + 2 + word.chars().count());
        let counts: String = counts.chars().take(left).collect();
        let id: String = run.id.chars().take(width).collect();
        let mut lines = vec![format!(
            "{id}  {}{}",
            style.paint(word, color),
            counts.trim_end()
        )];
        let names = self
            .graph
            .nodes
            .iter()
            .map(|(node, _)| node.chars().count());
        let name_width = names.max().unwrap_or(0).min(width / 3);
        let room = height.saturating_sub(2).max(1);
        for (node, targets) in self.graph.nodes.iter().take(room) {
            lines.push(self.node(node, targets, name_width, color, width));
        }
        let hidden = self.graph.nodes.len().saturating_sub(room);
        if hidden > 0 {
            lines.push(Style::Grey.paint(&format!("  … {hidden} more nodes"), color));
        }
        lines
    }

    fn node(
        &self,
        node: &str,
        targets: &[String],
        name_width: usize,
        color: bool,
        width: usize,
    ) -> String {
        let steps: Vec<&Step> = self
            .steps
            .values()
            .filter(|step| step.node == node)
            .collect();
        let ended = self.execution.state() != ExecutionState::Running;
        let (glyph, style, text) = match steps.as_slice() {
            [] if ended => ("○", Style::Grey, "skipped".to_owned()),
            [] => ("○", Style::Plain, "waiting".to_owned()),
            [step] => {
                let (word, style) = step_state(step.state());
                (glyph(step.state()), style, one(step, word))
            }
            _ => {
                let state = loudest(&steps);
                let (_, style) = step_state(state);
                (glyph(state), style, counts(&steps))
            }
        };
        let text = printable(&text);
        let name: String = printable(node).chars().take(name_width.max(1)).collect();
        let arrow = if targets.is_empty() {
            String::new()
        } else {
            format!("→ {}", targets.join(", "))
        };
        // Colour codes have no width, so what is cut is cut before it is painted.
        let used = 2 + 2 + name_width + 2;
        let text: String = text.chars().take(width.saturating_sub(used)).collect();
        let left = width.saturating_sub(used + text.chars().count() + 2);
        let arrow: String = printable(&arrow).chars().take(left).collect();
        let line = format!(
            "  {} {}  {}  {}",
            style.paint(glyph, color),
            style.paint(&format!("{name:<name_width$}"), color),
            style.paint(&text, color),
            Style::Grey.paint(&arrow, color),
        );
        line.trim_end().to_owned()
    }
}

/// One step in a few words.
pub fn one(step: &Step, word: &str) -> String {
    let mut text = word.to_owned();
    if step.attempt > 1 {
        text.push_str(&format!(", attempt {}", step.attempt));
    }
    let took = took(step.started_at.as_ref(), step.ended_at.as_ref());
    let remark = step_remark(step);
    for part in [took, remark] {
        if !part.is_empty() {
            text.push_str(", ");
            text.push_str(&part);
        }
    }
    text
}

fn counts(steps: &[&Step]) -> String {
    let mut counts: Vec<(StepState, usize)> = Vec::new();
    for step in steps {
        match counts.iter_mut().find(|(state, _)| *state == step.state()) {
            Some((_, count)) => *count += 1,
            None => counts.push((step.state(), 1)),
        }
    }
    let parts: Vec<String> = counts
        .iter()
        .map(|(state, count)| format!("{count} {}", step_state(*state).0))
        .collect();
    parts.join(", ")
}

/// The state that a node with several steps is shown in: trouble first, then what is going on.
fn loudest(steps: &[&Step]) -> StepState {
    let order = [
        StepState::Dead,
        StepState::Failed,
        StepState::Running,
        StepState::RetryWait,
        StepState::Pending,
        StepState::Succeeded,
        StepState::Cancelled,
        StepState::Skipped,
    ];
    order
        .into_iter()
        .find(|state| steps.iter().any(|step| step.state() == *state))
        .unwrap_or_default()
}

fn glyph(state: StepState) -> &'static str {
    match state {
        StepState::Running | StepState::RetryWait => "◐",
        StepState::Succeeded => "●",
        StepState::Failed | StepState::Dead => "✗",
        StepState::Unspecified | StepState::Pending => "○",
        StepState::Skipped | StepState::Cancelled => "·",
    }
}

#[cfg(test)]
mod tests {
    use tidemill_sdk::api::StepError;

    use super::*;

    const DOCUMENT: &str = r#"{"graph": {
        "nodes": [{"id": "fetch"}, {"id": "push"}, {"id": "report"}],
        "edges": [{"source": "fetch", "target": "push"}, {"source": "push", "target": "report"}]}}"#;

    fn step(number: u32, node: &str, state: StepState) -> Step {
        Step {
            number,
            node: node.to_owned(),
            state: state as i32,
            attempt: 1,
            ..Step::default()
        }
    }

    fn picture(state: ExecutionState, steps: Vec<Step>) -> Picture {
        let mut picture = Picture::new(Graph::from_document(DOCUMENT));
        let execution = Execution {
            id: "exe_1".to_owned(),
            state: state as i32,
            steps: steps.len() as u32,
            ..Execution::default()
        };
        picture.take(Some(execution), steps);
        picture
    }

    #[test]
    fn shows_every_node_in_the_order_of_the_document() {
        let mut dead = step(1, "push", StepState::Dead);
        dead.attempt = 3;
        dead.error = Some(StepError {
            code: "HTTP_500".to_owned(),
            message: "oh\nno".to_owned(),
            ..StepError::default()
        });
        let picture = picture(
            ExecutionState::Failed,
            vec![step(0, "fetch", StepState::Succeeded), dead],
        );
        assert_eq!(
            picture.lines(false, 80, 24),
            [
                "exe_1  failed  2 steps, 0 live, 0 dead",
                "  ● fetch   succeeded  → push",
                "  ✗ push    dead, attempt 3, HTTP_500: oh\u{fffd}no  → report",
                "  ○ report  skipped",
            ]
        );
    }

    #[test]
    fn colours_are_those_of_the_console() {
        let lines = picture(
            ExecutionState::Running,
            vec![
                step(0, "fetch", StepState::Succeeded),
                step(1, "push", StepState::Running),
            ],
        )
        .lines(true, 80, 24);
        assert!(lines[0].contains("\x1b[33mrunning"), "{lines:?}");
        assert!(lines[1].contains("\x1b[32msucceeded"), "{lines:?}");
        assert!(lines[2].contains("\x1b[33mrunning"), "{lines:?}");
        assert!(
            lines[3].contains("waiting") && !lines[3].contains("\x1b["),
            "{lines:?}"
        );
    }

    #[test]
    fn many_steps_of_a_node_are_counted_and_trouble_shows() {
        let steps = vec![
            step(0, "fetch", StepState::Succeeded),
            step(1, "push", StepState::Succeeded),
            step(2, "push", StepState::Dead),
            step(3, "push", StepState::Succeeded),
        ];
        let lines = picture(ExecutionState::Failed, steps).lines(false, 80, 24);
        assert_eq!(lines[2], "  ✗ push    2 succeeded, 1 dead  → report");
    }

    #[test]
    fn never_wider_nor_higher_than_the_terminal() {
        let lines = picture(ExecutionState::Running, vec![]).lines(false, 20, 3);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[2], "  … 2 more nodes");
        assert!(
            lines.iter().all(|line| line.chars().count() <= 20),
            "{lines:?}"
        );
    }

    #[test]
    fn only_changes_are_told() {
        let mut picture = picture(
            ExecutionState::Running,
            vec![step(0, "fetch", StepState::Running)],
        );
        let again = picture.take(None, vec![step(0, "fetch", StepState::Running)]);
        assert_eq!(again, []);
        let done = picture.take(None, vec![step(0, "fetch", StepState::Succeeded)]);
        assert_eq!(done.len(), 1);
        let unknown = picture.take(None, vec![step(7, "other", StepState::Running)]);
        assert_eq!(unknown.len(), 1);
        assert_eq!(picture.lines(false, 80, 24).len(), 5);
    }
}
