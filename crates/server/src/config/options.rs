//! The registry of options: every key, where else it can be set, its default, what it means.

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// Its key in the file, with its section.
    pub key: &'static str,
    /// The environment variable that sets it.
    pub env: &'static str,
    /// Its default, as it would be written; empty when there is none.
    pub default: &'static str,
    /// What it means.
    pub help: &'static str,
}

const fn option(
    key: &'static str,
    env: &'static str,
    default: &'static str,
    help: &'static str,
) -> OptionSpec {
    OptionSpec {
        key,
        env,
        default,
        help,
    }
}

/// Every option that is one value. `cluster.bootstrap` is a list and stands in the file only.
pub const OPTIONS: &[OptionSpec] = &[
    option(
        "cluster_name",
        "TIDEMILL_CLUSTER_NAME",
        "",
        "Names the cluster; nodes and data of another one are refused.",
    ),
    option(
        "node_id",
        "TIDEMILL_NODE_ID",
        "",
        "This node, unique in its cluster for ever: 1 or more.",
    ),
    option(
        "data_dir",
        "TIDEMILL_DATA_DIR",
        "./tidemill-data",
        "Everything that this node stores.",
    ),
    option(
        "partitions",
        "TIDEMILL_PARTITIONS",
        "2",
        "Raft groups besides the catalog; fixed when the cluster is bootstrapped.",
    ),
    option(
        "insecure_no_auth",
        "TIDEMILL_INSECURE_NO_AUTH",
        "false",
        "Allows ports beyond loopback although nothing is encrypted or authenticated yet.",
    ),
    option(
        "listen.grpc",
        "TIDEMILL_GRPC",
        "127.0.0.1:7450",
        "Where clients and workers connect.",
    ),
    option(
        "listen.http",
        "TIDEMILL_HTTP",
        "127.0.0.1:7480",
        "Where webhooks, REST, /live, /ready and /metrics are.",
    ),
    option(
        "listen.peer",
        "TIDEMILL_PEER",
        "127.0.0.1:7470",
        "Where the other nodes connect.",
    ),
    option(
        "cluster.join",
        "TIDEMILL_JOIN",
        "",
        "Peer address of any member, on a node that is added later.",
    ),
    option(
        "raft.heartbeat",
        "TIDEMILL_RAFT_HEARTBEAT",
        "75ms",
        "A leader is heard from at least this often.",
    ),
    option(
        "raft.election_min",
        "TIDEMILL_RAFT_ELECTION_MIN",
        "400ms",
        "A follower that hears nothing for a random time from this...",
    ),
    option(
        "raft.election_max",
        "TIDEMILL_RAFT_ELECTION_MAX",
        "800ms",
        "... to this stands for election.",
    ),
    option(
        "raft.snapshot_entries",
        "TIDEMILL_RAFT_SNAPSHOT_ENTRIES",
        "50000",
        "After so many log entries of a group its state is made durable and the log is cut: 1 to 10,000,000.",
    ),
    option(
        "raft.snapshot_keep",
        "TIDEMILL_RAFT_SNAPSHOT_KEEP",
        "10000",
        "So many entries stay in the log, for nodes that were away for a moment; others get a snapshot.",
    ),
    option(
        "storage.reserve",
        "TIDEMILL_STORAGE_RESERVE",
        "256MiB",
        "Below this free space new work is refused.",
    ),
    option(
        "storage.block_cache",
        "TIDEMILL_STORAGE_BLOCK_CACHE",
        "64MiB",
        "Cache of file blocks, for all groups.",
    ),
    option(
        "storage.state_memory",
        "TIDEMILL_STORAGE_STATE_MEMORY",
        "64MiB",
        "What all state keeps in memory before it is flushed.",
    ),
    option(
        "limits.message",
        "TIDEMILL_LIMITS_MESSAGE",
        "4MiB",
        "Most bytes in one message; at most 16MiB. The same on all nodes.",
    ),
    option(
        "limits.retention",
        "TIDEMILL_LIMITS_RETENTION",
        "7d",
        "How long a finished execution is kept when its flow does not say.",
    ),
    option(
        "limits.ledger_retention",
        "TIDEMILL_LIMITS_LEDGER_RETENTION",
        "400d",
        "How long it is kept what became of a schedule's occurrences. The journal keeps it for ever.",
    ),
    option(
        "limits.flow_backlog",
        "TIDEMILL_LIMITS_FLOW_BACKLOG",
        "100000",
        "With so many steps of one flow waiting to be run in a partition, more starts of it are refused as overloaded.",
    ),
    option(
        "limits.backlog",
        "TIDEMILL_LIMITS_BACKLOG",
        "400000",
        "The same for all flows of a partition; from half of it on each flow gets an equal share of that half.",
    ),
    option(
        "webhook.tenant_rate",
        "TIDEMILL_WEBHOOK_TENANT_RATE",
        "none",
        "Most webhook requests that this node takes, of all flows: none, or such as \"500/s\", \"100/m\".",
    ),
    option(
        "webhook.flow_rate",
        "TIDEMILL_WEBHOOK_FLOW_RATE",
        "none",
        "The same for each flow that has no rateLimit of its own.",
    ),
    option(
        "drain.deadline",
        "TIDEMILL_DRAIN_DEADLINE",
        "30s",
        "How long a node may take to hand over and stop after SIGTERM.",
    ),
    option(
        "log.level",
        "TIDEMILL_LOG_LEVEL",
        "info",
        "error, warn, info, debug, trace, or a filter such as \"info,tidemill_replica=debug\".",
    ),
    option(
        "log.format",
        "TIDEMILL_LOG_FORMAT",
        "text",
        "text for people, json for collectors.",
    ),
    option(
        "telemetry.otlp_endpoint",
        "TIDEMILL_OTLP_ENDPOINT",
        "",
        "Where OTLP traces go by gRPC; off when absent.",
    ),
];

/// Keys of the file that hold other than one value.
pub(super) const LISTS: &[&str] = &["cluster.bootstrap", "webhook.secrets"];
/// Keys of each member in `cluster.bootstrap`.
pub(super) const MEMBER_KEYS: &[&str] = &["id", "peer", "grpc", "http"];

/// The option with this key.
#[must_use]
pub fn find(key: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|option| option.key == key)
}

/// All keys that a file may have.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    OPTIONS
        .iter()
        .map(|option| option.key)
        .chain(LISTS.iter().copied())
}

/// The known key that is most like an unknown one, if any is like it at all.
pub(super) fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|key| {
            // A key in the wrong section is as near as its own name is.
            let name = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
            let distance = distance(unknown, key).min(distance(&name(unknown), &name(key)) + 1);
            (distance, key)
        })
        .min()
        .filter(|(distance, key)| *distance <= 1 + key.len() / 3)
        .map(|(_, key)| key)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
