//! Opens one group: store, state machine, openraft, and the tasks beside it.

use std::{sync::Arc, time::Duration};

use openraft::Config;
use tidemill_store::NodeStore;
use tidemill_types::{ErrorClass, PartitionId};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{Group, Inner, Leadership, barrier::Barriers, keeper::Keeper, proposal};
use crate::{
    ReplicaConfig, StartError,
    limits::{
        APPEND_ENTRIES_MAX, ENGINE_MESSAGES_MAX, SNAPSHOT_TIMEOUT, STATE_MACHINE_COMMANDS_MAX,
    },
    log::Log,
    machine::Machine,
    network::Network,
    platform,
    raft::Raft,
    space::SpaceWatch,
    tasks::Tasks,
};

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// openraft's settings; those left out are its defaults of the pinned version.
fn engine_config(config: &ReplicaConfig) -> Config {
    Config {
        cluster_name: config.cluster.clone(),
        heartbeat_interval: millis(config.heartbeat),
        election_timeout_min: millis(config.election_min),
        election_timeout_max: millis(config.election_max),
        install_snapshot_timeout: millis(SNAPSHOT_TIMEOUT),
        max_payload_entries: APPEND_ENTRIES_MAX,
        // A follower that lacks entries which the log still has gets entries, however many.
        replication_lag_threshold: config
            .snapshot
            .entries
            .saturating_add(config.snapshot.keep_entries)
            .saturating_mul(4),
        snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(config.snapshot.entries),
        max_in_snapshot_log_to_keep: config.snapshot.keep_entries,
        purge_batch_size: (config.snapshot.keep_entries / 10).max(1),
        api_channel_size: Some(ENGINE_MESSAGES_MAX),
        notification_channel_size: Some(ENGINE_MESSAGES_MAX),
        state_machine_channel_size: Some(STATE_MACHINE_COMMANDS_MAX),
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(platform::leader_restore()),
        // A member that was away tries again soon: appends wait for it, heartbeats do not.
        backoff: "20ms 50ms 100ms 200ms ..300ms".to_owned(),
        ..Config::default()
    }
}

impl Group {
    pub(crate) async fn open(
        id: PartitionId,
        config: &ReplicaConfig,
        store: &NodeStore,
        network: Network,
        space: Arc<SpaceWatch>,
        tasks: &Tasks,
    ) -> Result<Self, StartError> {
        let failed = |reason: String| StartError::Store { group: id, reason };
        let engine = engine_config(config)
            .validate()
            .map_err(|error| failed(error.to_string()))?;
        let damaged = |reason: String| StartError::Damaged { group: id, reason };
        let state = store.state(id).map_err(|error| match error.class() {
            // It stops with the whole store, or there is room again at the next start.
            ErrorClass::Unavailable => failed(error.to_string()),
            _ => damaged(error.to_string()),
        })?;
        let shared = Arc::clone(network.shared());
        let machine = Machine::open(
            id,
            state.clone(),
            Arc::clone(&shared),
            Arc::from(store.dir()),
        )
        .map_err(|error| damaged(error.to_string()))?;
        let log = store.log(id);
        // Whoever has never voted has promised nothing.
        let restarted = log
            .read_vote()
            .map_err(|error| failed(error.to_string()))?
            .is_some();
        let raft = Raft::build(
            config.node.0,
            Arc::new(engine),
            network,
            Log::new(log, Arc::clone(&shared)),
            machine,
        )
        .await
        .map_err(|error| failed(error.to_string()))?;
        shared.set_settled(!restarted);
        raft.runtime_config().elect(!restarted);
        raft.run();
        let (tell, leadership) = watch::channel(Leadership::default());
        tasks.spawn(
            Keeper {
                node: config.node.0,
                raft: raft.clone(),
                shared: Arc::clone(&shared),
                leadership: tell.clone(),
                heartbeat: config.heartbeat,
                lease: config.election_max,
                settles_at: Instant::now() + config.election_max,
            }
            .run(),
        );
        let (proposals, queue) = mpsc::channel(config.proposals_waiting_max);
        tasks.spawn(proposal::submit(raft.clone(), queue));
        Ok(Self {
            inner: Arc::new(Inner {
                id,
                raft,
                state,
                shared,
                leadership,
                tell,
                proposals,
                space,
                barriers: Barriers::default(),
            }),
        })
    }
}
