//! What an operator can set, checked in one step.

use std::{net::SocketAddr, time::Duration};

use thiserror::Error;
use tidemill_types::NodeId;

use crate::limits::NAME_CHARS_MAX;

/// How a node takes part in its groups. All nodes of a cluster should have the same times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// This node; never 0, never reused for another machine's data.
    pub node: NodeId,
    /// The cluster's name: nodes of another cluster are refused.
    pub cluster: String,
    /// Where the other nodes reach this one. Port 0 takes a free one (see `Replica::peer_address`).
    pub peer_listen: SocketAddr,
    /// A leader is heard from at least this often.
    pub heartbeat: Duration,
    /// After this time without a leader a node may stand for election.
    pub election_min: Duration,
    /// At the latest after this time it does.
    pub election_max: Duration,
    /// Proposals that a group holds before openraft has taken them; more are refused.
    pub proposals_waiting_max: usize,
    /// When state is made durable so that the log can be cut.
    pub snapshot: SnapshotPolicy,
}

/// When a group makes its state durable, and how much log it keeps after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// After this many entries.
    pub entries: u64,
    /// After this many bytes of batches; of those before the last time, none are kept in the log.
    pub bytes: u64,
    /// Entries kept although a durable snapshot holds them, so that a node that was away for a
    /// moment is caught up by entries.
    pub keep_entries: u64,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self {
            entries: 50_000,
            bytes: 128 * 1024 * 1024,
            keep_entries: 10_000,
        }
    }
}

impl ReplicaConfig {
    /// With the defaults: heartbeat 75 ms, election 400 to 800 ms.
    #[must_use]
    pub fn new(node: NodeId, cluster: impl Into<String>, peer_listen: SocketAddr) -> Self {
        Self {
            node,
            cluster: cluster.into(),
            peer_listen,
            heartbeat: Duration::from_millis(75),
            election_min: Duration::from_millis(400),
            election_max: Duration::from_millis(800),
            proposals_waiting_max: 1_024,
            snapshot: SnapshotPolicy::default(),
        }
    }

    /// # Errors
    /// [`ConfigError`] naming the field that is wrong and what is allowed.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field, allowed| Err(ConfigError { field, allowed });
        if self.node.0 == 0 {
            return wrong("node", "1 or more");
        }
        if self.cluster.is_empty()
            || self.cluster.len() > NAME_CHARS_MAX
            || !self.cluster.bytes().all(|b| b.is_ascii_graphic())
        {
            return wrong(
                "cluster",
                "1 to 255 printable ASCII characters without spaces",
            );
        }
        if self.heartbeat < Duration::from_millis(10) || self.heartbeat > Duration::from_secs(10) {
            return wrong("heartbeat", "10 ms to 10 s");
        }
        if self.election_min < self.heartbeat * 3 {
            return wrong("election_min", "at least 3 times the heartbeat");
        }
        if self.election_max <= self.election_min || self.election_max > Duration::from_secs(60) {
            return wrong("election_max", "more than election_min, at most 60 s");
        }
        if self.proposals_waiting_max == 0 || self.proposals_waiting_max > 1_000_000 {
            return wrong("proposals_waiting_max", "1 to 1,000,000");
        }
        if self.snapshot.entries == 0 {
            return wrong("snapshot.entries", "1 or more");
        }
        if self.snapshot.bytes == 0 {
            return wrong("snapshot.bytes", "1 or more");
        }
        Ok(())
    }
}

/// A setting outside of what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("replica setting {field} is out of range: allowed is {allowed}")]
pub struct ConfigError {
    /// The setting.
    pub field: &'static str,
    /// What it may be.
    pub allowed: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ReplicaConfig {
        ReplicaConfig::new(NodeId(1), "c", SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    #[test]
    fn defaults_are_allowed() {
        assert_eq!(config().check(), Ok(()));
    }

    #[test]
    fn names_what_is_wrong() {
        type Change = fn(&mut ReplicaConfig);
        let cases: [(&str, Change); 8] = [
            ("node", |c| c.node = NodeId(0)),
            ("cluster", |c| c.cluster = String::new()),
            ("cluster", |c| c.cluster = "a b".into()),
            ("heartbeat", |c| c.heartbeat = Duration::ZERO),
            ("election_min", |c| c.election_min = c.heartbeat),
            ("election_max", |c| c.election_max = c.election_min),
            ("proposals_waiting_max", |c| c.proposals_waiting_max = 0),
            ("snapshot.entries", |c| c.snapshot.entries = 0),
        ];
        for (field, change) in cases {
            let mut config = config();
            change(&mut config);
            assert_eq!(config.check().expect_err(field).field, field);
        }
    }
}
