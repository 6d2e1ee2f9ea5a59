//! Flow documents: read, check, hash and compile them.
//!
//! Owns the way from a text to a [`Plan`]: [`parse`] gives documents, [`validate()`] says what is wrong with
//! one, [`canonical_json`] and [`content_hash`] name its content, [`compile()`] makes the plan that the
//! interpreter runs. Pure, like all of this crate: what depends on the state (whether a worker component or a
//! connection exists) is checked by whoever has the state.

mod builtin;
mod canonical;
mod compile;
mod graph;
mod plan;
mod problem;
mod read;
mod respond;
mod source;
mod validate;

use serde_json::Value;
use tidemill_types::flow::FlowDocument;
use tidemill_types::limits::FLOW_PROBLEMS_MAX;

pub use builtin::Builtin;
pub use canonical::{canonical_json, content_hash};
pub use compile::compile;
pub use plan::{
    EdgeIndex, Join, NodeIndex, On, Plan, PlanEdge, PlanNode, Reply, RetryPolicy, SignatureScheme,
    Wait, WebhookRateLimit, WebhookSignature, WebhookTrigger,
};
use problem::at_most;
pub use problem::{Problem, Severity, code};
pub use respond::{Respond, RespondError};
pub use validate::validate;

/// Reads the documents of a text: YAML or JSON; one document, an array of documents, or a YAML stream.
///
/// Fails if one of them cannot be read as it is. The problems then include what [`validate()`] finds in the
/// parts that could be read, of all documents, so that an author sees everything at once.
pub fn parse(text: &str) -> Result<Vec<FlowDocument>, Vec<Problem>> {
    let mut documents = Vec::new();
    let (values, mut problems) = source::read(text)?;
    for (pointer, value) in values {
        match read_value(&value, &pointer) {
            Ok(document) => documents.push(document),
            Err(more) => problems.extend(more),
        }
        if problems.len() > FLOW_PROBLEMS_MAX {
            break;
        }
    }
    if problems.is_empty() {
        Ok(documents)
    } else {
        Err(at_most(problems))
    }
}

/// Reads one document from a JSON value. Fails as [`parse`] does.
pub fn parse_value(value: &Value) -> Result<FlowDocument, Vec<Problem>> {
    source::check_size(value).map_err(|problem| vec![problem])?;
    read_value(value, "").map_err(at_most)
}

fn read_value(value: &Value, pointer: &str) -> Result<FlowDocument, Vec<Problem>> {
    let reading = read::read(value, pointer);
    if reading.problems.is_empty() {
        return Ok(reading.document);
    }
    let mut problems = reading.problems;
    if reading.is_whole {
        let mut more = validate(&reading.document);
        for problem in &mut more {
            problem.pointer.insert_str(0, pointer);
        }
        read::add_unless_known(&mut problems, more);
    }
    Err(problems)
}
