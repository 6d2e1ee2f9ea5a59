//! Faults: leaders that change, nodes that go down and are rebuilt, clocks that jump, groups that
//! cannot commit for a while, workers that die.

use super::{Simulation, env::Event};

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
    }

    fn crash(&mut self, node: usize) {
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

    fn kill_worker(&mut self, worker: usize) {
        let Some(gone) = self.workers.disconnect(worker) else {
            return;
        };
        self.env.count("workers killed");
        self.env.note("worker killed", &[worker as u64]);
        // Its gateway may be gone with it, and nobody says so.
        if !self.env.random.chance(300) {
            self.tell_partitions(&gone);
        }
        let ms = self.env.random.between(100, 15_000);
        self.env.after(ms, Event::WorkerBack { worker });
    }
}
