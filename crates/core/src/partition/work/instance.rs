//! Worker instances: which session of a worker is its newest, and which of its leases it does not hold.
//!
//! A worker keeps its instance id over all its sessions and says with each what it still holds. A lease
//! of the same instance that is not among that was lost on its way, with a gateway or with a leader:
//! it is freed at once and need not run out. That is safe whatever is said, in whatever order: only the
//! attempt decides what counts, so the worst that a wrong word costs is that a step runs again. The
//! session's number keeps words from an older session, late or from a gateway that does not know yet
//! that its worker has gone, from costing even that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidemill_rows::journal::{NewRecord, kind};
use tidemill_types::{
    StepId, TaskId, Timestamp,
    limits::{LEASES_FREED_PER_TURN_MAX, LEASES_LOST_MAX},
};

use super::Work;
use crate::{
    command::{PartitionEffect, SessionKey, SessionUpdate},
    ledger::{Damage, Rows},
    partition::{Partition, SYSTEM, steps::error},
};

/// How long an instance without a session is remembered: words of its older sessions may be on their way.
const REMEMBERED_MS: u64 = 10 * 60 * 1_000;

/// Most of those that are remembered: every call of `PollTasks` is an instance of its own.
const REMEMBERED_MAX: usize = 10_000;

#[derive(Debug)]
struct Instance {
    /// Its newest session's number.
    number: u64,
    /// What its gateway's stream said last of that session: words of an older stream may come late.
    key: SessionKey,
    is_there: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Instances {
    by_id: BTreeMap<u64, Instance>,
    /// Instances whose session went, oldest first; some may have come back.
    gone: VecDeque<(Timestamp, u64)>,
    leases: BTreeMap<u64, BTreeSet<StepId>>,
    /// Attempts to be freed.
    to_free: VecDeque<TaskId>,
    /// Sessions that are to be told that a newer one is there.
    superseded: Vec<SessionKey>,
}

impl Instances {
    /// A lease was given to an instance, or found in the rows.
    pub fn add_lease(&mut self, instance: u64, step: StepId) {
        if instance != 0 {
            self.leases.entry(instance).or_default().insert(step);
        }
    }

    /// A lease is over.
    pub fn remove_lease(&mut self, instance: u64, step: StepId) {
        if let Some(leases) = self.leases.get_mut(&instance) {
            leases.remove(&step);
            if leases.is_empty() {
                self.leases.remove(&instance);
            }
        }
    }

    /// An instance's session went, perhaps only to come back.
    pub fn session_gone(&mut self, instance: u64, key: SessionKey, now: Timestamp) {
        while let Some((at, id)) = self.gone.front().copied() {
            let is_new = now.millis_since(at) <= REMEMBERED_MS;
            if is_new && self.gone.len() < REMEMBERED_MAX {
                break;
            }
            self.gone.pop_front();
            if self.by_id.get(&id).is_some_and(|i| !i.is_there) {
                self.by_id.remove(&id);
            }
        }
        if let Some(instance_now) = self.by_id.get_mut(&instance)
            && instance_now.key == key
        {
            instance_now.is_there = false;
            self.gone.push_back((now, instance));
        }
    }

    pub fn has_work(&self) -> bool {
        !self.to_free.is_empty()
    }

    pub fn take_superseded(&mut self) -> Vec<SessionKey> {
        std::mem::take(&mut self.superseded)
    }
}

impl Work {
    /// A session that was not known here. False when a newer one of its worker is there: it gets
    /// nothing then. Finds the leases that its worker does not hold.
    pub(super) fn admit_session(&mut self, update: &SessionUpdate) -> bool {
        if update.instance == 0 {
            return true;
        }
        let newest = self.instances.by_id.get(&update.instance);
        let age = (update.number, update.key.gateway);
        if newest.is_some_and(|newest| (newest.number, newest.key.gateway) > age) {
            self.instances.superseded.push(update.key);
            return false;
        }
        let newest = Instance {
            number: update.number,
            key: update.key,
            is_there: true,
        };
        let before = self.instances.by_id.insert(update.instance, newest);
        if let Some(older) = before.filter(|before| before.is_there) {
            self.forget_session(older.key);
            self.instances.superseded.push(older.key);
        }
        let holds: BTreeSet<TaskId> = update.holds.iter().copied().collect();
        let leased = self.instances.leases.get(&update.instance);
        for step in leased.into_iter().flatten() {
            let Some(lease) = self.leases.get_mut(step) else {
                continue;
            };
            // One that was given to a newer session is that session's business.
            if lease.row.session > update.number {
                continue;
            }
            let task = TaskId {
                step: *step,
                attempt: lease.row.attempt,
            };
            if holds.contains(&task) {
                // Its gateway does not count it as one of this session's, so nor may its leader.
                lease.session = None;
            } else {
                self.instances.to_free.push_back(task);
            }
        }
        true
    }
}

impl Partition {
    /// A session came, changed or went. Its leases live on when it goes.
    pub(in crate::partition) fn update_session(&mut self, update: SessionUpdate) {
        let now = self.ledger.now();
        self.work.update_session(update, now);
        for session in self.work.instances.take_superseded() {
            self.effects
                .push(PartitionEffect::SessionSuperseded { session });
        }
    }

    /// Frees leases of which their workers said that they do not hold them, up to a number: the rest
    /// follows in the next turn. A leader that dies before it is done is no harm: the next one is told
    /// the same.
    pub(in crate::partition) fn free_leases(&mut self, rows: &dyn Rows) -> Result<(), Damage> {
        for _ in 0..LEASES_FREED_PER_TURN_MAX {
            let Some(task) = self.work.instances.to_free.pop_front() else {
                return Ok(());
            };
            // It may have been completed meanwhile, or have run out.
            let lease = self.work.leases.get(&task.step);
            let Some(lease) = lease.filter(|lease| lease.row.attempt == task.attempt) else {
                continue;
            };
            let worker = lease.row.worker.clone();
            self.work.remove(task.step, &mut self.ledger);
            self.effects.push(PartitionEffect::LeaseFreed { task });
            self.put_back(task.step, kind::STEP_LEASE_FREED, worker, rows)?;
        }
        Ok(())
    }

    /// A step whose lease is over without a word of its outcome waits again; after too many of that it
    /// is taken for poison.
    pub(super) fn put_back(
        &mut self,
        id: StepId,
        kind: &str,
        worker: String,
        rows: &dyn Rows,
    ) -> Result<(), Damage> {
        if !self.is_running(id, rows)? {
            return Err(Damage::Missing(format!("the running step {id} of a lease")));
        }
        if self.ends_here(id) {
            return Ok(());
        }
        let lost = self
            .executions
            .get(&id.execution)
            .and_then(|e| e.steps.get(&id.step))
            .map_or(0, |s| s.lost);
        if lost + 1 >= LEASES_LOST_MAX {
            let message =
                format!("{LEASES_LOST_MAX} workers went silent while they held this step");
            self.fail(id, error("LEASES_LOST", message, true), SYSTEM);
            return Ok(());
        }
        self.change_step(id, |step| {
            step.state = tidemill_rows::table::StepState::Pending;
            step.lost += 1;
        });
        self.record_step(
            id,
            NewRecord {
                detail: &worker,
                ..NewRecord::of(kind, SYSTEM)
            },
        );
        self.enqueue(id);
        Ok(())
    }
}
