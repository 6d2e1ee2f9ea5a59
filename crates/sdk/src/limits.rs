//! The client's own maxima and times, each named once. The server's are in `tidemill-types`.

use std::time::Duration;

/// How long one call may take in all, retries included, when the caller says nothing.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one attempt of a call may take before another node is asked.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to connect to one node.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a connection with calls in flight is probed; a stopped node is noticed after this and
/// [`KEEP_ALIVE_TIMEOUT`].
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long a probe may stay unanswered.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// First pause between two attempts; doubled up to [`BACKOFF_MAX`], each with full jitter.
pub const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// Longest pause between two attempts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// What a long poll is given beyond the time that the server was asked to wait.
pub const LONG_POLL_SLACK: Duration = Duration::from_secs(10);
/// How long `StartFlow` and `StopFlow` may take: the server's own deadline is 30 s.
pub const FLOW_SWITCH_TIMEOUT: Duration = Duration::from_secs(40);
/// Not more often than this are the cluster's members asked for again.
pub const MEMBERS_REFRESH_INTERVAL: Duration = Duration::from_secs(5);
/// Most nodes that a client keeps addresses of.
pub const NODES_MAX: usize = 64;
/// Largest answer that a client takes: a page of steps with their messages.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Largest start that shares a stream with others; a larger one is a call of its own, so that nobody waits
/// behind it.
pub const START_SHARED_BYTES_MAX: usize = 8 * 1024;
/// Most starts of one message; what is over waits for the next.
pub const STARTS_PER_MESSAGE: usize = 256;
/// Most starts without an answer on one node's stream; more are calls of their own. The server's own limit
/// is higher.
pub const STARTS_UNDER_WAY_MAX: usize = 1_000;
/// A stream of starts that nobody uses is ended after this time.
pub const START_STREAM_IDLE: Duration = Duration::from_secs(30);

/// Most tasks that a worker may hold at once.
pub const CONCURRENCY_MAX: u32 = 10_000;
/// Tasks that a worker holds at once when it says nothing.
pub const CONCURRENCY_DEFAULT: u32 = 16;
/// Lease that a worker asks for when it says nothing.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(30);
/// Shortest lease.
pub const LEASE_MIN: Duration = Duration::from_secs(1);
/// Longest lease.
pub const LEASE_MAX: Duration = Duration::from_secs(60 * 60);
/// Most characters in a worker's name.
pub const WORKER_NAME_CHARS_MAX: usize = 128;
/// Most bytes of a progress text; longer ones are cut.
pub const PROGRESS_BYTES_MAX: usize = 1024;
/// Most completions in one message.
pub const COMPLETIONS_PER_MESSAGE_MAX: usize = 256;
/// A message gets no further completion once it has this many bytes: far below the server's limit for
/// a message, so that only a single huge completion ever comes near it.
pub const COMPLETION_BYTES_PER_MESSAGE: usize = 512 * 1024;
/// Most bytes of an error's or a panic's text that is sent to the server.
pub const ERROR_TEXT_BYTES_MAX: usize = 4 * 1024;
/// Most renewals in one message: with their progress at most 256 KiB.
pub const RENEWALS_PER_MESSAGE_MAX: usize = 256;
/// A completion that got no answer on a live stream is sent again after this time.
pub const RESEND_AFTER: Duration = Duration::from_secs(15);
/// Pause before a completion that was answered `RETRY` is sent again.
pub const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Most tasks that a worker can say it holds when it opens a stream.
pub const HOLDS_MAX: usize = 20_000;
/// Completions without an answer at which a worker stops taking tasks, per place of its concurrency.
pub const UNANSWERED_PER_PLACE: usize = 4;
/// How often renewals, progress and resends are looked at.
pub const HOUSEKEEPING_INTERVAL: Duration = Duration::from_millis(100);
/// How long a stopping worker waits for its handlers when it says nothing.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a stopping worker waits for answers to its last completions.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stopping worker keeps its stream open after it said that it takes no more tasks: those
/// that were on their way arrive and run here, instead of waiting for the end of their leases.
pub const STOP_LINGER: Duration = Duration::from_millis(150);
/// Most flows whose leader a client remembers.
pub const LEADERS_KEPT_MAX: usize = 1_024;
