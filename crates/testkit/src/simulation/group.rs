//! A group: an abstract replicated log with Raft's guarantees and no more, a replica and an actor on
//! each node, and the truth: what the committed log says, applied at once, which is what is checked.
//!
//! Guaranteed is only that the committed prefix never changes and that an entry's place never does.
//! A leader's uncommitted entries may be lost, or committed late by its successor; a proposal may be
//! lost alone (a hole), repeated, delayed until its node leads again, or applied without its proposer
//! ever hearing of it.

use tidemill_rows::{Batch, journal::kind};
use tidemill_types::PartitionId;

use super::{
    actor::{Actor, Kind, State},
    env::{Env, Event, Result},
    options::Planted,
    random::hash,
    replica::{Applied, Entry, Payload, Replica},
};

/// Journal records that are counted.
const COUNTED: [(&str, &str); 3] = [
    (kind::CLOCK_JUMPED, "clock jumps recorded"),
    (kind::EXECUTION_ENDING, "executions ended in slices"),
    (kind::FLOW_FORGOTTEN, "flows forgotten"),
];

/// See the module.
pub struct Group<D: Kind> {
    /// Its number, which is its partition's.
    pub number: usize,
    /// The partition.
    pub partition: PartitionId,
    /// Highest term so far.
    pub term: u64,
    /// Who leads in it, if it is decided.
    pub leader: Option<usize>,
    /// Committed entries.
    pub log: Vec<Entry>,
    /// The leader's entries that are not committed.
    pub tail: Vec<Entry>,
    /// The committed log, applied at once.
    pub truth: Replica,
    /// The truth's digest after each entry.
    digests: Vec<u64>,
    /// One for each node.
    pub replicas: Vec<Replica>,
    /// One for each node.
    pub actors: Vec<Actor<D>>,
    /// Which nodes are up.
    pub up: Vec<bool>,
    /// Older states of replicas, to rebuild them from.
    checkpoints: Vec<Replica>,
    /// Nothing is committed before.
    pub stalled_until_ms: u64,
    /// No entries reach a node before: it is cut off.
    cut_off_until_ms: Vec<u64>,
    commit_due: bool,
    apply_due: Vec<bool>,
}

impl<D: Kind> Group<D> {
    /// An empty group.
    #[must_use]
    pub fn new(number: usize, nodes: usize) -> Self {
        Self {
            number,
            partition: PartitionId(number as u16),
            term: 0,
            leader: None,
            log: Vec::new(),
            tail: Vec::new(),
            truth: Replica::default(),
            digests: vec![0],
            replicas: vec![Replica::default(); nodes],
            actors: (0..nodes).map(|_| Actor::default()).collect(),
            up: vec![true; nodes],
            checkpoints: vec![Replica::default(); nodes],
            stalled_until_ms: 0,
            cut_off_until_ms: vec![0; nodes],
            commit_due: false,
            apply_due: vec![false; nodes],
        }
    }

    /// A proposal reaches the log of its node.
    pub fn append(&mut self, env: &mut Env, node: usize, ticket: u64, term: u64, payload: Payload) {
        let group = self.number;
        if !self.up[node] {
            return;
        }
        let numbers = [group as u64, node as u64, ticket];
        if self.leader != Some(node) {
            env.note("append to a deposed leader", &numbers);
            env.count("proposals of deposed leaders");
            // It may hear at once, or only when it stops waiting.
            if env.random.chance(500) {
                self.hear(env, node, ticket, Result::Unknown);
            }
            return;
        }
        if term != self.term && !env.fault(300) {
            // The check that fails fast. It is no fence: sometimes it is not made.
            env.note("append of another term", &numbers);
            env.count("proposals of another term");
            self.hear(env, node, ticket, Result::Unknown);
            return;
        }
        if env.fault(12) {
            env.note("append lost", &numbers);
            env.count("proposals lost");
            if env.random.chance(500) {
                self.hear(env, node, ticket, Result::Unknown);
            }
            return;
        }
        let entry = Entry {
            term: self.term,
            payload,
            proposer: Some((node, ticket)),
        };
        env.note("append", &numbers);
        if matches!(entry.payload, Payload::Batch(_)) && env.fault(10) {
            env.count("proposals repeated");
            self.tail.push(entry.clone());
        }
        self.tail.push(entry);
        self.schedule_commit(env);
    }

    fn hear(&self, env: &mut Env, node: usize, ticket: u64, result: Result) {
        let ms = env.random.between(0, 3);
        let group = self.number;
        env.after(
            ms,
            Event::Heard {
                group,
                node,
                ticket,
                result,
            },
        );
    }

    fn schedule_commit(&mut self, env: &mut Env) {
        if !self.commit_due && self.leader.is_some() && !self.tail.is_empty() {
            self.commit_due = true;
            let stall = self.stalled_until_ms.saturating_sub(env.now_ms);
            let ms = env.random.between(1, 12).max(stall);
            env.after(ms, Event::Commit { group: self.number });
        }
    }

    /// Some of the leader's entries are committed.
    pub fn commit(&mut self, env: &mut Env) {
        self.commit_due = false;
        if self.leader.is_none() || self.tail.is_empty() {
            return;
        }
        if env.now_ms < self.stalled_until_ms {
            return self.schedule_commit(env);
        }
        // Entries of earlier terms are committed only with one of the leader's own.
        let own = self.tail.iter().position(|entry| entry.term == self.term);
        let Some(own) = own else { return };
        let count = env
            .random
            .between(own as u64 + 1, self.tail.len() as u64)
            .min(own as u64 + 6) as usize;
        for entry in self.tail.drain(..count).collect::<Vec<_>>() {
            self.committed(env, entry);
        }
        for node in 0..self.replicas.len() {
            self.schedule_apply(env, node);
        }
        self.schedule_commit(env);
    }

    fn committed(&mut self, env: &mut Env, entry: Entry) {
        let late = entry.term != self.term;
        let applied = self
            .truth
            .apply(&entry, self.partition, env.options.planted);
        let index = self.truth.applied as u64;
        let what = match &applied {
            Applied::Nothing => "commit",
            Applied::Epoch(_) => {
                env.count("epochs");
                "commit epoch start"
            }
            Applied::Admitted(_) => {
                env.count("batches");
                if late {
                    env.count("batches committed by a successor");
                }
                "commit batch"
            }
            Applied::Refused => {
                env.count("batches refused");
                "refuse batch"
            }
        };
        let digest = self.truth.digest();
        env.note(what, &[self.number as u64, index, entry.term, digest]);
        if let Applied::Admitted(batch) = applied {
            self.check(env, &batch);
        }
        self.digests.push(digest);
        self.log.push(entry);
    }

    fn check(&mut self, env: &mut Env, batch: &Batch) {
        let result = env.checks.on_batch(self.partition, batch, &self.truth.rows);
        env.check(result);
        for (kind, what) in COUNTED {
            for _ in 0..env.checks.last_of(kind) {
                env.count(what);
            }
        }
        if env.options.verbose {
            for text in env.checks.last_records() {
                env.tell(|| text);
            }
        }
    }

    fn schedule_apply(&mut self, env: &mut Env, node: usize) {
        if !self.apply_due[node] && self.up[node] && self.replicas[node].applied < self.log.len() {
            self.apply_due[node] = true;
            let slow = if self.leader == Some(node) { 3 } else { 30 };
            let cut_off = self.cut_off_until_ms[node].saturating_sub(env.now_ms);
            let ms = env.random.between(0, slow).max(cut_off);
            env.after(
                ms,
                Event::Apply {
                    group: self.number,
                    node,
                },
            );
        }
    }

    /// A replica applies some of the committed entries.
    pub fn apply(&mut self, env: &mut Env, node: usize) {
        self.apply_due[node] = false;
        if !self.up[node] {
            return;
        }
        if env.now_ms < self.cut_off_until_ms[node] {
            return self.schedule_apply(env, node);
        }
        let behind = self.log.len() - self.replicas[node].applied.min(self.log.len());
        if behind == 0 {
            return;
        }
        let count = env.random.between(1, 8).min(behind as u64);
        for _ in 0..count {
            self.apply_one(env, node);
        }
        if env.random.chance(20) {
            self.checkpoints[node] = self.replicas[node].clone();
        }
        self.schedule_apply(env, node);
    }

    fn apply_one(&mut self, env: &mut Env, node: usize) {
        let replica = &mut self.replicas[node];
        let entry = &self.log[replica.applied];
        let applied = replica.apply(entry, self.partition, env.options.planted);
        let index = replica.applied;
        let proposer = entry.proposer;
        let (own, truth) = (replica.digest(), self.digests[index]);
        let result = env
            .checks
            .replicas
            .on_applied(self.partition, node, index, own, truth);
        env.check(result);
        let Some((proposer, ticket)) = proposer else {
            return;
        };
        if proposer != node {
            return;
        }
        let result = match applied {
            Applied::Epoch(epoch) => Result::Applied(epoch),
            Applied::Refused => Result::Refused,
            Applied::Nothing | Applied::Admitted(_) => {
                Result::Applied(tidemill_rows::Epoch::default())
            }
        };
        // Whoever proposed may never hear of it.
        if env.fault(4) {
            env.count("outcomes not heard");
        } else {
            self.hear(env, node, ticket, result);
        }
    }

    /// The leader is a leader no more; nobody is, for a while.
    pub fn depose(&mut self, env: &mut Env) {
        if let Some(node) = self.leader.take()
            && env.random.chance(500)
        {
            // Cut off from the others: that is why, and it goes on thinking that it leads.
            env.count("leaders cut off");
            self.cut_off_until_ms[node] = env.now_ms + env.random.between(200, 5_000);
        }
        let ms = env.random.between(20, 1_200);
        env.note("no leader", &[self.number as u64]);
        env.after(ms, Event::Elect { group: self.number });
    }

    /// A new leader is elected: its log holds all that is committed, and some of what is not.
    pub fn elect(&mut self, env: &mut Env) {
        if self.leader.is_some() {
            return;
        }
        let up: Vec<usize> = (0..self.up.len()).filter(|node| self.up[*node]).collect();
        let free: Vec<usize> = up
            .iter()
            .copied()
            .filter(|node| self.cut_off_until_ms[*node] <= env.now_ms)
            .collect();
        let node = env.random.pick(&free).or(env.random.pick(&up));
        let node = *node.expect("a majority is up");
        self.cut_off_until_ms[node] = 0;
        let kept = env.random.between(0, self.tail.len() as u64) as usize;
        for _ in kept..self.tail.len() {
            env.count("entries lost by a change of leader");
        }
        self.tail.truncate(kept);
        self.term += env.random.between(1, 2);
        self.tail.push(Entry {
            term: self.term,
            payload: Payload::Blank,
            proposer: None,
        });
        self.leader = Some(node);
        let group = self.number;
        env.count("leader changes");
        env.note(
            "elect",
            &[group as u64, node as u64, self.term, kept as u64],
        );
        for other in up {
            let slow = if other == node { 50 } else { 3_000 };
            let cut_off = self.cut_off_until_ms[other].saturating_sub(env.now_ms);
            let ms = env.random.between(0, slow).max(cut_off);
            env.after(ms, Event::Notice { group, node: other });
        }
        self.schedule_commit(env);
    }

    /// A node goes down, and what it had in memory with it.
    pub fn crash(&mut self, env: &mut Env, node: usize) {
        self.up[node] = false;
        self.actors[node] = Actor::default();
        if self.leader == Some(node) {
            self.depose(env);
        }
    }

    /// A node comes back: with its rows, with older ones, with none, or with another node's.
    pub fn restart(&mut self, env: &mut Env, node: usize) {
        self.up[node] = true;
        match env.random.below(4) {
            0 => env.count("replicas kept"),
            1 => {
                env.count("replicas rebuilt from the log");
                self.replicas[node] = Replica::default();
            }
            2 => {
                env.count("replicas rebuilt from a checkpoint");
                self.replicas[node] = self.checkpoints[node].clone();
            }
            _ => self.install(env, node),
        }
        self.schedule_apply(env, node);
        let ms = env.random.between(0, 20);
        env.after(
            ms,
            Event::Notice {
                group: self.number,
                node,
            },
        );
    }

    /// A replica gets the rows of one that is further.
    pub fn install(&mut self, env: &mut Env, node: usize) {
        let from = (0..self.replicas.len())
            .filter(|other| *other != node)
            .max_by_key(|other| self.replicas[*other].applied);
        let Some(from) = from else { return };
        if self.replicas[from].applied < self.replicas[node].applied {
            return;
        }
        env.count("replicas rebuilt from a snapshot");
        env.note("install", &[self.number as u64, node as u64, from as u64]);
        let source = self.replicas[from].clone();
        self.replicas[node].install(&source, self.partition, env.options.planted);
        self.schedule_apply(env, node);
    }

    /// True when the actor on this node decides.
    #[must_use]
    pub fn is_leading(&self, node: usize) -> bool {
        matches!(self.actors[node].state, State::Leading(_))
    }

    /// Where somebody who looks for the leader would send something.
    pub fn target(&self, env: &mut Env) -> usize {
        let nodes = self.actors.len();
        if env.fault(150) {
            let deciding: Vec<usize> = (0..nodes).filter(|node| self.is_leading(*node)).collect();
            if let Some(node) = env.random.pick(&deciding) {
                return *node;
            }
        }
        match self.leader {
            Some(leader) if !env.fault(30) => leader,
            _ => env.random.index(nodes),
        }
    }

    /// All replicas have all entries, and the same rows.
    pub fn is_quiet(&self) -> bool {
        self.tail.is_empty()
            && (0..self.replicas.len()).all(|node| self.replicas[node].applied == self.log.len())
    }

    /// What a planted bug makes of a batch before it is proposed.
    pub fn spoil(&mut self, env: &Env, node: usize, batch: &mut Batch) {
        let Some(planted) = env.options.planted else {
            return;
        };
        match planted {
            Planted::JournalRecordTwice => super::planted::repeat_record(self.partition, batch),
            Planted::TimerForgotten => super::planted::forget_timers(batch),
            Planted::CounterOff => super::planted::miscount(batch),
            Planted::OccurrenceRowForgotten if batch.seq == 1 => {
                super::planted::take_occurrences(batch);
            }
            Planted::OccurrenceRowLater => {
                let late = &mut self.actors[node].late;
                let held = std::mem::replace(late, super::planted::take_occurrences(batch));
                batch.mutations.splice(0..0, held);
            }
            Planted::RequestIdExpiredEarly => {
                super::planted::expire_requests(self.partition, batch);
            }
            Planted::JournalHashOff => super::planted::unhash_details(batch),
            _ => {}
        }
    }

    /// Notes a batch that is proposed.
    pub fn note_proposal(&self, env: &mut Env, node: usize, ticket: u64, bytes: &[u8]) {
        env.note(
            "propose",
            &[self.number as u64, node as u64, ticket, hash(bytes)],
        );
    }
}
