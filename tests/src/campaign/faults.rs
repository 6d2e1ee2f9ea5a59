//! Does what the plan says, when it says so, and mends all of it at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tidemill_checker::{Recorder, history::Event};
use tidemill_sdk::{
    Client,
    api::{AddMemberRequest, GetStatusRequest, Member as ApiMember, RemoveMemberRequest},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{
    fleet::Fleet,
    network::CLIENTS,
    plan::{Fault, Planned},
    tools::{Sync, Write},
};

/// How much of the log of a node that has ended is shown.
const LOG_LINES_SHOWN: usize = 8;
/// What a node says before it ends since RocksDB does not get over a full disk.
const STUCK: &str = "does not get over having been full";
/// How often it is looked whether a process has ended by itself.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long a change of members is tried for, after which it is left to the end of the campaign.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(60);
const MEMBER_CALL_TIMEOUT: Duration = Duration::from_secs(15);
const MEMBER_PAUSE: Duration = Duration::from_millis(300);

/// Strikes and mends.
#[derive(Debug)]
pub struct Faults {
    /// The nodes.
    pub fleet: Fleet,
    recorder: Arc<Recorder>,
    /// What went wrong that is no promise of the checker's: a node that ended by itself, say.
    pub problems: Vec<String>,
    /// What could not be done on this machine, by fault.
    pub left_out: BTreeMap<&'static str, u64>,
    lossy: BTreeMap<u64, u64>,
    /// What each cut has cut: a node may have joined since.
    cut: Vec<(Fault, Vec<(u64, u64)>)>,
    next_id: u64,
    /// Nodes that joined and are not yet removed, with the call that is under way.
    joined: BTreeMap<u64, JoinHandle<()>>,
    /// Nodes that were sure to stop and went on: by fault.
    pub went_on: BTreeMap<&'static str, u64>,
    /// Nodes that ended, and were started again, since RocksDB did not get over a full disk.
    pub stuck: u64,
    /// By the nodes' metrics.
    pub snapshots_installed: u64,
}

impl Faults {
    /// For nodes that run.
    #[must_use]
    pub fn new(fleet: Fleet, recorder: Arc<Recorder>) -> Self {
        let next_id = fleet.first().len() as u64 + 1;
        Self {
            fleet,
            recorder,
            problems: Vec::new(),
            left_out: BTreeMap::new(),
            lossy: BTreeMap::new(),
            cut: Vec::new(),
            next_id,
            joined: BTreeMap::new(),
            went_on: BTreeMap::new(),
            stuck: 0,
            snapshots_installed: 0,
        }
    }

    /// Runs the plan to its end.
    ///
    /// # Errors
    /// When a fault cannot be made, or mended.
    pub async fn run(&mut self, plan: &[Planned]) -> Result<()> {
        let begun = Instant::now();
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (number, planned) in plan.iter().enumerate() {
            moments.push((planned.at_ms, true, number));
            moments.push((planned.end_ms, false, number));
        }
        // Where one ends as another begins, the end comes first.
        moments.sort_unstable();
        let mut struck = BTreeSet::new();
        for (at_ms, begins, number) in moments {
            self.watch_until(begun + Duration::from_millis(at_ms))
                .await?;
            let fault = &plan[number].fault;
            if begins {
                if self
                    .strike(fault)
                    .with_context(|| format!("{}", plan[number]))?
                {
                    struck.insert(number);
                    self.note(fault, true);
                } else {
                    *self.left_out.entry(fault.name()).or_default() += 1;
                }
            } else if struck.remove(&number) {
                self.mend(fault)
                    .await
                    .with_context(|| format!("the end of {}", plan[number]))?;
                self.note(fault, false);
            }
        }
        Ok(())
    }

    fn note(&self, fault: &Fault, begins: bool) {
        let (fault, target) = (fault.name().to_owned(), fault.target());
        self.recorder.write(if begins {
            Event::Fault { fault, target }
        } else {
            Event::FaultEnd { fault, target }
        });
    }

    /// Waits, and notes what has ended by itself.
    async fn watch_until(&mut self, until: Instant) -> Result<()> {
        loop {
            self.note_ended()?;
            let now = Instant::now();
            if now >= until {
                return Ok(());
            }
            sleep_until(until.min(now + LOOK_INTERVAL)).await;
        }
    }

    /// Notes what has ended by itself: a problem, unless what strikes it may end it.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn note_ended(&mut self) -> Result<()> {
        for (id, status) in self.fleet.ended()? {
            let member = self.fleet.member(id)?;
            if member.may_end {
                member.should_run = false;
                continue;
            }
            let text = member.node.log_text();
            if text
                .lines()
                .rev()
                .take(LOG_LINES_SHOWN)
                .any(|line| line.contains(STUCK))
            {
                // As whoever supervises a server does.
                member.launch()?;
                self.stuck += 1;
                continue;
            }
            // One that cannot start is not made to again and again; `mend_all` tries once more.
            member.should_run = false;
            let mut last: Vec<&str> = text.lines().rev().take(LOG_LINES_SHOWN).collect();
            last.reverse();
            let last = last.join("\n  ");
            self.problems.push(format!(
                "node {id} ended by itself with {status}; its log ends:\n  {last}"
            ));
        }
        Ok(())
    }

    /// The directions that a fault cuts.
    fn cuts(&self, fault: &Fault) -> Vec<(u64, u64)> {
        let hosts: Vec<u64> = self.fleet.members.values().map(|m| m.host).collect();
        let others = |n: u64| hosts.iter().copied().filter(move |other| *other != n);
        let mut pairs = Vec::new();
        match fault {
            Fault::Isolate(n) => pairs.extend(others(*n).flat_map(|o| [(*n, o), (o, *n)])),
            Fault::Unplug(n) => {
                let all = others(*n).chain([CLIENTS]);
                pairs.extend(all.flat_map(|o| [(*n, o), (o, *n)]));
            }
            Fault::OneWay(from, to) => pairs.push((*from, *to)),
            Fault::Mute(n) => pairs.extend(others(*n).map(|o| (*n, o))),
            Fault::Split(side) => {
                for a in side {
                    let far = hosts.iter().filter(|host| !side.contains(host));
                    pairs.extend(far.flat_map(|b| [(*a, *b), (*b, *a)]));
                }
            }
            _ => {}
        }
        pairs.sort_unstable();
        pairs.dedup();
        pairs
    }

    /// Begins a fault. False when this machine cannot make it.
    fn strike(&mut self, fault: &Fault) -> Result<bool> {
        match fault {
            Fault::Kill(n) => self.fleet.member(*n)?.kill()?,
            Fault::KillAll => {
                for n in self.fleet.first() {
                    self.fleet.member(n)?.kill()?;
                }
            }
            Fault::Pause(n) => self.fleet.member(*n)?.pause(true)?,
            Fault::Restart(n) => {
                let member = self.fleet.member(*n)?;
                member.should_run = false;
                if member.node.ended()?.is_none() && member.node.pid().is_some() {
                    member.node.signal(rustix::process::Signal::TERM)?;
                }
            }
            Fault::Isolate(_)
            | Fault::Unplug(_)
            | Fault::OneWay(..)
            | Fault::Mute(_)
            | Fault::Split(_) => {
                let pairs = self.cuts(fault);
                let Some(network) = &mut self.fleet.machine.network else {
                    return Ok(false);
                };
                network.cut(&pairs)?;
                self.cut.push((fault.clone(), pairs));
            }
            Fault::Slow(n) => {
                let Some(network) = &self.fleet.machine.network else {
                    return Ok(false);
                };
                network.slow(*n, true)?;
            }
            Fault::Lossy(n, percent) => {
                self.lossy.insert(*n, *percent);
                if !self.apply_loss()? {
                    self.lossy.clear();
                    return Ok(false);
                }
            }
            Fault::Skew(n, ms) => {
                let member = self.fleet.member(*n)?;
                return member.switch(|switches| switches.skew_ms(*ms));
            }
            Fault::SlowDisk(n, ms) => {
                let delay = Duration::from_millis(*ms);
                let member = self.fleet.member(*n)?;
                return member.switch(|switches| switches.sync_delay(delay));
            }
            Fault::DiskFull(n) => {
                let member = self.fleet.member(*n)?;
                let Some(disk) = &member.disk else {
                    return Ok(false);
                };
                disk.fill()?;
                member.may_end = true;
            }
            Fault::SyncError(n) => {
                let member = self.fleet.member(*n)?;
                member.may_end = member.switch(|switches| switches.sync(Sync::Fails))?;
                return Ok(member.may_end);
            }
            Fault::WriteError(n, torn) => {
                let member = self.fleet.member(*n)?;
                let write = if *torn { Write::Tears } else { Write::Fails };
                member.may_end = member.switch(|switches| switches.write(write))?;
                return Ok(member.may_end);
            }
            Fault::PowerCut(n) => return self.cut_power(&[*n]),
            Fault::Blackout => {
                let all = self.fleet.first();
                return self.cut_power(&all);
            }
            Fault::Member => return self.join(),
        }
        Ok(true)
    }

    /// Ends a fault.
    async fn mend(&mut self, fault: &Fault) -> Result<()> {
        match fault {
            Fault::Kill(n) => self.fleet.member(*n)?.launch()?,
            Fault::KillAll => {
                for n in self.fleet.first() {
                    self.fleet.member(n)?.launch()?;
                }
            }
            Fault::Pause(n) => self.fleet.member(*n)?.pause(false)?,
            Fault::Restart(n) => {
                let member = self.fleet.member(*n)?;
                // Its drain may be longer than the fault.
                member.kill()?;
                self.fleet.change_binary(*n);
                self.fleet.member(*n)?.launch()?;
            }
            Fault::Isolate(_)
            | Fault::Unplug(_)
            | Fault::OneWay(..)
            | Fault::Mute(_)
            | Fault::Split(_) => {
                let at = self.cut.iter().position(|(cut, _)| cut == fault);
                let pairs = at.map(|at| self.cut.swap_remove(at).1);
                if let (Some(network), Some(pairs)) = (&mut self.fleet.machine.network, pairs) {
                    network.join(&pairs)?;
                }
            }
            Fault::Slow(n) => {
                if let Some(network) = &self.fleet.machine.network {
                    network.slow(*n, false)?;
                }
            }
            Fault::Lossy(n, _) => {
                self.lossy.remove(n);
                self.apply_loss()?;
            }
            Fault::Skew(n, _) => {
                let member = self.fleet.member(*n)?;
                member.switch(|switches| switches.skew_ms(0))?;
            }
            Fault::DiskFull(n) => {
                let member = self.fleet.member(*n)?;
                if let Some(disk) = &member.disk {
                    disk.free()?;
                }
                member.may_end = false;
                member.launch()?;
            }
            Fault::SlowDisk(n, _) => {
                let member = self.fleet.member(*n)?;
                member.switch(|switches| switches.sync_delay(Duration::ZERO))?;
            }
            Fault::SyncError(n) => {
                let usual = self.fleet.sync;
                let member = self.fleet.member(*n)?;
                if member.should_run && member.node.ended()?.is_none() {
                    *self.went_on.entry("sync_error").or_default() += 1;
                }
                self.fleet
                    .member(*n)?
                    .restart(|switches| switches.sync(usual))?;
            }
            // What failed stops at the least the group that it was of; the process may go on for the others.
            Fault::WriteError(n, _) => {
                let member = self.fleet.member(*n)?;
                member.restart(|switches| switches.write(Write::Works))?;
            }
            Fault::PowerCut(n) => self.restore_power(&[*n])?,
            Fault::Blackout => {
                let all = self.fleet.first();
                self.restore_power(&all)?;
            }
            Fault::Member => self.leave().await,
        }
        Ok(())
    }

    fn cut_power(&mut self, nodes: &[u64]) -> Result<bool> {
        let Some(tools) = self.fleet.machine.tools.clone() else {
            return Ok(false);
        };
        for n in nodes {
            let member = self.fleet.member(*n)?;
            let Some(disk) = &member.disk else {
                return Ok(false);
            };
            disk.cut_power(&tools)?;
            member.may_end = true;
        }
        Ok(true)
    }

    fn restore_power(&mut self, nodes: &[u64]) -> Result<()> {
        // All are dead before the first is back, as when the power fails for all.
        for n in nodes {
            self.fleet.member(*n)?.kill()?;
        }
        for n in nodes {
            let member = self.fleet.member(*n)?;
            if let Some(disk) = &mut member.disk {
                disk.restore_power()?;
            }
            member.may_end = false;
            member.launch()?;
        }
        Ok(())
    }

    fn apply_loss(&self) -> Result<bool> {
        match &self.fleet.machine.network {
            Some(network) if network.can_lose() => network.lose(&self.lossy).map(|()| true),
            _ => Ok(false),
        }
    }

    /// One more node joins: it starts now, and is added as soon as the cluster can do it.
    fn join(&mut self) -> Result<bool> {
        // The last one has its host until it is gone.
        if self
            .joined
            .values()
            .any(|under_way| !under_way.is_finished())
        {
            return Ok(false);
        }
        for id in std::mem::take(&mut self.joined).into_keys() {
            if let Some(mut member) = self.fleet.members.remove(&id) {
                member.kill()?;
            }
        }
        let id = self.next_id;
        self.next_id += 1;
        self.fleet.launch_joining(id)?;
        let endpoints = self.fleet.endpoints();
        let node = &self.fleet.member(id)?.node;
        let member = ApiMember {
            id,
            peer: node.peer.clone(),
            grpc: node.grpc.clone(),
            http: node.http.clone(),
            ..ApiMember::default()
        };
        let adding = tokio::spawn(async move {
            let until = Instant::now() + MEMBER_TIMEOUT;
            while Instant::now() < until {
                if let Ok(client) = patient_client(&endpoints) {
                    let member = Some(member.clone());
                    if client.add_member(AddMemberRequest { member }).await.is_ok() {
                        return;
                    }
                }
                sleep(MEMBER_PAUSE).await;
            }
        });
        self.joined.insert(id, adding);
        Ok(true)
    }

    /// The nodes that joined leave, as soon as the cluster can do it.
    async fn leave(&mut self) {
        let endpoints = self.fleet.endpoints();
        for (id, under_way) in &mut self.joined {
            // Whatever is under way may have been done: what comes next is right in both cases.
            under_way.abort();
            *under_way = tokio::spawn(remove_until_gone(endpoints.clone(), *id));
        }
    }

    /// All faults end: every node runs, with its disk, clock and links.
    ///
    /// # Errors
    /// When something cannot be mended.
    pub async fn mend_all(&mut self) -> Result<()> {
        self.lossy.clear();
        self.apply_loss()?;
        for n in self.fleet.first() {
            let member = self.fleet.member(n)?;
            member.may_end = false;
            if member.is_paused {
                member.pause(false)?;
            }
            member.launch()?;
        }
        self.leave().await;
        for (id, removal) in std::mem::take(&mut self.joined) {
            if tokio::time::timeout(MEMBER_TIMEOUT, removal).await.is_err() {
                self.problems.push(format!(
                    "node {id} could not be removed within {MEMBER_TIMEOUT:?}"
                ));
            }
            if let Some(mut member) = self.fleet.members.remove(&id) {
                member.kill()?;
            }
        }
        Ok(())
    }
}

fn patient_client(endpoints: &[String]) -> Result<Client> {
    let client = Client::builder(endpoints)
        .discover(false)
        .attempt_timeout(MEMBER_CALL_TIMEOUT)
        .timeout(MEMBER_CALL_TIMEOUT);
    Ok(client.lazy()?)
}

async fn remove_until_gone(endpoints: Vec<String>, id: u64) {
    loop {
        let gone = async {
            let client = patient_client(&endpoints).ok()?;
            let _ = client.remove_member(RemoveMemberRequest { id }).await;
            let status = client.get_status(GetStatusRequest {}).await.ok()?;
            let is_there = status.members.iter().any(|member| member.id == id);
            (!is_there).then_some(())
        };
        if gone.await.is_some() {
            return;
        }
        sleep(MEMBER_PAUSE).await;
    }
}
