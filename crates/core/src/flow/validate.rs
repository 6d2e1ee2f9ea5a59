//! What a document means, and where that is wrong: every problem at once.
//!
//! Owns the rules of `flow-model.md` that a document can be judged by alone. Whether a worker component or a
//! connection exists is a fact of the state, and is checked where the state is.

mod builtins;
mod topology;
mod webhook;

use std::fmt::Display;
use std::ops::RangeInclusive;

use tidemill_expression::Expression;
use tidemill_types::flow::{Edge, FlowDocument, FlowDuration, Node, Retry};
use tidemill_types::limits::{
    FLOW_DESCRIPTION_CHARS_MAX, FLOW_DOCUMENT_BYTES_MAX, FLOW_DURATION_MS_MAX, FLOW_EDGES_MAX,
    FLOW_EXPRESSION_BYTES_MAX, FLOW_LABEL_KEY_CHARS_MAX, FLOW_LABEL_VALUE_CHARS_MAX,
    FLOW_LABELS_MAX, FLOW_NAME_CHARS_MAX, FLOW_NODE_ID_CHARS_MAX, FLOW_NODES_MAX,
    FLOW_REFERENCE_CHARS_MAX, NODE_CONCURRENCY_MAX, NODE_ITERATIONS_MAX, RETRY_ATTEMPTS_MAX,
    RETRY_DELAY_MS_MAX, RETRY_MULTIPLIER_MAX,
};

use super::canonical::canonical_json;
use super::compile::schedule_of;
use super::plan::RetryPolicy;
use super::problem::{Problem, at_most, child, code};

/// Every problem of the document. It can be compiled if none of them is an error.
pub fn validate(doc: &FlowDocument) -> Vec<Problem> {
    let mut checker = Checker::default();
    checker.check_document(doc);
    at_most(checker.problems)
}

/// Checks a document whose canonical form may be too long to be kept.
fn check_length(doc: &FlowDocument) -> Option<Problem> {
    let length = canonical_json(doc).len();
    (length > FLOW_DOCUMENT_BYTES_MAX).then(|| {
        let message = format!(
            "{length} bytes long as canonical JSON; at most {FLOW_DOCUMENT_BYTES_MAX} are allowed"
        );
        Problem::error("", code::LIMIT, message)
    })
}

#[derive(Default)]
struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    fn error(&mut self, pointer: &str, code: &'static str, message: impl Into<String>) {
        self.problems.push(Problem::error(pointer, code, message));
    }

    fn warning(&mut self, pointer: &str, code: &'static str, message: impl Into<String>) {
        self.problems.push(Problem::warning(pointer, code, message));
    }

    fn check_document(&mut self, doc: &FlowDocument) {
        self.problems.extend(check_length(doc));
        self.check_optional("/name", doc.name.as_deref(), FLOW_NAME_CHARS_MAX);
        self.check_description("/description", doc.description.as_deref());
        self.check_optional("/type", doc.flow_type.as_deref(), FLOW_REFERENCE_CHARS_MAX);
        self.check_labels(doc);
        self.check_trigger(doc);
        self.check_duration("/timeout", doc.timeout);
        self.check_duration("/retention", doc.retention);
        let (nodes, edges) = (&doc.graph.nodes, &doc.graph.edges);
        if nodes.is_empty() {
            self.error(
                "/graph/nodes",
                code::EMPTY,
                "a flow needs at least one node",
            );
        }
        self.check_count("/graph/nodes", nodes.len(), FLOW_NODES_MAX);
        self.check_count("/graph/edges", edges.len(), FLOW_EDGES_MAX);
        if nodes.len() > FLOW_NODES_MAX || edges.len() > FLOW_EDGES_MAX {
            return;
        }
        for (position, node) in nodes.iter().enumerate() {
            self.check_node(&child("/graph/nodes", position), node);
        }
        for (position, edge) in edges.iter().enumerate() {
            self.check_edge(&child("/graph/edges", position), edge);
        }
        self.problems.extend(topology::check(doc));
    }

    fn check_labels(&mut self, doc: &FlowDocument) {
        self.check_count("/labels", doc.labels.len(), FLOW_LABELS_MAX);
        for (key, value) in &doc.labels {
            let pointer = child("/labels", key);
            self.check_text(&pointer, key, FLOW_LABEL_KEY_CHARS_MAX);
            self.check_chars(&pointer, value, FLOW_LABEL_VALUE_CHARS_MAX);
        }
    }

    fn check_trigger(&mut self, doc: &FlowDocument) {
        let has_schedule = doc.trigger.schedule.is_some();
        if has_schedule && doc.cron.is_some() {
            let message = "`cron` and `trigger.schedule` are two schedules: keep one of them";
            self.error("/cron", code::CONFLICT, message);
        }
        if doc.trigger.webhook.is_some() && (has_schedule || doc.cron.is_some()) {
            let message = "a flow with a schedule takes no webhook requests: keep one of them";
            self.error("/trigger/webhook", code::CONFLICT, message);
        }
        if let Some(webhook) = &doc.trigger.webhook {
            self.check_webhook("/trigger/webhook", webhook);
        }
        if let Err(problems) = schedule_of(doc) {
            self.problems.extend(problems);
        }
    }

    fn check_node(&mut self, pointer: &str, node: &Node) {
        self.check_text(&child(pointer, "id"), &node.id, FLOW_NODE_ID_CHARS_MAX);
        let component_pointer = child(pointer, "componentId");
        self.check_text(
            &component_pointer,
            &node.component_id,
            FLOW_REFERENCE_CHARS_MAX,
        );
        self.check_text(
            &child(pointer, "function"),
            &node.function,
            FLOW_REFERENCE_CHARS_MAX,
        );
        self.check_optional(
            &child(pointer, "name"),
            node.name.as_deref(),
            FLOW_NAME_CHARS_MAX,
        );
        self.check_description(&child(pointer, "description"), node.description.as_deref());
        let credentials = node.credentials_id.as_deref();
        self.check_optional(
            &child(pointer, "credentials_id"),
            credentials,
            FLOW_REFERENCE_CHARS_MAX,
        );
        if let Some(retry) = &node.retry {
            self.check_retry(&child(pointer, "retry"), retry);
        }
        self.check_duration(&child(pointer, "timeout"), node.timeout);
        if let Some(concurrency) = node.concurrency {
            self.check_range(
                &child(pointer, "concurrency"),
                concurrency,
                1..=NODE_CONCURRENCY_MAX,
            );
        }
        if let Some(limit) = &node.loop_limit {
            let pointer = child(&child(pointer, "loop"), "maxIterations");
            self.check_range(&pointer, limit.max_iterations, 1..=NODE_ITERATIONS_MAX);
        }
        self.check_builtin(pointer, node);
    }

    fn check_edge(&mut self, pointer: &str, edge: &Edge) {
        // OIH lets an id be empty.
        if let Some(id) = edge.id.as_deref() {
            self.check_chars(&child(pointer, "id"), id, FLOW_NODE_ID_CHARS_MAX);
        }
        if let Some(condition) = edge.config.condition.as_deref() {
            self.check_expression(&child(&child(pointer, "config"), "condition"), condition);
        }
    }

    fn check_retry(&mut self, pointer: &str, retry: &Retry) {
        if let Some(attempts) = retry.max_attempts {
            self.check_range(
                &child(pointer, "maxAttempts"),
                attempts,
                1..=RETRY_ATTEMPTS_MAX,
            );
        }
        let longest = FlowDuration::from_ms(RETRY_DELAY_MS_MAX);
        for (key, delay) in [
            ("initialDelay", retry.initial_delay),
            ("maxDelay", retry.max_delay),
        ] {
            if let Some(delay) = delay {
                self.check_range(
                    &child(pointer, key),
                    delay,
                    FlowDuration::from_ms(1)..=longest,
                );
            }
        }
        let initial = retry
            .initial_delay
            .map_or(RetryPolicy::DEFAULT.initial_delay_ms, |delay| delay.ms);
        if let Some(max) = retry.max_delay
            && max.ms < initial
        {
            let initial = FlowDuration::from_ms(initial);
            let message = format!("{max} is shorter than the initial delay, {initial}");
            self.error(&child(pointer, "maxDelay"), code::OUT_OF_RANGE, message);
        }
        if let Some(multiplier) = retry.multiplier {
            let allowed = 1.0..=f64::from(RETRY_MULTIPLIER_MAX);
            self.check_range(&child(pointer, "multiplier"), multiplier, allowed);
        }
        if let Some(jitter) = retry.jitter {
            self.check_range(&child(pointer, "jitter"), jitter, 0.0..=1.0);
        }
    }

    fn check_expression(&mut self, pointer: &str, text: &str) {
        if text.trim().is_empty() {
            self.error(pointer, code::EMPTY, "an expression may not be empty");
        } else if text.len() > FLOW_EXPRESSION_BYTES_MAX {
            let message = format!(
                "{} bytes long; at most {FLOW_EXPRESSION_BYTES_MAX} are allowed in an expression",
                text.len()
            );
            self.error(pointer, code::LIMIT, message);
        } else if let Err(error) = Expression::parse(text) {
            self.error(pointer, code::EXPRESSION, error.to_string());
        }
    }

    /// A text that must hold something, and nothing that cannot be seen.
    fn check_text(&mut self, pointer: &str, text: &str, chars_max: usize) {
        if text.trim().is_empty() {
            self.error(pointer, code::EMPTY, "may not be empty");
        } else if text.chars().any(char::is_control) {
            self.error(
                pointer,
                code::INVALID_VALUE,
                "may not have control characters",
            );
        } else {
            self.check_chars(pointer, text, chars_max);
        }
    }

    /// OIH takes an empty optional text for none, and so do we.
    fn check_optional(&mut self, pointer: &str, text: Option<&str>, chars_max: usize) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.check_text(pointer, text, chars_max);
        }
    }

    fn check_description(&mut self, pointer: &str, text: Option<&str>) {
        self.check_chars(
            pointer,
            text.unwrap_or_default(),
            FLOW_DESCRIPTION_CHARS_MAX,
        );
    }

    fn check_chars(&mut self, pointer: &str, text: &str, chars_max: usize) {
        let chars = text.chars().count();
        if chars > chars_max {
            let message = format!("{chars} characters long; at most {chars_max} are allowed");
            self.error(pointer, code::LIMIT, message);
        }
    }

    fn check_count(&mut self, pointer: &str, count: usize, max: usize) {
        if count > max {
            let message = format!("{count} of them; at most {max} are allowed");
            self.error(pointer, code::LIMIT, message);
        }
    }

    fn check_duration(&mut self, pointer: &str, duration: Option<FlowDuration>) {
        if let Some(duration) = duration {
            let longest = FlowDuration::from_ms(FLOW_DURATION_MS_MAX);
            self.check_range(pointer, duration, FlowDuration::from_ms(1)..=longest);
        }
    }

    fn check_range<T: PartialOrd + Display>(
        &mut self,
        pointer: &str,
        value: T,
        allowed: RangeInclusive<T>,
    ) {
        if !allowed.contains(&value) {
            let (least, most) = allowed.into_inner();
            let message = format!("{value} is out of range: {least} to {most} is allowed");
            self.error(pointer, code::OUT_OF_RANGE, message);
        }
    }
}
