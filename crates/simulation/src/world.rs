//! The simulated world: nodes, links and disks, clients and workers, faults, and what is checked of them.
//!
//! One thread. Every simulated millisecond: what is due happens, what arrives is delivered, each node that
//! is up and not paused runs until it has nothing to do (on a tokio runtime of its own, whose clock stands
//! still otherwise), what was committed and applied is checked, and what nodes said goes out. To end a
//! process is to drop its runtime.

mod catalog;
mod clients;
mod events;
mod faults;
mod group_log;
mod members;
mod node;
mod truth;
mod workers;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, Once, PoisonError, atomic::Ordering::SeqCst},
};

use tidemill_core::command::{PartitionCommand, PartitionEffect, PartitionReply};
use tidemill_server::{actor::AskError, metrics::Metrics};
pub use tidemill_testkit::Outcome;
use tidemill_testkit::invariant::Checks;
use tidemill_types::PartitionId;

use self::{
    catalog::Activators,
    clients::Clients,
    events::{Event, Reply, Said},
    faults::Faults,
    members::Members,
    node::Node,
    truth::Truth,
    workers::Workers,
};
use crate::{Options, Violation, network::Links, run};

/// Where nodes say it: from whom, of which process, about which group, what.
type Outbox = Arc<Mutex<Vec<(u64, u64, PartitionId, Said)>>>;

/// See the module.
pub struct World {
    options: Options,
    now_ms: u64,
    agenda: BTreeMap<(u64, u64), Event>,
    events: u64,
    links: Arc<Links>,
    nodes: Vec<Node>,
    truths: BTreeMap<PartitionId, Truth>,
    checks: Checks,
    clients: Clients,
    workers: Workers,
    faults: Faults,
    members: Members,
    activators: Activators,
    outbox: Outbox,
    metrics: Arc<Metrics>,
}

/// When the simulated world begins, in milliseconds since the Unix epoch.
const BEGIN_MS: i64 = 1_800_000_000_000;
/// openraft's debug assertions that fire in sound runs, by their places: see `tests/src/campaign.rs`. The node's
/// process ends with one, as by a crash. The third: a purge by bytes (the keeper's) waits for a session that
/// reads the log, and openraft's own purge after the next snapshot asks for less. A release build purges less then.
const KNOWN_ASSERTIONS: [&str; 3] = [
    "replication/stream_state.rs:228",
    "io_progress.rs:126",
    "log_handler/mod.rs:80",
];
/// How long everything is left alone before faults begin.
const QUIET_MS: u64 = 1_000;

thread_local! {
    /// What has panicked on this thread, while a run is under way on it.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Notes panics of this thread, until the run ends, instead of printing them.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_noted = PANICS.with_borrow_mut(|panics| {
                let noted = panics.as_mut().map(|noted| noted.push(info.to_string()));
                noted.is_some()
            });
            if !is_noted {
                before(info);
            }
        }));
    });
    PANICS.set(Some(Vec::new()));
}

fn take_panics() -> Vec<String> {
    PANICS.with_borrow_mut(|panics| panics.as_mut().map(std::mem::take).unwrap_or_default())
}

impl World {
    /// Runs a seed to its end, or to the first violation.
    #[must_use]
    pub fn run(seed: u64, options: &Options) -> Outcome {
        watch_panics();
        run::begin(seed, options.planted, options.verbose);
        let mut world = Self::new(options);
        let went = panic::catch_unwind(AssertUnwindSafe(|| {
            world.begin();
            world.go_on(options.faults_ms);
            world.end_faults();
            world.come_to_rest();
        }));
        if went.is_err() {
            // Of the world's own, or of what it calls outside of a node's tasks.
            let detail = take_panics().join("; ");
            run::violate(Violation::new("nothing panics", detail));
        }
        let simulated_ms = world.now_ms;
        // Processes end before the run does: what they drop may note something.
        for node in &mut world.nodes {
            node.drop_process();
        }
        drop(world);
        let ended = run::end();
        PANICS.set(None);
        Outcome {
            seed,
            violation: ended.violation,
            trace_hash: ended.trace_hash,
            trace: ended.trace,
            counts: ended.counts,
            simulated_ms,
        }
    }

    fn new(options: &Options) -> Self {
        let links = Arc::new(Links::default());
        let outbox = Outbox::default();
        let groups: Vec<_> = (1..=options.groups).map(PartitionId).collect();
        Self {
            options: options.clone(),
            now_ms: 0,
            agenda: BTreeMap::new(),
            events: 0,
            nodes: (1..=options.nodes).map(Node::new).collect(),
            truths: (0..=options.groups)
                .map(|id| (PartitionId(id), Truth::new(PartitionId(id))))
                .collect(),
            checks: Checks::default(),
            clients: Clients::new(&groups),
            workers: Workers::new(),
            faults: Faults::default(),
            members: Members::new(options.nodes),
            activators: Activators::default(),
            links,
            outbox,
            metrics: Arc::new(Metrics::new()),
        }
    }

    fn begin(&mut self) {
        for node in 1..=self.options.nodes {
            self.start(node);
        }
        self.clients.arm_all();
        for request in 0..self.clients.requests.len() {
            self.after(500, Event::Send(request));
        }
        for client in 0..clients::CLIENTS {
            let ms = run::between(700, 1_500);
            self.after(ms, Event::ClientNext(client));
        }
        self.after(QUIET_MS, Event::Fault);
        self.members_later();
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.events += 1;
        self.agenda.insert((self.now_ms + ms, self.events), event);
    }

    fn go_on(&mut self, until_ms: u64) {
        while self.now_ms < until_ms && !run::is_violated() {
            self.now_ms += 1;
            run::set_now(self.now_ms);
            self.tick();
        }
    }

    fn tick(&mut self) {
        while let Some(first) = self.agenda.first_entry()
            && first.key().0 <= self.now_ms
        {
            let event = first.remove();
            self.happen(event);
        }
        for (from, to, body) in self.links.arriving() {
            self.nodes[to as usize - 1].receive(from, body);
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].run(self.now_ms);
            self.look_at(node);
            let said = std::mem::take(&mut *lock(&self.outbox));
            for (node, process, group, said) in said {
                if self.nodes[node as usize - 1].process == process {
                    self.hear(node, process, group, said);
                }
            }
        }
    }

    /// Checks a node after it has run.
    fn look_at(&mut self, index: usize) {
        match self.nodes[index].has_opened() {
            Ok(false) => {}
            Ok(true) => {
                let id = self.nodes[index].id;
                self.links.set_up(id);
                if self.nodes[index].process == 1 && id == 1 {
                    self.nodes[index].bootstrap(self.options.nodes);
                }
            }
            Err(error) => self.not_started(index, &error),
        }
        for panic in take_panics() {
            if KNOWN_ASSERTIONS.iter().any(|place| panic.contains(place)) {
                run::count("known assertions of openraft");
                self.nodes[index].must_end = true;
            } else {
                run::violate(Violation::new("nothing panics", panic));
            }
        }
        let node = &mut self.nodes[index];
        if node.is_running() {
            for truth in self.truths.values_mut() {
                truth.look_at(node, &mut self.checks);
            }
            if let Some(fault) = node.fault() {
                run::violate(Violation::new("no group stops", fault));
            }
        }
        if node.must_end() {
            run::count("processes that ended by themselves");
            let id = node.id;
            let ms = run::between(50, 1_000);
            self.crash(id, crate::store::Crash::Killed, ms);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ClientNext(client) => self.client_next(client),
            Event::Send(request) => self.send(request),
            Event::Arrive {
                request,
                attempt,
                node,
            } => self.arrive(request, attempt, node),
            Event::TimeOut { request, attempt } => {
                let wanted = &self.clients.requests[request];
                if !wanted.is_done && wanted.attempt == attempt {
                    run::count("requests timed out");
                    self.send(request);
                }
            }
            Event::Complete(completion) => self.complete(completion),
            Event::Granted(grant) => self.granted(&grant),
            Event::Attach {
                node,
                group,
                process,
            } => self.attach(node, group, process),
            Event::Fault => self.fault(),
            Event::Restart(node) => {
                let at = &self.nodes[node as usize - 1];
                if !at.is_running() && !at.is_gone {
                    self.start(node);
                }
            }
            Event::Pause(node) => self.pause_and_deafen(node),
            Event::Resume(node) => self.resume(node),
            Event::ReadAt(node) => self.read_at(node),
            Event::Deafen(node, is_deaf) => {
                self.links.set_deaf(node, is_deaf && !self.faults.are_over)
            }
            Event::Heal => {
                run::note("heal", &[]);
                self.links.heal();
            }
            Event::Mend(node) => {
                let disk = &self.nodes[node as usize - 1].disk;
                disk.set_slow(false);
                disk.set_full(false);
            }
            Event::HandOver {
                node,
                process,
                flow,
            } => self.hand_over(node, process, flow),
            Event::Members => self.members_next(),
            Event::ChangeAgain(asked) => self.change_again(asked),
            Event::Retire(node) => self.retire(node),
        }
    }

    fn hear(&mut self, node: u64, process: u64, group: PartitionId, said: Said) {
        match said {
            Said::EpochBegan => {
                run::count("epochs");
                run::note("epoch", &[node, u64::from(group.0)]);
                self.clients.leaders.insert(group, node);
                if group.is_catalog() {
                    return self.catalog_led(node, process);
                }
                let ms = run::between(1, 10);
                self.after(
                    ms,
                    Event::Attach {
                        node,
                        group,
                        process,
                    },
                );
            }
            Said::Effects(effects) => {
                for effect in effects {
                    if let PartitionEffect::Grant(grant) = effect {
                        run::count("grants");
                        let ms = run::between(0, 5);
                        self.after(ms, Event::Granted(grant));
                    }
                }
            }
            Said::Nothing => {}
            Said::EpochEnded => self.catalog_left(node, process),
            Said::HandOver(flow) => self.hand_over_soon(node, process, flow),
            Said::HandedOver { hand_over, answer } => self.handed_over(hand_over, &answer),
            Said::Answer {
                request,
                attempt,
                answer,
            } => self.answered(request, attempt, answer),
            Said::Completed { completion, answer } => self.completed(completion, answer),
            Said::Changed { asked, answer } => self.changed(asked, answer),
            Said::Found { request, is_there } => {
                run::count("reads");
                if !is_there {
                    run::violate(Violation::new(
                        "I1 acknowledged commands stay",
                        format!("a read on the leader did not find request {request}'s execution"),
                    ));
                }
            }
        }
    }

    fn start(&mut self, node: u64) {
        run::note("start", &[node]);
        let (links, outbox) = (Arc::clone(&self.links), Arc::clone(&self.outbox));
        let (options, metrics) = (self.options.clone(), Arc::clone(&self.metrics));
        let now_ms = self.now_ms;
        let started = self.nodes[node as usize - 1].start(now_ms, &options, links, outbox, metrics);
        if let Err(error) = started {
            self.not_started(node as usize - 1, &error);
        }
    }

    fn not_started(&self, index: usize, error: &str) {
        run::violate(Violation::new(
            "a node starts with what its disk holds",
            format!("node {}: {error}", index + 1),
        ));
    }

    /// Ends a node's process; it is started again some time later.
    fn crash(&mut self, node: u64, crash: crate::store::Crash, down_ms: u64) {
        let at = &mut self.nodes[node as usize - 1];
        if !at.is_running() {
            return;
        }
        run::note("crash", &[node, crash as u64]);
        at.end(crash);
        self.links
            .set_down(node, crash == crate::store::Crash::PowerCut);
        self.after(down_ms, Event::Restart(node));
    }

    /// Faults end: everybody is up and well, nobody wants anything new.
    fn end_faults(&mut self) {
        run::note("faults end", &[]);
        self.faults.are_over = true;
        self.links.heal();
        for node in 0..self.nodes.len() {
            self.nodes[node].resume();
            self.links.set_deaf(node as u64 + 1, false);
            self.nodes[node].faults_are_over.store(true, SeqCst);
            self.nodes[node].disk.set_slow(false);
            self.nodes[node].disk.set_full(false);
        }
        self.clients.disarm_all();
        for request in 0..self.clients.requests.len() {
            if self.clients.requests[request].attempt == 0 {
                self.after(1, Event::Send(request));
            }
        }
    }

    /// Everything that can finish finishes.
    fn come_to_rest(&mut self) {
        const LOOK_MS: u64 = 200;
        let until = self.now_ms + self.options.rest_ms_max;
        while !run::is_violated() {
            self.go_on(self.now_ms + LOOK_MS);
            let Some(unfinished) = self.unfinished() else {
                break;
            };
            if self.now_ms >= until {
                run::violate(Violation::new(
                    "I11 everything runnable finishes",
                    unfinished,
                ));
            }
        }
        let nodes = self.nodes.iter();
        let nodes: Vec<_> = nodes.filter(|node| self.members.has(node.id)).collect();
        for truth in self.truths.values() {
            if let Err(violation) = truth.at_rest(&nodes, &mut self.checks) {
                run::violate(violation);
            }
        }
        match self.compare_catalog() {
            Ok(0) => {}
            Ok(active) => run::count_more("flows active at the end", active),
            Err(violation) => run::violate(violation),
        }
    }

    /// What has not come to rest yet, if anything.
    fn unfinished(&self) -> Option<String> {
        if let Some(request) = self.clients.requests.iter().find(|r| !r.is_done) {
            return Some(format!("a request is not settled: {request:?}"));
        }
        let nodes = self.member_nodes();
        nodes
            .iter()
            .find(|node| !node.is_serving())
            .map(|node| format!("node {} is down", node.id))
            .or_else(|| self.members_unfinished())
            .or_else(|| {
                self.truths
                    .values()
                    .find_map(|truth| truth.unfinished(&nodes))
            })
    }

    /// Sends a command to a node's actor; the answer comes by the outbox.
    fn ask(
        &mut self,
        node: u64,
        group: PartitionId,
        command: PartitionCommand,
        said: impl FnOnce(Result<PartitionReply, AskError>) -> Said + Send + 'static,
    ) {
        self.nodes[node as usize - 1].ask(group, command, &self.outbox, said);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
