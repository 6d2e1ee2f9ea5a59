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
/// Most opening brackets and braces in one YAML text, those within strings and comments included.
pub const FLOW_YAML_BRACKETS_MAX: usize = 65_536;
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
/// Most occurrences that one backfill may run.
pub const BACKFILL_OCCURRENCES_MAX: usize = 10_000;
/// Most backfills of one flow under way at once.
pub const BACKFILLS_RUNNING_MAX: usize = 4;
/// Backfills of one flow that are remembered; older ones that have ended are forgotten.
pub const BACKFILLS_KEPT_MAX: usize = 64;
/// Requests to pause or resume one schedule that are remembered.
pub const SCHEDULE_REQUESTS_KEPT_MAX: usize = 16;
/// Most occurrences that are due and not decided yet when a schedule is paused, resumed or disarmed;
/// with more, that has to wait until the leader has caught up.
pub const SCHEDULE_BACKLOG_MAX: usize = 1_000;
/// A leader's wall clock that gains more than this on its steady clock has jumped.
pub const CLOCK_JUMP_MS_MAX: u64 = 10_000;
/// Most occurrences in one preview.
pub const SCHEDULE_PREVIEW_MAX: usize = 10_000;

// Requests.

/// Most characters in a request id.
pub const REQUEST_ID_CHARS_MAX: usize = 128;
/// Most characters in the reason of a cancellation.
pub const REASON_CHARS_MAX: usize = 1_024;
/// Largest page of a list.
pub const PAGE_SIZE_MAX: u32 = 1_000;
/// Page of a list when the caller names none.
pub const PAGE_SIZE_DEFAULT: u32 = 50;

// Executions.

/// Most bytes in one message by default.
pub const MESSAGE_BYTES_DEFAULT: usize = 4 * 1024 * 1024;
/// Most bytes in one message that a server can be configured to take.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most bytes of what stands beside a message's data and attachments: headers, names, metadata.
pub const MESSAGE_HEAD_BYTES_MAX: usize = 128 * 1024;
/// Most steps in one execution.
pub const EXECUTION_STEPS_MAX: u32 = 100_000;
/// Most messages that one step may give, and most steps that they may make together.
pub const STEP_FAN_OUT_MAX: usize = 10_000;
/// Most bytes in a node's state.
pub const NODE_STATE_BYTES_MAX: usize = 256 * 1024;
/// Most times in a row that a step may ask to be run again later. (OIH's limit.)
pub const REBOUNDS_MAX: u32 = 20;
/// Longest delay of a rebound: 30 days.
pub const REBOUND_DELAY_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;
/// Most leases of one step that may run out before it is taken for poison.
pub const LEASES_LOST_MAX: u32 = 10;
/// Most steps that a cancellation or a time-out ends in one batch; the rest follow.
pub const STEPS_ENDED_PER_TURN_MAX: usize = 1_000;
/// Most rows of a deleted flow removed in one batch; the rest follow.
pub const ROWS_FORGOTTEN_PER_TURN_MAX: usize = 1_000;
/// Most leases freed in one batch when a worker does not hold them any more; the rest follow.
pub const LEASES_FREED_PER_TURN_MAX: usize = 500;
/// Characters of a worker's instance id.
pub const WORKER_INSTANCE_CHARS_MAX: usize = 64;
/// Most tasks that a worker can say it still holds when it opens a session.
pub const WORKER_HOLDS_MAX: usize = 20_000;
/// Most bytes in a step error's message; longer ones are cut.
pub const ERROR_MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// Most bytes in a step error's code; longer ones are cut.
pub const ERROR_CODE_BYTES_MAX: usize = 128;
/// Most bytes in a step error's details; longer ones are left out.
pub const ERROR_DETAILS_BYTES_MAX: usize = 64 * 1024;

// Workers.

/// Shortest lease.
pub const LEASE_MS_MIN: u32 = 1_000;
/// Longest lease.
pub const LEASE_MS_MAX: u32 = 60 * 60 * 1_000;
/// Lease when the worker names none.
pub const LEASE_MS_DEFAULT: u32 = 30_000;
/// Most tasks that one worker may hold at once.
pub const WORKER_CREDITS_MAX: u32 = 10_000;
/// Most characters in a worker's name.
pub const WORKER_NAME_CHARS_MAX: usize = 128;
/// Most component functions that one worker may serve.
pub const WORKER_FUNCTIONS_MAX: usize = 1_000;
/// Most bytes in a progress text; longer ones are cut.
pub const PROGRESS_BYTES_MAX: usize = 1_024;

// Gateways.

/// Most bytes in a request that is not a worker's: one message of the largest size, and what is around it.
pub const GRPC_REQUEST_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 1024 * 1024;
/// Most starts in one message of a stream of starts.
pub const STARTS_PER_MESSAGE_MAX: usize = 1_000;
/// Starts of one stream that are under way at once; the next message is read when there are fewer.
pub const STARTS_UNDER_WAY_MAX: usize = 4_096;
/// Bytes of the starts of one stream that are under way; the next message is read when there are fewer.
pub const STARTS_UNDER_WAY_BYTES: usize = 8 * 1024 * 1024;
/// An answer on a stream of starts gets no further start's answer once it has so many bytes.
pub const STARTS_ANSWER_BYTES: usize = 1024 * 1024;
/// Most bytes in one message of a worker's stream: a completion may give several messages.
pub const WORK_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most bytes that a node takes as another node's answer.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// A list with payloads ends its page once it has so many bytes.
pub const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most rows that a filtered list looks at for one page.
pub const LISTED_ROWS_MAX: usize = 10_000;
/// Most bytes in each header of a W3C trace context.
pub const TRACE_BYTES_MAX: usize = 512;
/// Versions whose nodes' ids a gateway keeps in memory.
pub const NODE_NAMES_CACHED_MAX: usize = 256;
/// Most journal records in one message.
pub const JOURNAL_ENTRIES_PER_MESSAGE_MAX: usize = 500;
/// A message with journal records gets no further one once it has so many bytes.
pub const JOURNAL_BYTES_PER_MESSAGE: usize = 1024 * 1024;
/// How long `WaitExecution` waits when the caller does not say.
pub const EXECUTION_WAIT_MS_DEFAULT: u32 = 30_000;
/// Longest `WaitExecution`.
pub const EXECUTION_WAIT_MS_MAX: u32 = 300_000;
/// Most calls that wait for ends of executions of one partition, on its leader; as many may watch them, and wait for flows.
pub const WATCHERS_MAX: usize = 20_000;
/// Most steps whose progress a partition's leader keeps.
pub const PROGRESS_STEPS_MAX: usize = 10_000;
/// Most tasks of one `PollTasks`.
pub const POLL_TASKS_MAX: u32 = 1_000;
/// Longest wait of one `PollTasks`.
pub const POLL_WAIT_MS_MAX: u32 = 60_000;
/// Most completions and renewals in one message of a worker.
pub const WORK_ITEMS_PER_MESSAGE_MAX: usize = 20_000;
/// Most worker sessions of one gateway.
pub const WORKER_SESSIONS_MAX: u64 = 10_000;
/// Most tasks, answers and lost leases that wait for one gateway's stream at a partition's leader: all
/// that ten full workers may hold, twice. A gateway that does not take them is cut off.
pub const GATEWAY_QUEUE_MAX: usize = 200_000;
/// Most bytes of completions that wait in a gateway for one partition's leader.
pub const COMPLETION_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Results that wait for a worker: beyond that its stream is not read.
pub const WORKER_RESULTS_MAX: usize = 10_000;
/// Flows that are handed over at the same time: each waits for two commits, so a few hundred keep a
/// catalog's leader busy.
pub const HAND_OVERS_MAX: usize = 256;

// A partition's leader.

/// Most steps of built-in components run within one command; the rest follows in the next batch.
pub const BUILTIN_STEPS_PER_COMMAND_MAX: usize = 1_000;
/// Most executions kept in memory; all are in rows too.
pub const EXECUTIONS_HYDRATED_MAX: usize = 20_000;
/// Most bytes of messages that a partition's leader keeps in memory for steps that will run on them; all are in
/// rows too.
pub const MESSAGES_KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// With so many steps of a flow waiting to be run in a partition, none of it is started or redriven; when the
/// configuration does not say.
pub const FLOW_BACKLOG_DEFAULT: usize = 100_000;
/// The same for all flows together; from half of it on a flow may have no more than an equal share of that half.
pub const BACKLOG_DEFAULT: usize = 400_000;
/// Largest backlog that a server can be configured to allow; each step that waits takes about 250 bytes of memory.
pub const BACKLOG_MAX: usize = 10_000_000;
/// Most timers read into memory at once.
pub const TIMERS_LOADED_MAX: usize = 10_000;
/// Most plans kept compiled.
pub const PLANS_CACHED_MAX: usize = 10_000;
/// Most names of flows that a node knows without looking into rows.
pub const FLOW_NAMES_KNOWN_MAX: usize = 10_000;
/// Most nodes of flows of which a leader remembers that they have no state.
pub const NODES_WITHOUT_STATE_MAX: usize = 10_000;
/// How long the ledger rows of occurrences are kept when the configuration does not say: 400 days, so that
/// what happened a year ago can be seen.
pub const LEDGER_KEPT_MS_DEFAULT: u64 = 400 * 24 * 60 * 60 * 1_000;
/// Most ledger rows of one flow removed in one turn because of their age.
pub const LEDGER_ROWS_TRIMMED_PER_TURN_MAX: usize = 256;
/// Most due timers handled in one turn, so that a backlog does not hold up everything else.
pub const TIMERS_PER_TURN_MAX: usize = 1_000;

// The shell around a group's leader.

/// Most commands that wait for a group's leader: a fifth of a second of work, more is better shed.
pub const MAILBOX_COMMANDS_MAX: usize = 4_096;
/// Once new work has waited for a leader for so long (or for three commits, where those take longer), a flow with an
/// equal share or more of what waits is refused more.
pub const MAILBOX_WAIT_MS_MAX: u64 = 100;
/// Most bytes that large commands in one mailbox may hold together.
pub const MAILBOX_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most commands decided before the shell looks at its log and its clock again.
pub const COMMANDS_PER_TURN_MAX: usize = 256;
/// Most batches of a group that are proposed and not applied: more were measured to gain nothing.
pub const BATCHES_IN_FLIGHT_MAX: usize = 4;
/// A batch with so many rows is full.
pub const BATCH_ROWS_MAX: usize = 4_096;
/// A batch has room for so many rows however long commits take.
pub const BATCH_ROWS_MIN: usize = 128;
/// Log lines that wait to be written; more are dropped and counted.
pub const LOG_LINES_WAITING_MAX: usize = 8_192;
/// A batch with so many bytes is full.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// So many panics on one command, and it is refused from then on.
pub const PANICS_BEFORE_QUARANTINE: u32 = 2;
/// Most commands whose panics one leader remembers.
pub const PANICKED_COMMANDS_MAX: usize = 1_000;
/// Most bytes of a panic's message that are kept.
pub const PANIC_REASON_BYTES_MAX: usize = 1_024;

// A node's public ports.

/// Most connections to one port.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Most requests at once on one connection.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 1_000;
/// Most `StartExecution` calls that are inside a node at once, until they are decided; no connection has more than
/// are left.
pub const STARTS_INSIDE_MAX: usize = 2_048;
/// Most bytes in the headers of one request.
pub const REQUEST_HEADERS_BYTES_MAX: u32 = 64 * 1024;
/// Most members in one bootstrap list.
pub const BOOTSTRAP_MEMBERS_MAX: usize = 64;
/// Most partitions of a cluster.
pub const PARTITIONS_MAX: u16 = 1_024;
/// Most log entries of a group between two snapshots, and most that are kept after one.
pub const SNAPSHOT_ENTRIES_MAX: u64 = 10_000_000;
/// Most characters in a cluster's name.
pub const CLUSTER_NAME_CHARS_MAX: usize = 255;

// Webhooks.

/// Deepest nesting of arrays, objects, elements and form keys in a webhook's body or query.
pub const WEBHOOK_DEPTH_MAX: usize = 64;
/// Most fields in a form or a query.
pub const WEBHOOK_FORM_FIELDS_MAX: usize = 10_000;
/// Largest index in a form key that makes an array (`a[20]=x`); a larger one makes an object. (qs's limit.)
pub const WEBHOOK_FORM_INDEX_MAX: usize = 20;
/// Most attributes of one XML element.
pub const WEBHOOK_XML_ATTRIBUTES_MAX: usize = 1_000;
/// How far a signature's timestamp may be from now, when the flow does not say.
pub const WEBHOOK_TOLERANCE_MS_DEFAULT: u64 = 5 * 60 * 1_000;
/// Largest `tolerance` of a signature: one day.
pub const WEBHOOK_TOLERANCE_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Most characters in the name of a signature's header or of a secret's environment variable.
pub const WEBHOOK_NAME_CHARS_MAX: usize = 128;
/// Most signatures looked at in one request.
pub const WEBHOOK_SIGNATURES_MAX: usize = 16;
/// Most webhook requests that one node starts executions for at once.
pub const WEBHOOKS_PER_NODE_MAX: usize = 1_024;
/// Most of them for one flow, so that one does not take the places of all.
pub const WEBHOOKS_PER_FLOW_MAX: usize = 512;
/// Most flows of webhook requests that one node looks for at once.
pub const WEBHOOK_LOOKUPS_MAX: usize = 1_024;
/// Most bytes of webhook bodies that one node holds at once.
pub const WEBHOOK_BODIES_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Most connections to the HTTP port: many are idle, and each costs little.
pub const HTTP_CONNECTIONS_MAX: usize = 20_000;
/// How long a request of a flow with `reply: wait` is held when the flow does not say.
pub const WEBHOOK_REPLY_MS_DEFAULT: u64 = 30_000;
/// Shortest `trigger.webhook.timeout`.
pub const WEBHOOK_REPLY_MS_MIN: u64 = 100;
/// Longest `trigger.webhook.timeout`.
pub const WEBHOOK_REPLY_MS_MAX: u64 = 300_000;
/// Most webhook requests that one node holds for their answer at once.
pub const WEBHOOKS_HELD_MAX: usize = 4_096;
/// Most of them for one flow.
pub const WEBHOOKS_HELD_PER_FLOW_MAX: usize = 2_048;
/// Largest `requests` and `burst` of a rate limit.
pub const WEBHOOK_RATE_MAX: u32 = 1_000_000;
/// Longest `per` of a rate limit: one day.
pub const WEBHOOK_RATE_PER_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Most flows whose rate a node keeps; those that are full again are forgotten first.
pub const WEBHOOK_RATES_MAX: usize = 100_000;
/// Most headers that a `respond` may set.
pub const RESPOND_HEADERS_MAX: usize = 64;
/// Most characters in the value of one.
pub const RESPOND_HEADER_CHARS_MAX: usize = 8 * 1024;

// REST.

/// Most REST requests that one node answers at once.
pub const REST_REQUESTS_MAX: usize = 128;
/// Most bytes in the body of one.
pub const REST_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most flows that one list by REST finds: it sorts and counts all of them.
pub const REST_FLOWS_LISTED_MAX: usize = 100_000;
/// Most executions of a flow that REST lists and counts: the newest.
pub const REST_EXECUTIONS_LISTED_MAX: usize = 10_000;
/// Most flows that one request by REST starts or stops.
pub const REST_FLOWS_SWITCHED_MAX: usize = 1_000;
