//! Faults: leaders that change, nodes that go down and are rebuilt, clocks that jump, groups that
//! cannot commit for a while, workers that die.

use tidemill_core::command::PartitionCommand;

use super::{Simulation, TRANSITION_MOMENTS, env::Event, options::Deposed};

/// Between two faults, in milliseconds.
const EVERY_MS: (u64, u64) = (300, 6_000);
/// Clocks jump at most so far.
const JUMP_MS_MAX: u64 = 30_000;

impl Simulation {
    /// Something goes wrong, and the next fault is planned.
    pub(super) fn fault(&mut self) {
        if !self.env.faults {
            return;
        }
        let (least, most) = EVERY_MS;
        let ms = self.env.random.between(least, most);
        self.env.after(ms, Event::Fault);
        let group = self.env.random.index(self.partitions.len() + 1);
        let node = self.env.random.index(self.env.options.nodes);
        match self.env.random.below(100) {
            0..=34 => self.env.after(0, Event::Depose { group }),
            35..=44 => self.crash(node),
            45..=59 => self.jump(node),
            60..=69 => {
                self.env.count("groups stalled");
                let until = self.env.now_ms + self.env.random.between(100, 4_000);
                self.with_group(group, |_, stall| *stall = until);
            }
            70..=79 => {
                // While it decides, a node's rows are not taken from under it.
                let free = !self.is_deciding(group, node);
                if free {
                    self.install(group, node);
                }
            }
            _ => {
                let worker = self.env.random.index(self.workers.all.len());
                self.kill_worker(worker);
            }
        }
    }

    /// Deposes the leader that is to be, at the moment that was chosen.
    pub(super) fn depose_in_transition(&mut self) {
        let rows = &self.catalog.truth.rows;
        if crate::invariant::liveness::flow_in_transition(rows).is_none() {
            return;
        }
        self.env.count(TRANSITION_MOMENTS);
        let now = self.env.counts[TRANSITION_MOMENTS] - 1;
        let Deposed::At {
            moment,
            group,
            crash,
        } = self.env.options.deposed
        else {
            return;
        };
        if moment != now {
            return;
        }
        let leader = match group {
            0 => self.catalog.leader,
            number => self.partitions[number - 1].leader,
        };
        match leader {
            Some(node) if crash => self.crash(node),
            _ => self.happen(Event::Depose { group }),
        }
    }

    fn jump(&mut self, node: usize) {
        let far = self.env.random.between(1, JUMP_MS_MAX) as i64;
        let back = self.env.random.chance(500);
        self.env.count(if back {
            "clocks jumped back"
        } else {
            "clocks jumped forward"
        });
        let jump = if back { -far } else { far };
        let offset = &mut self.env.clock_offset_ms[node];
        let most = JUMP_MS_MAX as i64;
        *offset = (*offset + jump).clamp(-most, most);
        let offset = *offset;
        self.env.note("clock", &[node as u64, offset as u64]);
        if back {
            return;
        }
        // Its actors notice, and have it recorded.
        for group in 1..=self.partitions.len() {
            if self.partitions[group - 1].leader == Some(node) {
                let by_ms = far as u64;
                self.tell(group, PartitionCommand::ClockJumped { by_ms });
            }
        }
    }

    pub(super) fn crash(&mut self, node: usize) {
        // A majority stays up.
        if self.up.iter().filter(|up| !**up).count() * 2 + 2 >= self.up.len() || !self.up[node] {
            return;
        }
        self.env.count("nodes crashed");
        self.env.note("crash", &[node as u64]);
        self.up[node] = false;
        self.catalog.crash(&mut self.env, node);
        for group in &mut self.partitions {
            group.crash(&mut self.env, node);
        }
        let ms = self.env.random.between(100, 8_000);
        self.env.after(ms, Event::Restart { node });
    }

    /// A node that was down comes back.
    pub(super) fn restart(&mut self, node: usize) {
        self.env.note("restart", &[node as u64]);
        self.up[node] = true;
        self.catalog.restart(&mut self.env, node);
        for group in &mut self.partitions {
            group.restart(&mut self.env, node);
        }
    }

    /// A worker loses its stream, and perhaps its life.
    fn kill_worker(&mut self, worker: usize) {
        if !self.workers.all[worker].is_connected {
            return;
        }
        let lives = self.env.random.chance(600);
        self.env.count(if lives {
            "worker streams broken"
        } else {
            "workers killed"
        });
        self.env
            .note("worker gone", &[worker as u64, u64::from(lives)]);
        if lives && self.env.random.chance(500) {
            self.leave_ghost(worker);
        }
        // Its gateway may be gone with it, and nobody says so.
        let is_said = !self.env.random.chance(300);
        for (partition, gone) in self.workers.disconnect(worker) {
            if is_said {
                self.tell(usize::from(partition.0), gone);
            }
        }
        let ms = if lives {
            self.env.random.between(1, 2_000)
        } else {
            self.workers.kill(&mut self.env, worker);
            self.env.random.between(100, 15_000)
        };
        self.env.after(ms, Event::WorkerBack { worker });
    }

    /// The gateway that the worker has left lives, and does not know: it goes on speaking of it, to new
    /// leaders too, until it finds out.
    fn leave_ghost(&mut self, worker: usize) {
        for group in 1..=self.partitions.len() {
            let partition = self.partitions[group - 1].partition;
            let Some(said) = self.workers.haunt(&self.env, worker, partition) else {
                return;
            };
            let PartitionCommand::Session(update) = &said else {
                return;
            };
            self.env.count("sessions of workers that have gone");
            let gone = PartitionCommand::GatewayGone {
                gateway: update.key.gateway,
            };
            let ms = self.env.random.between(0, 6_000);
            let command = Box::new(said);
            self.env.after(ms, Event::Say { group, command });
            let ms = ms + self.env.random.between(10, 8_000);
            let command = Box::new(gone);
            self.env.after(ms, Event::Say { group, command });
        }
    }
}
