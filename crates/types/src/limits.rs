//! Every maximum that Tidemill keeps, each named once.
//!
//! Owns the numbers only. What refuses a value that is over a limit names the limit and its value in the
//! message, and has a test that reaches it. Units come last in the name; a limit without a unit is a count.

// Flow documents.

/// Most bytes in one text given to the flow parser, and in the canonical form of one document.
pub const FLOW_DOCUMENT_BYTES_MAX: usize = 1024 * 1024;
/// Most documents in one text (a YAML stream or an array).
pub const FLOW_DOCUMENTS_PER_TEXT_MAX: usize = 1_000;
/// Deepest nesting of arrays and objects in a document, free objects included.
pub const FLOW_DOCUMENT_DEPTH_MAX: usize = 64;
/// Most values (scalars, arrays and objects, each counted) in one text, YAML aliases expanded.
pub const FLOW_DOCUMENT_VALUES_MAX: usize = 500_000;
/// Most problems reported for one text; the last one then says that there are more.
pub const FLOW_PROBLEMS_MAX: usize = 1_000;
/// Most characters in a flow's or a node's name.
pub const FLOW_NAME_CHARS_MAX: usize = 256;
/// Most characters in a flow's or a node's description.
pub const FLOW_DESCRIPTION_CHARS_MAX: usize = 8_192;
/// Most labels on a flow.
pub const FLOW_LABELS_MAX: usize = 64;
/// Most characters in the key of a label.
pub const FLOW_LABEL_KEY_CHARS_MAX: usize = 64;
/// Most characters in the value of a label.
pub const FLOW_LABEL_VALUE_CHARS_MAX: usize = 256;
/// Most nodes in a flow.
pub const FLOW_NODES_MAX: usize = 1_000;
/// Most edges in a flow.
pub const FLOW_EDGES_MAX: usize = 5_000;
/// Most characters in the id of a node or an edge. (OIH: 30 for a node, 10 for an edge.)
pub const FLOW_NODE_ID_CHARS_MAX: usize = 64;
/// Most characters in a component's name or id, a function's name, a connection's id and a flow's type.
pub const FLOW_REFERENCE_CHARS_MAX: usize = 128;
/// Most bytes in one expression.
pub const FLOW_EXPRESSION_BYTES_MAX: usize = 64 * 1024;
/// Most attempts that a step may be given, the first one included.
pub const RETRY_ATTEMPTS_MAX: u32 = 1_000;
/// Longest delay between two attempts: seven days.
pub const RETRY_DELAY_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1_000;
/// Largest factor by which each delay is longer than the one before.
pub const RETRY_MULTIPLIER_MAX: u32 = 100;
/// Longest timeout of a step or an execution, longest wait and longest retention: 3,660 days.
pub const FLOW_DURATION_MS_MAX: u64 = 3_660 * 24 * 60 * 60 * 1_000;
/// Largest `concurrency` of a node.
pub const NODE_CONCURRENCY_MAX: u32 = 10_000;
/// Largest `loop.maxIterations` of a node: as many as an execution may have steps.
pub const NODE_ITERATIONS_MAX: u32 = 100_000;

// Schedules.

/// Most bytes in one cron expression.
pub const CRON_EXPRESSION_BYTES_MAX: usize = 512;
/// Shortest `every`: below this a schedule is a busy loop, and each firing is a row and an execution.
pub const SCHEDULE_EVERY_MS_MIN: u64 = 100;
/// Longest `every`: 3,660 days.
pub const SCHEDULE_EVERY_MS_MAX: u64 = 3_660 * 24 * 60 * 60 * 1_000;
/// Longest `jitter`: one day.
pub const SCHEDULE_JITTER_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Longest `catchUp.window`: 3,660 days.
pub const SCHEDULE_CATCH_UP_WINDOW_MS_MAX: u64 = 3_660 * 24 * 60 * 60 * 1_000;
/// Most occurrences in one preview.
pub const SCHEDULE_PREVIEW_MAX: usize = 10_000;
