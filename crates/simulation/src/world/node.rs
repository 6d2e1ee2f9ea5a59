//! A node: its disk, and the process that runs on it, if one does.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver as _;
use tidemill_core::{
    Catalog, Partition, Rows as _,
    catalog::CatalogConfig,
    command::{CatalogCommand, CatalogReply, PartitionCommand, PartitionEffect, PartitionReply},
    partition::PartitionConfig,
};
use tidemill_replica::SnapshotPolicy;
use tidemill_server::{
    actor::{self, ActorOptions, AskError, EffectSink, GroupHandle, Supervised},
    metrics::Metrics,
};
use tidemill_types::{NodeId, PartitionId, Timestamp};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{BEGIN_MS, Outbox, Said, group_log::Log, lock};
use crate::{
    LogEntry, NodeStore, Options, ReplicaConfig,
    group::Group,
    network::{Body, Links, Network, Server},
    raft::Peer,
    run,
    shared::Shared,
    space::SpaceWatch,
    store::{Crash, Disk},
    tasks::Tasks,
};

/// Turns that a process's tasks have between two messages that it finds when it goes on.
const TURNS_BETWEEN_MAX: u64 = 40;
/// Entries between two snapshots, so few that a node that was away needs one.
const SNAPSHOT_ENTRIES: u64 = 60;
const KEEP_ENTRIES: u64 = 12;
const SNAPSHOT_BYTES: u64 = 48 * 1024;

/// See the module.
pub(super) struct Node {
    pub id: u64,
    pub disk: Arc<Disk>,
    /// Counts the processes.
    pub process: u64,
    running: Option<Process>,
    is_paused: bool,
    /// It has ended for good.
    pub is_gone: bool,
    /// Something has ended the process.
    pub must_end: bool,
    /// Its wall clock's error.
    pub skew_ms: i64,
    clock: Arc<AtomicI64>,
    pub faults_are_over: Arc<AtomicBool>,
}

pub(super) struct Process {
    /// Dropped first: it ends all tasks.
    pub(super) runtime: Runtime,
    /// The process's clock when the world's was at `begun_ms`.
    begun: Instant,
    begun_ms: u64,
    /// Until when it has run.
    ran_ms: u64,
    store: Arc<NodeStore>,
    /// Until the groups are open. That may take its time: what is known to be committed is applied first,
    /// and waits when the disk is full.
    opening: Option<JoinHandle<Result<Opened, String>>>,
    opened: Option<Opened>,
    waiting: Vec<(u64, Body)>,
}

/// What serves once the groups are open.
pub(super) struct Opened {
    pub(super) server: Arc<Server>,
    handles: BTreeMap<PartitionId, GroupHandle<Partition>>,
    catalog: GroupHandle<Catalog>,
}

impl Node {
    pub fn new(id: u64) -> Self {
        Self {
            id,
            disk: Arc::new(Disk::new()),
            process: 0,
            running: None,
            is_paused: false,
            is_gone: false,
            must_end: false,
            skew_ms: 0,
            clock: Arc::default(),
            faults_are_over: Arc::default(),
        }
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub fn must_end(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|process| self.must_end || process.store.has_stopped())
    }

    /// Entries of a group's log as its process reads them, those that are not written yet among them: a
    /// leader may apply what others have made durable.
    pub fn log(&self, group: PartitionId, from: u64, to: u64) -> Result<Vec<LogEntry>, String> {
        let Some(process) = &self.running else {
            return Ok(Vec::new());
        };
        let log = process.store.log(group);
        let Some(first) = log.first_index() else {
            return Ok(Vec::new());
        };
        log.read(from.max(first), to, usize::MAX)
            .map_err(|error| error.to_string())
    }

    pub fn snapshots_installed(&self, group: PartitionId) -> u64 {
        self.serving().map_or(0, |(_, opened)| {
            opened.server.groups[&group].stats().snapshots_installed
        })
    }

    /// Why a group has stopped, unless the process is to end anyway.
    pub fn fault(&self) -> Option<String> {
        let process = self.running.as_ref().filter(|_| !self.must_end())?;
        let mut groups = process.opened.as_ref()?.server.groups.values();
        groups.find_map(|group| {
            let fault = group.fault()?;
            Some(format!("node {}, group {}: {fault}", self.id, group.id()))
        })
    }

    pub fn start(
        &mut self,
        now_ms: u64,
        options: &Options,
        links: Arc<Links>,
        outbox: Outbox,
        metrics: Arc<Metrics>,
    ) -> Result<(), String> {
        self.process += 1;
        self.must_end = false;
        self.is_paused = false;
        self.set_clock(now_ms);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(|error| error.to_string())?;
        let in_runtime = runtime.enter();
        let store = NodeStore::of(&self.disk).map_err(|error| error.to_string())?;
        let store = Arc::new(store);
        let starting = Starting {
            node: self.id,
            process: self.process,
            groups: options.groups,
            store: Arc::clone(&store),
            clock: Arc::clone(&self.clock),
            faults_are_over: Arc::clone(&self.faults_are_over),
            links,
            outbox,
            metrics,
        };
        let opening = tokio::spawn(starting.open());
        drop(in_runtime);
        let begun = runtime.block_on(async { Instant::now() });
        self.running = Some(Process {
            runtime,
            begun,
            begun_ms: now_ms,
            ran_ms: now_ms,
            store,
            opening: Some(opening),
            opened: None,
            waiting: Vec::new(),
        });
        Ok(())
    }

    /// Makes the groups, all with the same members.
    pub fn bootstrap(&mut self, nodes: u64) {
        let Some((process, opened)) = self.serving() else {
            return;
        };
        let members: BTreeMap<u64, Peer> = (1..=nodes).map(|id| (id, Peer::default())).collect();
        let _in_runtime = process.runtime.enter();
        for group in opened.server.groups.values() {
            let (raft, members) = (group.raft().clone(), members.clone());
            tokio::spawn(async move {
                if let Err(error) = raft.initialize(members).await {
                    run::tell(|| format!("not initialized: {error}"));
                }
            });
        }
    }

    fn set_clock(&self, now_ms: u64) {
        let now = BEGIN_MS + i64::try_from(now_ms).unwrap_or(i64::MAX) + self.skew_ms;
        self.clock.store(now, SeqCst);
    }

    /// Something has arrived; a paused process finds it later.
    pub fn receive(&mut self, from: u64, body: Body) {
        if let Some(process) = &mut self.running {
            process.waiting.push((from, body));
        }
    }

    /// Runs the process until the world's time.
    pub fn run(&mut self, now_ms: u64) {
        self.set_clock(now_ms);
        let Some(process) = self.running.as_mut().filter(|_| !self.is_paused) else {
            return;
        };
        let slept = now_ms.saturating_sub(process.ran_ms + 1);
        process.ran_ms = now_ms;
        let until = process.begun + Duration::from_millis(now_ms - process.begun_ms);
        let waiting = std::mem::take(&mut process.waiting);
        let server = process.opened.as_ref().map(|opened| &opened.server);
        let take = |(from, body)| {
            if let Some(server) = server {
                server.take(from, body);
            }
        };
        process.runtime.block_on(async {
            let mut waiting = waiting.into_iter();
            if slept > 0 {
                // A process that goes on reads some of what has come before it finds what is due, all at once.
                let before = run::between(0, waiting.len() as u64) as usize;
                waiting.by_ref().take(before).for_each(&take);
                tokio::time::advance(Duration::from_millis(slept)).await;
            }
            for message in waiting {
                take(message);
                if slept > 0 {
                    // It reads one connection after the other, and does what follows from it in between.
                    for _ in 0..run::between(0, TURNS_BETWEEN_MAX) {
                        tokio::task::yield_now().await;
                    }
                }
            }
            tokio::time::sleep_until(until).await;
        });
    }

    /// True once, when the groups are open.
    pub fn has_opened(&mut self) -> Result<bool, String> {
        let Some(process) = &mut self.running else {
            return Ok(false);
        };
        let is_finished = |opening: &JoinHandle<_>| opening.is_finished();
        if !process.opening.as_ref().is_some_and(is_finished) {
            return Ok(false);
        }
        let opening = process.opening.take().expect("looked at above");
        match process.runtime.block_on(opening) {
            Ok(Ok(opened)) => {
                process.opened = Some(opened);
                Ok(true)
            }
            // The disk has failed meanwhile, and the process ends of that; or it panicked, and that is told.
            Ok(Err(_)) if process.store.has_stopped() => Ok(false),
            Err(_) => Ok(false),
            Ok(Err(error)) => Err(error),
        }
    }

    pub(super) fn serving(&self) -> Option<(&Process, &Opened)> {
        let process = self.running.as_ref()?;
        Some((process, process.opened.as_ref()?))
    }

    /// True when all its groups are open.
    pub fn is_serving(&self) -> bool {
        self.serving().is_some()
    }

    pub fn pause(&mut self) -> bool {
        let pauses = self.is_running() && !self.is_paused;
        self.is_paused |= pauses;
        pauses
    }

    pub fn resume(&mut self) {
        self.is_paused = false;
    }

    /// Ends the process; the disk keeps what it keeps.
    pub fn end(&mut self, crash: Crash) {
        self.drop_process();
        self.disk.crash(crash);
    }

    pub fn drop_process(&mut self) {
        self.is_paused = false;
        if let Some(process) = self.running.take() {
            // Tasks first, handles to what they serve after them.
            drop(process.runtime);
        }
    }

    pub fn ask(
        &mut self,
        group: PartitionId,
        command: PartitionCommand,
        outbox: &Outbox,
        said: impl FnOnce(Result<PartitionReply, AskError>) -> Said + Send + 'static,
    ) {
        let Some((process, opened)) = self.serving() else {
            return;
        };
        let handle = opened.handles[&group].clone();
        self.ask_group(&process.runtime, handle, command, outbox, said);
    }

    pub fn ask_catalog(
        &mut self,
        command: CatalogCommand,
        outbox: &Outbox,
        said: impl FnOnce(Result<CatalogReply, AskError>) -> Said + Send + 'static,
    ) {
        let Some((process, opened)) = self.serving() else {
            return;
        };
        let handle = opened.catalog.clone();
        self.ask_group(&process.runtime, handle, command, outbox, said);
    }

    fn ask_group<D: Supervised>(
        &self,
        runtime: &Runtime,
        handle: GroupHandle<D>,
        command: D::Command,
        outbox: &Outbox,
        said: impl FnOnce(Result<D::Reply, AskError>) -> Said + Send + 'static,
    ) {
        let (outbox, group) = (Arc::clone(outbox), handle.partition());
        let (node, number) = (self.id, self.process);
        let _in_runtime = runtime.enter();
        tokio::spawn(async move {
            let answer = handle.ask(command).await;
            lock(&outbox).push((node, number, group, said(answer)));
        });
    }

    /// Reads a row as a client does; says nothing when that is not possible here.
    pub fn read(&mut self, group: PartitionId, key: Bytes, outbox: &Outbox, request: usize) {
        let Some((process, opened)) = self.serving() else {
            return;
        };
        let (handle, outbox) = (opened.handles[&group].clone(), Arc::clone(outbox));
        let (node, number) = (self.id, self.process);
        let _in_runtime = process.runtime.enter();
        tokio::spawn(async move {
            if let Ok(reader) = handle.read().await {
                let is_there = matches!(reader.get(&key), Ok(Some(_)));
                let said = Said::Found { request, is_there };
                lock(&outbox).push((node, number, group, said));
            }
        });
    }

    /// Hands a group's leadership over, if it is here.
    pub fn hand_over(&mut self, group: PartitionId, to: u64) {
        let Some((process, opened)) = self.serving() else {
            return;
        };
        let raft = opened.server.groups[&group].raft().clone();
        if raft.metrics().borrow_watched().current_leader != Some(self.id) {
            return;
        }
        run::count("leaderships handed over");
        let _in_runtime = process.runtime.enter();
        tokio::spawn(async move {
            // It may have lost it meanwhile.
            let _ = raft.trigger().transfer_leader(to).await;
        });
    }
}

/// What a process opens its groups with.
struct Starting {
    node: u64,
    process: u64,
    groups: u16,
    store: Arc<NodeStore>,
    clock: Arc<AtomicI64>,
    faults_are_over: Arc<AtomicBool>,
    links: Arc<Links>,
    outbox: Outbox,
    metrics: Arc<Metrics>,
}

impl Starting {
    async fn open(self) -> Result<Opened, String> {
        let space = Arc::new(SpaceWatch::default());
        let tasks = Tasks::default();
        tasks.spawn(Arc::clone(&space).run(Arc::clone(&self.store)));
        let mut config = ReplicaConfig::new(
            NodeId(self.node),
            "simulated",
            SocketAddr::from(([127, 0, 0, 1], 0)),
        );
        config.snapshot = SnapshotPolicy {
            entries: SNAPSHOT_ENTRIES,
            bytes: SNAPSHOT_BYTES,
            keep_entries: KEEP_ENTRIES,
        };
        let mut groups = BTreeMap::new();
        let mut handles = BTreeMap::new();
        let mut catalog = None;
        for id in (0..=self.groups).map(PartitionId) {
            let shared = Arc::new(Shared::new(config.snapshot.bytes));
            let network = Network::new(id, self.node, Arc::clone(&self.links), shared);
            let group = Group::open(
                id,
                &config,
                &self.store,
                network,
                Arc::clone(&space),
                &tasks,
            )
            .await
            .map_err(|error| error.to_string())?;
            if id.is_catalog() {
                catalog = Some(self.decider(&group, CatalogConfig::default()));
            } else {
                handles.insert(id, self.decider(&group, PartitionConfig::default()));
            }
            groups.insert(id, group);
        }
        let catalog = catalog.expect("it is the first group");
        let server = Arc::new(Server {
            node: self.node,
            links: self.links,
            groups,
            space,
            streams: std::sync::Mutex::default(),
        });
        Ok(Opened {
            server,
            handles,
            catalog,
        })
    }

    fn decider<D: Supervised>(&self, group: &Group, config: D::Config) -> GroupHandle<D>
    where
        Sink: EffectSink<D::Effect>,
    {
        let clock = Arc::clone(&self.clock);
        let options = ActorOptions::<D> {
            config,
            sink: Arc::new(Sink {
                node: self.node,
                process: self.process,
                group: group.id(),
                outbox: Arc::clone(&self.outbox),
            }),
            metrics: Arc::clone(&self.metrics),
            clock: Arc::new(move || Timestamp::from_millis(clock.load(SeqCst))),
            disk_low: Arc::new(AtomicBool::new(false)),
            stop: CancellationToken::new(),
        };
        let log = Arc::new(Log::new(group.clone(), Arc::clone(&self.faults_are_over)));
        actor::spawn(log, options, &tokio::runtime::Handle::current()).0
    }
}

/// Where a leader's effects go.
pub(super) struct Sink {
    node: u64,
    process: u64,
    group: PartitionId,
    outbox: Outbox,
}

impl Sink {
    pub(super) fn say(&self, said: Said) {
        lock(&self.outbox).push((self.node, self.process, self.group, said));
    }
}

impl EffectSink<PartitionEffect> for Sink {
    fn deliver(&self, effects: Vec<PartitionEffect>) {
        self.say(Said::Effects(effects));
    }

    fn epoch_ended(&self) {}

    fn epoch_began(&self) {
        self.say(Said::EpochBegan);
    }
}
