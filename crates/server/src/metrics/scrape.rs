//! What is read when metrics are asked for: the counters of store and replica, the process.

use std::sync::Arc;

use tidemill_replica::ReplicaStats;
use tidemill_store::{Space, StoreStats};

use super::{Family, Gauge, Registry};
use crate::telemetry::lines_dropped;

/// Metrics that mirror what others count.
pub(crate) struct Sources {
    build: Arc<Family<Gauge>>,
    cpu: Arc<Family<Gauge>>,
    memory: Arc<Gauge>,
    lines_dropped: Arc<Gauge>,
    start: Arc<Gauge>,
    disk_free: Arc<Gauge>,
    disk_low: Arc<Gauge>,
    store: Vec<(Arc<Gauge>, ReadStore)>,
    term: Arc<Family<Gauge>>,
    leader: Arc<Family<Gauge>>,
    last_log: Arc<Family<Gauge>>,
    applied: Arc<Family<Gauge>>,
    snapshot: Arc<Family<Gauge>>,
    installed: Arc<Family<Gauge>>,
    fenced: Arc<Family<Gauge>>,
    fault: Arc<Family<Gauge>>,
    appends: Arc<Family<Gauge>>,
    heartbeats: Arc<Family<Gauge>>,
    failures: Arc<Family<Gauge>>,
}

type ReadStore = fn(&StoreStats) -> u64;
/// Name, help, and what is read.
type StoreReading = (&'static str, &'static str, ReadStore);

/// Gauges, though some only grow: they are set from the store's own counters.
const STORE: &[StoreReading] = &[
    (
        "tidemill_store_fsyncs",
        "Syncs of the log since the start.",
        |s| s.syncs,
    ),
    (
        "tidemill_store_fsync_micros",
        "Time spent in writes with a sync since the start, in microseconds.",
        |s| s.sync_micros,
    ),
    (
        "tidemill_store_fsync_micros_max",
        "The longest write with a sync since the start, in microseconds.",
        |s| s.sync_micros_max,
    ),
    (
        "tidemill_store_appended_entries",
        "Log entries appended since the start.",
        |s| s.appended_entries,
    ),
    (
        "tidemill_store_appended_bytes",
        "Bytes of log entries appended since the start.",
        |s| s.appended_bytes,
    ),
    (
        "tidemill_store_state_writes",
        "Batches written to state since the start.",
        |s| s.state_writes,
    ),
    (
        "tidemill_store_state_written_bytes",
        "Bytes of rows written to state since the start.",
        |s| s.state_written_bytes,
    ),
    (
        "tidemill_store_checkpoints",
        "Checkpoints made since the start.",
        |s| s.checkpoints,
    ),
    (
        "tidemill_store_log_file_bytes",
        "Bytes of the log's table files.",
        |s| s.log_file_bytes,
    ),
    (
        "tidemill_store_log_memory_bytes",
        "Bytes of the log not yet in table files.",
        |s| s.log_memory_bytes,
    ),
    (
        "tidemill_store_state_file_bytes",
        "Bytes of all state's table files.",
        |s| s.state_file_bytes,
    ),
    (
        "tidemill_store_state_memory_bytes",
        "Bytes of all state not yet flushed.",
        |s| s.state_memory_bytes,
    ),
    (
        "tidemill_store_block_cache_bytes",
        "Bytes in the cache of file blocks.",
        |s| s.block_cache_bytes,
    ),
];

impl Sources {
    pub(super) fn declare(r: &mut Registry) -> Self {
        const GROUP: &[&str] = &["partition"];
        const PEER: &[&str] = &["peer"];
        Self {
            build: r.gauges(
                "tidemill_build_info",
                "Always 1; the labels say what runs.",
                &["version"],
            ),
            cpu: r.gauges(
                "process_cpu_seconds",
                "CPU time used since the start, by mode.",
                &["mode"],
            ),
            memory: r.gauge("process_resident_memory_bytes", "Resident memory."),
            lines_dropped: r.gauge(
                "tidemill_log_lines_dropped",
                "Log lines that were not written since the start, because standard error was not read.",
            ),
            start: r.gauge(
                "process_start_time_seconds",
                "When the process started, since 1970.",
            ),
            disk_free: r.gauge(
                "tidemill_store_disk_free_bytes",
                "Free space for the data directory.",
            ),
            disk_low: r.gauge(
                "tidemill_store_disk_low_state",
                "1 when new work is refused because the disk is nearly full.",
            ),
            store: STORE
                .iter()
                .map(|(name, help, read)| (r.gauge(name, help), *read))
                .collect(),
            term: r.gauges("tidemill_raft_term_count", "Raft term of the group.", GROUP),
            leader: r.gauges(
                "tidemill_raft_leader_state",
                "1 where this node leads the group.",
                GROUP,
            ),
            last_log: r.gauges(
                "tidemill_raft_last_log_index",
                "Index of the last entry in the log.",
                GROUP,
            ),
            applied: r.gauges(
                "tidemill_raft_applied_index",
                "Index of the last entry applied.",
                GROUP,
            ),
            snapshot: r.gauges(
                "tidemill_raft_snapshot_index",
                "Index of the last entry in a durable snapshot.",
                GROUP,
            ),
            installed: r.gauges(
                "tidemill_raft_snapshots_installed",
                "Snapshots received from another node and installed since the start.",
                GROUP,
            ),
            fenced: r.gauges(
                "tidemill_raft_fenced_batches",
                "Batches that the fence dropped since the start.",
                GROUP,
            ),
            fault: r.gauges(
                "tidemill_raft_fault_state",
                "1 when the group has stopped on this node.",
                GROUP,
            ),
            appends: r.gauges(
                "tidemill_peer_appends_sent",
                "Append messages sent since the start.",
                PEER,
            ),
            heartbeats: r.gauges(
                "tidemill_peer_heartbeats_sent",
                "Heartbeat messages sent since the start.",
                PEER,
            ),
            failures: r.gauges(
                "tidemill_peer_failures",
                "Calls to the peer that failed since the start.",
                PEER,
            ),
        }
    }

    pub(crate) fn set_build(&self, version: &str, start_seconds: f64) {
        self.build.with(&[version]).set(1.0);
        self.start.set(start_seconds);
    }

    /// Takes up what the others counted.
    #[allow(clippy::cast_precision_loss)] // a metric beyond 2^53 may be off by one
    pub(crate) fn read(&self, store: &StoreStats, space: Option<Space>, replica: &ReplicaStats) {
        for (gauge, read) in &self.store {
            gauge.set(read(store) as f64);
        }
        if let Some(space) = space {
            self.disk_free.set(space.free as f64);
            self.disk_low.set(f64::from(u8::from(space.low)));
        }
        for group in &replica.groups {
            let id = group.id.to_string();
            let label = &[id.as_str()];
            self.term.with(label).set(group.term as f64);
            self.leader
                .with(label)
                .set(f64::from(u8::from(group.is_leader)));
            self.last_log.with(label).set(group.last_log as f64);
            self.applied.with(label).set(group.applied as f64);
            self.snapshot.with(label).set(group.snapshot as f64);
            self.installed
                .with(label)
                .set(group.snapshots_installed as f64);
            self.fenced.with(label).set(group.fenced as f64);
            self.fault
                .with(label)
                .set(f64::from(u8::from(group.fault.is_some())));
        }
        for peer in &replica.peers {
            let id = peer.id.to_string();
            let label = &[id.as_str()];
            self.appends.with(label).set(peer.appends_sent as f64);
            self.heartbeats.with(label).set(peer.heartbeats_sent as f64);
            self.failures.with(label).set(peer.failures as f64);
        }
        if let Some(process) = process() {
            self.cpu.with(&["user"]).set(process.user_seconds);
            self.cpu.with(&["system"]).set(process.system_seconds);
            self.memory.set(process.resident_bytes as f64);
        }
        self.lines_dropped.set(lines_dropped() as f64);
    }
}

struct Process {
    user_seconds: f64,
    system_seconds: f64,
    resident_bytes: u64,
}

/// From `/proc`; none where there is none. The tick is 100 per second and the page 4 KiB on every Linux
/// that we support (x86-64 and arm64 with their usual kernels), so no system call is needed for them.
fn process() -> Option<Process> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold spaces: count from behind it, where field 3 begins.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Process {
        user_seconds: field(14)? / TICKS_PER_SECOND,
        system_seconds: field(15)? / TICKS_PER_SECOND,
        resident_bytes: kib * 1024,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_process() {
        let process = process().expect("Linux has /proc");
        assert!(process.resident_bytes > 1024 * 1024);
    }
}
