//! What is wrong with a flow document, and where.

use std::fmt;

use tidemill_types::limits::FLOW_PROBLEMS_MAX;

/// One thing that is wrong, or looks wrong, in a flow document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: a JSON pointer (RFC 6901), such as `/graph/nodes/2/id`. Where a text holds several documents,
    /// the first part is the document's position; an empty pointer is the whole text.
    pub pointer: String,
    /// What kind of problem: one of [`code`], fixed for ever.
    pub code: &'static str,
    /// What is wrong and what is allowed, for people.
    pub message: String,
    /// Whether the document is refused because of it.
    pub severity: Severity,
}

/// Whether a problem refuses the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The document is refused.
    Error,
    /// The document is taken as it is.
    Warning,
}

/// The kinds of problems.
pub mod code {
    /// The text is neither JSON nor YAML.
    pub const SYNTAX: &str = "syntax";
    /// A limit on size, length, depth or count is passed.
    pub const LIMIT: &str = "limit";
    /// A key that has to be there is not.
    pub const MISSING: &str = "missing";
    /// A value that has to hold something is empty.
    pub const EMPTY: &str = "empty";
    /// A key that this place does not have.
    pub const UNKNOWN_KEY: &str = "unknown_key";
    /// The same key twice in one object.
    pub const DUPLICATE_KEY: &str = "duplicate_key";
    /// A value of the wrong type.
    pub const WRONG_TYPE: &str = "wrong_type";
    /// A number or duration outside of its range.
    pub const OUT_OF_RANGE: &str = "out_of_range";
    /// A text that is not one of those allowed or not of the form asked for.
    pub const INVALID_VALUE: &str = "invalid_value";
    /// A key that the server sets has a value that a document may not have.
    pub const SERVER_MANAGED: &str = "server_managed";
    /// Two keys that exclude each other.
    pub const CONFLICT: &str = "conflict";
    /// Two nodes with one id.
    pub const DUPLICATE_NODE: &str = "duplicate_node";
    /// Two edges that are the same in all that matters (a warning).
    pub const DUPLICATE_EDGE: &str = "duplicate_edge";
    /// An edge to or from a node that is not there.
    pub const UNKNOWN_NODE: &str = "unknown_node";
    /// No node that an execution could start with.
    pub const NO_ROOT: &str = "no_root";
    /// More than one root without `multiRoot: true`.
    pub const SEVERAL_ROOTS: &str = "several_roots";
    /// A node that no root reaches.
    pub const UNREACHABLE_NODE: &str = "unreachable_node";
    /// A cycle that passes no node with `loop`.
    pub const CYCLE: &str = "cycle";
    /// `join: all` on a node in a cycle.
    pub const JOIN_IN_CYCLE: &str = "join_in_cycle";
    /// `loop` on a node in no cycle (a warning).
    pub const LOOP_WITHOUT_CYCLE: &str = "loop_without_cycle";
    /// A function that a built-in component does not have.
    pub const UNKNOWN_FUNCTION: &str = "unknown_function";
    /// A built-in component (a warning) or an option that this server does not run yet.
    pub const NOT_SERVED: &str = "not_served";
    /// An expression that does not parse.
    pub const EXPRESSION: &str = "expression";
    /// A schedule that is wrong or never fires.
    pub const SCHEDULE: &str = "schedule";
    /// There are more problems than are reported.
    pub const MORE: &str = "more";
}

impl Problem {
    /// A problem that refuses the document.
    pub fn error(
        pointer: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Problem {
            pointer: pointer.into(),
            code,
            message: message.into(),
            severity: Severity::Error,
        }
    }

    /// A problem that does not refuse the document.
    pub fn warning(
        pointer: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Problem {
            pointer: pointer.into(),
            code,
            message: message.into(),
            severity: Severity::Warning,
        }
    }

    /// Whether the document is refused because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    /// One line: `error /graph/nodes/2/id: missing (missing)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let pointer = if self.pointer.is_empty() {
            "/"
        } else {
            &self.pointer
        };
        write!(f, "{severity} {pointer}: {} ({})", self.message, self.code)
    }
}

/// `pointer` with one more part, escaped as RFC 6901 asks.
pub(super) fn child(pointer: &str, part: impl fmt::Display) -> String {
    let part = part.to_string();
    if part.contains(['~', '/']) {
        format!("{pointer}/{}", part.replace('~', "~0").replace('/', "~1"))
    } else {
        format!("{pointer}/{part}")
    }
}

/// No more problems than are reported, errors before warnings where some have to go.
pub(super) fn at_most(mut problems: Vec<Problem>) -> Vec<Problem> {
    if problems.len() > FLOW_PROBLEMS_MAX {
        problems.sort_by_key(|problem| problem.severity);
        problems.truncate(FLOW_PROBLEMS_MAX - 1);
        problems.push(Problem::error(
            "",
            code::MORE,
            "there are more problems than these",
        ));
    }
    problems
}
