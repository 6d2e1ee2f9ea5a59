//! Every metric of the server: names, help, labels. No label has unbounded values.
//!
//! What the store and the replica count themselves is read when it is asked for (`metrics/scrape.rs`).

mod registry;
mod scrape;

use std::sync::Arc;

use tidemill_proto::code_name;
use tokio::time::Instant;
use tonic::Code;

pub use registry::{Counter, Family, Gauge, Histogram, Registry};
pub(crate) use scrape::Sources;

const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
const COUNTS: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 2_048.0, 4_096.0, 8_192.0,
];
const BYTES: &[f64] = &[
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
];
const SEQUENCE: &[f64] = &[
    1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 50.0, 100.0, 1_000.0, 10_000.0,
];

/// All metrics of a node.
#[allow(missing_docs)] // the help of each stands in `new`, and is what a user reads
pub struct Metrics {
    registry: Registry,
    pub batches_proposed: Arc<Family<Counter>>,
    pub batches_committed: Arc<Family<Counter>>,
    pub batch_commands: Arc<Family<Histogram>>,
    pub batch_rows: Arc<Family<Histogram>>,
    pub batch_bytes: Arc<Family<Histogram>>,
    pub commit_seconds: Arc<Family<Histogram>>,
    pub mailbox_commands: Arc<Family<Gauge>>,
    pub commands: Arc<Family<Counter>>,
    pub commands_rejected: Arc<Family<Counter>>,
    pub commands_shed: Arc<Family<Counter>>,
    pub epochs: Arc<Family<Counter>>,
    pub epoch_failures: Arc<Family<Counter>>,
    pub panics: Arc<Family<Counter>>,
    pub quarantined: Arc<Family<Counter>>,
    pub faults: Arc<Family<Counter>>,
    pub executions_started: Arc<Family<Counter>>,
    pub executions_ended: Arc<Family<Counter>>,
    pub commits_in_sequence: Arc<Histogram>,
    pub tasks_leased: Arc<Counter>,
    pub tasks_completed: Arc<Family<Counter>>,
    pub leases_expired: Arc<Counter>,
    pub leases_freed: Arc<Counter>,
    pub sessions_superseded: Arc<Counter>,
    pub worker_sessions: Arc<Gauge>,
    pub worker_sessions_opened: Arc<Counter>,
    pub worker_sessions_closed: Arc<Counter>,
    pub worker_tasks_delivered: Arc<Counter>,
    pub worker_tasks_in_hand: Arc<Gauge>,
    pub forwards: Arc<Family<Counter>>,
    pub requests: Arc<Family<Counter>>,
    pub request_seconds: Arc<Family<Histogram>>,
    pub webhooks: Arc<Family<Counter>>,
    pub webhook_seconds: Arc<Family<Histogram>>,
    pub webhooks_shed: Arc<Family<Counter>>,
    pub webhooks_held: Arc<Gauge>,
    pub(crate) sources: Sources,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A request on the gRPC port was answered, or one of many on a stream.
    pub fn requested(&self, rpc: &str, code: Code, begun: Instant) {
        self.requested_alike(rpc, code, begun, 1);
    }

    /// So many of them were answered alike, together.
    pub fn requested_alike(&self, rpc: &str, code: Code, begun: Instant, times: u64) {
        self.requests.with(&[rpc, code_name(code)]).add(times);
        let seconds = begun.elapsed().as_secs_f64();
        let family = self.request_seconds.with(&[rpc]);
        family.observe_many(seconds, times);
    }

    /// Declares all of them.
    #[must_use]
    pub fn new() -> Self {
        let mut r = Registry::default();
        Self {
            batches_proposed: r.counters(
                "tidemill_raft_batches_proposed_total",
                "Batches that this node's leaders proposed.",
                &["partition"],
            ),
            batches_committed: r.counters(
                "tidemill_raft_batches_committed_total",
                "Batches that this node's leaders proposed and that were applied.",
                &["partition"],
            ),
            batch_commands: r.histograms(
                "tidemill_raft_batch_size_commands",
                "Commands decided in one batch.",
                &["partition"],
                COUNTS,
            ),
            batch_rows: r.histograms(
                "tidemill_raft_batch_size_rows",
                "Rows and journal records in one batch.",
                &["partition"],
                COUNTS,
            ),
            batch_bytes: r.histograms(
                "tidemill_raft_batch_size_bytes",
                "Bytes of one batch.",
                &["partition"],
                BYTES,
            ),
            commit_seconds: r.histograms(
                "tidemill_raft_commit_duration_seconds",
                "Time from the proposal of a batch until it is applied on the leader.",
                &["partition"],
                SECONDS,
            ),
            mailbox_commands: r.gauges(
                "tidemill_actor_mailbox_commands",
                "Commands that wait for the partition's leader.",
                &["partition"],
            ),
            commands: r.counters(
                "tidemill_actor_commands_total",
                "Commands decided, by name.",
                &["command"],
            ),
            commands_rejected: r.counters(
                "tidemill_actor_commands_rejected_total",
                "Commands refused because of a fact of the state, by error code.",
                &["code"],
            ),
            commands_shed: r.counters(
                "tidemill_actor_commands_shed_total",
                "Commands refused before they were decided: overload (queue, wait, bytes; again: as one before it on its stream) or a low disk.",
                &["reason"],
            ),
            epochs: r.counters(
                "tidemill_actor_epochs_total",
                "Epochs that this node's leaders began.",
                &["partition"],
            ),
            epoch_failures: r.counters(
                "tidemill_actor_epoch_failures_total",
                "Epochs that ended by a failed or unknown proposal.",
                &["partition"],
            ),
            panics: r.counters(
                "tidemill_actor_panics_total",
                "Panics in a partition's logic: each is a bug; please report it with the log.",
                &["partition"],
            ),
            quarantined: r.counters(
                "tidemill_actor_quarantined_total",
                "Commands refused for good because the logic panicked on them repeatedly.",
                &["partition"],
            ),
            faults: r.counters(
                "tidemill_actor_faults_total",
                "Times that a partition was stopped on this node because its rows make no sense.",
                &["partition"],
            ),
            executions_started: r.counters(
                "tidemill_execution_started_total",
                "Executions started.",
                &["partition"],
            ),
            executions_ended: r.counters(
                "tidemill_execution_ended_total",
                "Executions ended, by state.",
                &["state"],
            ),
            commits_in_sequence: r.histogram(
                "tidemill_execution_commits_in_sequence",
                "Batches in which an execution changed, from its start to its end: each waited for the one before.",
                SEQUENCE,
            ),
            tasks_leased: r.counter("tidemill_task_leased_total", "Tasks given to workers."),
            tasks_completed: r.counters(
                "tidemill_task_completed_total",
                "Completions by workers, by what became of them.",
                &["status"],
            ),
            leases_expired: r.counter(
                "tidemill_task_leases_expired_total",
                "Leases that ran out before their task was completed.",
            ),
            leases_freed: r.counter(
                "tidemill_task_leases_freed_total",
                "Leases that were freed because their worker came back without the task: it was lost with a node.",
            ),
            sessions_superseded: r.counter(
                "tidemill_worker_sessions_superseded_total",
                "Sessions of workers that a partition's leader refused or ended for a newer one of the same worker.",
            ),
            worker_sessions: r.gauge(
                "tidemill_worker_sessions",
                "Sessions of workers at this node: streams, and calls of PollTasks under way.",
            ),
            worker_sessions_opened: r.counter(
                "tidemill_worker_sessions_opened_total",
                "Sessions that workers opened at this node.",
            ),
            worker_sessions_closed: r.counter(
                "tidemill_worker_sessions_closed_total",
                "Sessions of workers at this node that ended.",
            ),
            worker_tasks_delivered: r.counter(
                "tidemill_worker_tasks_delivered_total",
                "Tasks that this node gave to the workers connected to it, whichever node leads the partition.",
            ),
            worker_tasks_in_hand: r.gauge(
                "tidemill_worker_tasks_in_hand",
                "Tasks given out to the workers connected to this node and neither completed nor lost.",
            ),
            forwards: r.counters(
                "tidemill_forward_total",
                "Calls that this node sent on to a partition's leader on another node: answered, refused (for a \
                 reason that is the caller's), not_leader, or failed (no answer).",
                &["partition", "outcome"],
            ),
            requests: r.counters(
                "tidemill_request_total",
                "Requests on the gRPC port, by method and gRPC status (of streams: how they began).",
                &["rpc", "status"],
            ),
            request_seconds: r.histograms(
                "tidemill_request_duration_seconds",
                "Time until a request's answer began, by method.",
                &["rpc"],
                SECONDS,
            ),
            webhooks: r.counters(
                "tidemill_webhook_request_total",
                "Webhook requests answered, by method and HTTP status.",
                &["method", "status"],
            ),
            webhook_seconds: r.histograms(
                "tidemill_webhook_duration_seconds",
                "Time from a webhook request's headers to its answer, by kind: async, wait, refused.",
                &["kind"],
                SECONDS,
            ),
            webhooks_shed: r.counters(
                "tidemill_webhook_shed_total",
                "Webhook requests answered 429, by what there was too much of.",
                &["reason"],
            ),
            webhooks_held: r.gauge(
                "tidemill_webhook_held_requests",
                "Webhook requests that wait for the answer of their execution.",
            ),
            sources: Sources::declare(&mut r),
            registry: r,
        }
    }

    /// The text that Prometheus reads.
    #[must_use]
    pub fn render(&self) -> String {
        self.registry.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_pattern() {
        let metrics = Metrics::new();
        for line in metrics
            .render()
            .lines()
            .filter(|line| line.starts_with("# TYPE"))
        {
            let mut words = line.split(' ').skip(2);
            let (name, kind) = (words.next().expect("name"), words.next().expect("kind"));
            assert!(
                name.starts_with("tidemill_") || name.starts_with("process_"),
                "{name}"
            );
            assert_eq!(
                name.ends_with("_total"),
                kind == "counter",
                "{name} is a {kind}"
            );
        }
    }
}
