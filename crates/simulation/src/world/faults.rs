//! Faults, by chance: several may be under way at once.

use tidemill_types::PartitionId;

use super::{Event, World};
use crate::{run, store::Crash};

/// See the module.
#[derive(Default)]
pub(super) struct Faults {
    /// Nothing more goes wrong.
    pub are_over: bool,
}

/// Milliseconds between two faults.
const PAUSE_MS: (u64, u64) = (80, 900);
/// How long a node is down, a link cut, a disk slow.
const SHORT_MS: (u64, u64) = (50, 900);
const LONG_MS: (u64, u64) = (900, 3_000);
/// Requests that are on their way when a leader is paused.
const REQUESTS_BEFORE_PAUSE: usize = 8;
/// Reads on a node that was paused.
const READS_OF_RESUMED: usize = 10;
/// A wall clock may be so wrong.
const SKEW_MS: u64 = 8_000;

fn a_while() -> u64 {
    let (least, most) = if run::chance(650) { SHORT_MS } else { LONG_MS };
    run::between(least, most)
}

impl World {
    pub(super) fn fault(&mut self) {
        if self.faults.are_over {
            return;
        }
        let node = self.any_machine();
        let group = PartitionId(run::between(0, u64::from(self.options.groups)) as u16);
        // Leaders are worth more.
        let node = match self.clients.leaders.get(&group) {
            Some(leader) if run::chance(450) && !self.nodes[*leader as usize - 1].is_gone => {
                *leader
            }
            _ => node,
        };
        self.strike(node, group);
        let ms = run::between(PAUSE_MS.0, PAUSE_MS.1);
        self.after(ms, Event::Fault);
    }

    fn others(&self, node: u64) -> Vec<u64> {
        let mut others = self.machines();
        others.retain(|other| *other != node);
        others
    }

    fn cut_off(&mut self, node: u64) {
        for other in self.others(node) {
            self.links.set_cut(node, other);
            self.links.set_cut(other, node);
        }
    }

    /// A node is paused in the midst of its work, answers to what it has sent wait for it, and then it hears nothing
    /// of another leader, until a while after it has gone on.
    pub(super) fn pause_and_deafen(&mut self, node: u64) {
        if self.faults.are_over || !self.nodes[node as usize - 1].pause() {
            return;
        }
        let ms = run::between(LONG_MS.0, LONG_MS.1);
        self.after(run::between(2, SHORT_MS.0), Event::Deafen(node, true));
        self.after(ms, Event::Resume(node));
        let ms = ms + run::between(SHORT_MS.0, SHORT_MS.1);
        self.after(ms, Event::Deafen(node, false));
    }

    /// A paused node goes on, and whoever took it for the leader reads there.
    pub(super) fn resume(&mut self, node: u64) {
        self.nodes[node as usize - 1].resume();
        for _ in 0..READS_OF_RESUMED {
            self.after(run::between(1, SHORT_MS.0), Event::ReadAt(node));
        }
    }

    fn strike(&mut self, node: u64, group: PartitionId) {
        let others = self.others(node);
        let one = others[run::between(0, others.len() as u64 - 1) as usize];
        let ms = a_while();
        let index = node as usize - 1;
        let what = match run::between(0, 113) {
            0..=9 => {
                self.crash(node, Crash::Killed, ms);
                "processes killed"
            }
            10..=23 => {
                self.crash(node, Crash::PowerCut, ms);
                "power cuts"
            }
            24..=29 => {
                for node in self.machines() {
                    self.crash(node, Crash::PowerCut, run::between(20, 600));
                }
                "power cuts of all nodes"
            }
            30..=39 => {
                if self.nodes[index].pause() {
                    self.after(ms, Event::Resume(node));
                }
                "pauses"
            }
            40..=49 => {
                self.cut_off(node);
                self.after(ms, Event::Heal);
                "nodes cut off"
            }
            50..=55 => {
                for other in others {
                    self.links.set_cut(node, other);
                }
                self.after(ms, Event::Heal);
                "nodes that are not heard"
            }
            56..=61 => {
                for other in others {
                    self.links.set_cut(other, node);
                }
                self.after(ms, Event::Heal);
                "nodes that hear nothing"
            }
            62..=66 => {
                self.links.set_cut(node, one);
                self.links.set_cut(one, node);
                self.after(ms, Event::Heal);
                "links cut"
            }
            67..=72 => {
                for other in others {
                    self.links.set_lossy(node, other);
                    self.links.set_lossy(other, node);
                }
                self.after(ms, Event::Heal);
                "links lossy"
            }
            73..=77 => {
                for other in others {
                    self.links.set_slow(node, other);
                    self.links.set_slow(other, node);
                }
                self.after(ms, Event::Heal);
                "links slow"
            }
            78..=84 => {
                self.nodes[index].disk.set_slow(true);
                self.after(ms, Event::Mend(node));
                "disks slow"
            }
            85..=87 => {
                self.nodes[index].disk.fail_next_sync();
                "syncs that fail"
            }
            88..=91 => {
                self.nodes[index].disk.set_full(true);
                self.after(ms, Event::Mend(node));
                "disks full"
            }
            92..=95 => {
                let skew = run::between(0, 2 * SKEW_MS);
                self.nodes[index].skew_ms = skew as i64 - SKEW_MS as i64;
                "clocks wrong"
            }
            96..=99 => {
                self.nodes[index].disk.fail_flushes();
                "flushes of the state that fail"
            }
            100..=103 => {
                self.nodes[index].disk.fail_next_write();
                "writes of the state that fail"
            }
            104..=109 => {
                let leader = self.clients.leaders.get(&group).copied().unwrap_or(node);
                for _ in 0..REQUESTS_BEFORE_PAUSE {
                    self.client_asks();
                }
                let after = run::between(1, SHORT_MS.0 / 4);
                self.after(after, Event::Pause(leader));
                "pauses of nodes that hear nothing afterwards"
            }
            _ => {
                self.nodes[index].hand_over(group, one);
                "hand-overs asked for"
            }
        };
        run::count(what);
        run::note(what, &[node, one, ms]);
    }
}
