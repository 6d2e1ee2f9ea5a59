//! The fault campaign: real servers through every fault that this machine can make, while clients and workers
//! write down what they see, and a checker that knows nothing of the code decides whether every promise was kept.
//!
//! Owns the nodes' hosts, disks, clocks and links, all of its own making, and takes all of them away again. The
//! plan of faults comes from a seed alone; when processes get to run does not, so that a seed is the same storm
//! and not the same crossing.

mod disk;
mod faults;
mod fleet;
mod load;
mod network;
mod plan;
pub mod settle;
pub mod tools;
mod workers;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tidemill_checker::{Recorder, Verdict, history::Event};
use tidemill_sdk::{Client, api::GetFlowRequest};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::sleep,
};

use self::{
    disk::Disk,
    faults::Faults,
    fleet::{Fleet, Machine},
    load::Shared,
    network::Network,
    tools::Sync,
};

pub use self::plan::{Fault, Planned, plan};

/// Debug assertions of openraft's that fire in sound runs, by their places, with what is known of them. Release
/// builds have none of them and do what is right there. Anything else that panics is a problem.
const KNOWN_ASSERTIONS: [(&str, &str); 3] = [
    (
        "replication/stream_state.rs:228",
        "openraft's debug assertion in a deposed leader's stream, whose log was cut under it meanwhile: in a release \
         build it sends a heartbeat of its old term, which is refused",
    ),
    (
        "io_progress.rs:126",
        "openraft's debug assertion while a snapshot is installed: cause not known; the log is sound",
    ),
    (
        "log_handler/mod.rs:80",
        "openraft's debug assertion when its own policy asks for less to be purged than was asked for by size: a release \
         build purges less",
    ),
];
/// What a campaign's folder begins with; the process id follows.
const FOLDER: &str = "tidemill-campaign-";
/// Flows that are due every second.
const SCHEDULES: usize = 20;
const CHAIN: &str = "name: chain\ngraph:\n  nodes:\n    - {id: a, componentId: torture, function: run, retry: {maxAttempts: 6, initialDelay: 100ms, maxDelay: 500ms}}\n    - {id: b, componentId: torture, function: run, retry: {maxAttempts: 6, initialDelay: 100ms, maxDelay: 500ms}}\n    - {id: c, componentId: torture, function: run, retry: {maxAttempts: 6, initialDelay: 100ms, maxDelay: 500ms}}\n  edges: [{source: a, target: b}, {source: b, target: c}]\n";
const HOOK: &str = "name: hook\ngraph:\n  nodes:\n    - {id: a, componentId: torture, function: run, retry: {maxAttempts: 6, initialDelay: 100ms, maxDelay: 500ms}}\n    - {id: l, componentId: log, function: write}\n  edges: [{source: a, target: l}]\n";

/// What is run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Of the plan, and of what workers and clients do.
    pub seed: u64,
    /// 3 or 5.
    pub nodes: u64,
    /// How long faults strike.
    pub length: Duration,
    /// Every node's fsync does nothing and says that it has: a promise *must* be broken (after a power cut of all
    /// nodes, say). Shows that the campaign would find a server that acknowledges before it syncs.
    pub lying_disks: bool,
}

/// How it went.
#[derive(Debug)]
pub struct Report {
    /// What was run.
    pub campaign: Campaign,
    /// Of the checker.
    pub verdict: Verdict,
    /// What else went wrong, such as a node that ended by itself.
    pub problems: Vec<String>,
    /// What this machine could not do.
    pub missing: Vec<String>,
    /// Worth knowing, and nothing wrong.
    pub notes: Vec<String>,
    /// History, journals and logs, when something went wrong.
    pub kept: Option<PathBuf>,
}

impl Report {
    /// True when every promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.problems.is_empty()
    }

    /// The command that runs it again.
    #[must_use]
    pub fn replay(&self) -> String {
        let Campaign {
            seed,
            nodes,
            length,
            ..
        } = &self.campaign;
        format!(
            "make torture SEED={seed} NODES={nodes} SECONDS={}",
            length.as_secs()
        )
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seed, nodes) = (self.campaign.seed, self.campaign.nodes);
        writeln!(
            f,
            "== seed {seed}, {nodes} nodes, {:?}",
            self.campaign.length
        )?;
        for missing in &self.missing {
            writeln!(f, "LEFT OUT on this machine: {missing}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        write!(f, "{}", self.verdict)?;
        for problem in &self.problems {
            writeln!(f, "PROBLEM {problem}")?;
        }
        if let Some(kept) = &self.kept {
            writeln!(f, "history, journals and logs: {}", kept.display())?;
        }
        if !self.is_clean() {
            writeln!(f, "again: {}", self.replay())?;
        }
        Ok(())
    }
}

/// Waits for somebody who wants the campaign to end.
async fn interrupted() -> Result<&'static str> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    })
}

impl Campaign {
    /// Runs it on a thread of its own, which enters the clients' host; blocks until the end.
    ///
    /// # Errors
    /// When it cannot be run; what it finds is in the report.
    ///
    /// # Panics
    /// When its thread does.
    pub fn run(&self) -> Result<Report> {
        Network::sweep();
        Disk::sweep(FOLDER);
        let folder = tempfile::Builder::new()
            .prefix(&format!("{FOLDER}{}-", std::process::id()))
            .tempdir()?;
        let machine = Machine::prepare(folder.path(), self.nodes)?;
        let door = machine
            .network
            .as_ref()
            .map(|network| network.door(network::CLIENTS));
        let campaign = self.clone();
        let at = folder.path().to_path_buf();
        let thread = std::thread::spawn(move || {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(2).enable_all();
            if let Some(door) = door {
                Network::enter(&door)?;
                builder.on_thread_start(move || {
                    Network::enter(&door).expect("another thread has entered it");
                });
            }
            builder.build()?.block_on(async {
                tokio::select! {
                    report = campaign.run_here(&at, machine) => report,
                    // What was started ends with what is dropped.
                    name = interrupted() => {
                        bail!("{}: the campaign was ended, its servers, hosts and disks are gone", name?)
                    }
                }
            })
        });
        let mut report = thread
            .join()
            .expect("the campaign's thread has not panicked")?;
        if !report.is_clean() {
            report.kept = Some(folder.keep());
        }
        Ok(report)
    }

    async fn run_here(self, folder: &Path, machine: Machine) -> Result<Report> {
        let missing = machine.missing.clone();
        let planned = plan(self.seed, self.nodes, self.length.as_millis() as u64);
        let mut text = String::new();
        for planned in &planned {
            let _ = writeln!(text, "{planned}");
        }
        std::fs::write(folder.join("plan.txt"), text)?;
        let note = json!({"seed": self.seed, "nodes": self.nodes});
        let recorder = Arc::new(Recorder::create(&folder.join("history.jsonl"), &note)?);
        let mut fleet = {
            let sync = if self.lying_disks {
                Sync::Lies
            } else {
                Sync::Works
            };
            Fleet::prepare(folder, self.nodes, machine, sync)?
        };
        for member in fleet.members.values_mut() {
            member.launch()?;
        }
        for member in fleet.members.values_mut() {
            member.node.await_ready().await?;
        }
        let mut notes = Vec::new();
        if !fleet.has_previous() {
            notes.push(
                "restarts use this binary only: set TIDEMILL_PREVIOUS_BINARY for two releases"
                    .to_owned(),
            );
        }
        let client = Client::connect(fleet.endpoints()).await?;
        let flows = [
            apply(&client, "chain", CHAIN).await?,
            apply(&client, "hook", HOOK).await?,
        ];
        let mut schedules = Vec::new();
        for number in 0..SCHEDULES {
            let name = format!("beat-{number}");
            let catch_up = if number.is_multiple_of(2) {
                "one"
            } else {
                "all"
            };
            let document = format!(
                "name: {name}\ntrigger: {{schedule: {{every: 1s, catchUp: {catch_up}}}}}\ngraph: {{nodes: [{{id: a, componentId: log, function: write}}], edges: []}}\n"
            );
            let flow = apply(&client, &name, &document).await?;
            recorder.write(Event::Schedule { flow: flow.clone() });
            schedules.push(flow);
        }
        let shared = Arc::new(Shared::new(
            Arc::clone(&recorder),
            self.seed,
            fleet.endpoints(),
            fleet.http(),
            flows.clone(),
        ));
        let mut workers = JoinSet::new();
        let mut clients = JoinSet::new();
        workers::begin(&shared, &mut workers);
        start_flows(&client, &flows).await?;
        start_flows(&client, &schedules).await?;
        load::begin(&shared, &mut clients)?;

        let mut faults = Faults::new(fleet, Arc::clone(&recorder));
        faults.run(&planned).await?;
        let healing = Instant::now();
        faults.mend_all().await?;
        for (fault, count) in &faults.left_out {
            notes.push(format!("{fault} was left out {count} times"));
        }
        for (fault, count) in &faults.went_on {
            notes.push(format!(
                "{count} times a node went on through the whole of {fault}"
            ));
        }
        recorder.write(Event::Healed);
        let all: Vec<String> = flows.iter().chain(&schedules).cloned().collect();
        shared.calm.store(true, Relaxed);
        let settled = settle(
            &mut faults,
            &shared,
            &client,
            &mut clients,
            &all,
            &schedules,
        )
        .await;
        if let Err(error) = settled {
            faults.problems.push(format!("not settled: {error:#}"));
        } else {
            notes.push(format!(
                "settled {:.1?} after the last fault",
                healing.elapsed()
            ));
        }
        if faults.stuck > 0 {
            let stuck = faults.stuck;
            notes.push(format!(
                "{stuck} times a node ended after its disk had been full, and was started again"
            ));
        }
        let installed = faults.snapshots_installed;
        notes.push(format!(
            "{installed} snapshots were installed since the nodes' last starts"
        ));
        shared.stop.store(true, Relaxed);
        shared.quit.store(true, Relaxed);
        while workers.join_next().await.is_some() {}
        while clients.join_next().await.is_some() {}
        recorder.flush()?;

        let mut files = vec![folder.join("history.jsonl")];
        for client in shared.clients()? {
            match settle::export(&client, folder).await {
                Ok(file) => files.push(file),
                Err(error) => faults.problems.push(format!("no journal: {error:#}")),
            }
        }
        faults.note_ended()?;
        for member in faults.fleet.members.values() {
            let log = member.node.log_text();
            for line in log.lines().filter(|line| line.contains("panicked at")) {
                let known = KNOWN_ASSERTIONS
                    .iter()
                    .find(|(place, _)| line.contains(place));
                let id = member.node.id;
                match known {
                    Some((_, why)) => notes.push(format!("node {id}: {why}")),
                    None => faults.problems.push(format!("node {id} panicked: {line}")),
                }
            }
        }
        let verdict = tokio::task::spawn_blocking(move || tidemill_checker::check(files)).await??;
        Ok(Report {
            campaign: self,
            verdict,
            problems: std::mem::take(&mut faults.problems),
            missing,
            notes,
            kept: None,
        })
    }
}

/// Applies and publishes a flow; gives its id.
async fn apply(client: &Client, name: &str, document: &str) -> Result<String> {
    client.apply(document).await?;
    client.publish(name).await?;
    let request = GetFlowRequest { flow: name.into() };
    let flow = client.get_flow(request).await?.flow;
    Ok(flow.context("the flow")?.id)
}

async fn start_flows(client: &Client, flows: &[String]) -> Result<()> {
    let mut starting = JoinSet::new();
    for flow in flows {
        let (client, flow) = (client.clone(), flow.clone());
        starting.spawn(async move { client.start_flow_by_name(&flow).await });
    }
    while let Some(started) = starting.join_next().await {
        started??;
    }
    Ok(())
}

/// Everything ends and is read.
async fn settle(
    faults: &mut Faults,
    shared: &Shared,
    client: &Client,
    clients: &mut JoinSet<()>,
    flows: &[String],
    schedules: &[String],
) -> Result<()> {
    let first = faults.fleet.first();
    for id in first {
        let mut ready = faults.fleet.member(id)?.node.await_ready().await;
        if ready.is_err() {
            // It may have ended to be started again.
            faults.note_ended()?;
            ready = faults.fleet.member(id)?.node.await_ready().await;
        }
        // Its log says why, and is shown with the node's end.
        ready.map_err(|_| anyhow::anyhow!("node {id} does not become ready"))?;
        faults.note_ended()?;
        let http = faults.fleet.member(id)?.node.http.clone();
        let metrics = crate::http::metrics(&http).await?;
        let installed = metrics.get("tidemill_raft_snapshots_installed");
        faults.snapshots_installed += installed.copied().unwrap_or_default() as u64;
    }
    // Some load on the healed cluster: it must not only end what was there, but take new work.
    sleep(Duration::from_secs(1)).await;
    shared.stop.store(true, Relaxed);
    while clients.join_next().await.is_some() {}
    for flow in schedules {
        settle::stop_flow(client, flow).await?;
    }
    settle::all_ended(client, flows).await?;
    settle::read_finals(client, flows, &shared.recorder).await?;
    settle::read_ledgers(client, schedules, &shared.recorder).await?;
    settle::equal_heads(&shared.clients()?).await
}
