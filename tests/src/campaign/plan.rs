//! Which fault strikes which node when, and for how long: all of it from a seed, before anything runs.

use std::{collections::BTreeMap, fmt};

use crate::random::Random;

/// The first fault comes after this time: there must be something that it can harm.
const FIRST_MS: u64 = 1_500;
/// Between the beginnings of two faults.
const GAP_MS: (u64, u64) = (400, 3_600);
/// How long most faults last. An election takes about two seconds.
const LENGTH_MS: (u64, u64) = (1_000, 7_000);

/// What is done to the cluster. Nodes are numbers from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL; started again at the end.
    Kill(u64),
    /// SIGKILL of all nodes at once; what they wrote and did not sync is there still.
    KillAll,
    /// SIGSTOP, then SIGCONT.
    Pause(u64),
    /// SIGTERM and a drain; started again at the end, with the other binary if there is one.
    Restart(u64),
    /// No packet between this node and the other nodes; clients reach it.
    Isolate(u64),
    /// No packet between this node and anybody.
    Unplug(u64),
    /// No packet from the first to the second; the other way all is well.
    OneWay(u64, u64),
    /// It hears everybody and nobody hears it.
    Mute(u64),
    /// The nodes of this list on one side, the others on the other; clients reach all.
    Split(Vec<u64>),
    /// Its link takes little, and late.
    Slow(u64),
    /// So many packets of a hundred to and from it are lost.
    Lossy(u64, u64),
    /// Its clock jumps by so many milliseconds, and back at the end.
    Skew(u64, i64),
    /// Its disk has not a byte left.
    DiskFull(u64),
    /// fsync takes so many milliseconds longer.
    SlowDisk(u64, u64),
    /// fsync fails with EIO.
    SyncError(u64),
    /// Writes to its files fail with EIO, if `true` in their midst.
    WriteError(u64, bool),
    /// Its disk takes nothing more, and forgets all that was not synced; it is killed, and starts again on that.
    PowerCut(u64),
    /// The power of all nodes at once.
    Blackout,
    /// A new node joins, becomes a voter by a snapshot or the log, and is removed at the end.
    Member,
}

impl Fault {
    /// Its stable name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::KillAll => "kill_all",
            Self::Pause(_) => "pause",
            Self::Restart(_) => "restart",
            Self::Isolate(_) => "isolate",
            Self::Unplug(_) => "unplug",
            Self::OneWay(..) => "one_way",
            Self::Mute(_) => "mute",
            Self::Split(_) => "split",
            Self::Slow(_) => "slow",
            Self::Lossy(..) => "lossy",
            Self::Skew(..) => "skew",
            Self::DiskFull(_) => "disk_full",
            Self::SlowDisk(..) => "slow_disk",
            Self::SyncError(_) => "sync_error",
            Self::WriteError(..) => "write_error",
            Self::PowerCut(_) => "power_cut",
            Self::Blackout => "blackout",
            Self::Member => "member",
        }
    }

    /// What it strikes, for people.
    #[must_use]
    pub fn target(&self) -> String {
        match self {
            Self::Kill(n)
            | Self::Pause(n)
            | Self::Restart(n)
            | Self::Isolate(n)
            | Self::Unplug(n)
            | Self::Mute(n)
            | Self::Slow(n)
            | Self::DiskFull(n)
            | Self::SyncError(n)
            | Self::PowerCut(n) => format!("node {n}"),
            Self::OneWay(from, to) => format!("{from} to {to}"),
            Self::Split(side) => format!("{side:?} from the others"),
            Self::Lossy(n, percent) => format!("node {n}, {percent} %"),
            Self::WriteError(n, torn) => format!("node {n}{}", if *torn { ", torn" } else { "" }),
            Self::SlowDisk(n, ms) => format!("node {n}, {ms} ms"),
            Self::Skew(n, ms) => format!("node {n}, {ms} ms"),
            Self::KillAll | Self::Blackout => "all nodes".to_owned(),
            Self::Member => "one more".to_owned(),
        }
    }

    /// What two faults must not have at the same time.
    fn claims(&self, nodes: u64) -> Vec<(&'static str, u64)> {
        match self {
            Self::Kill(n)
            | Self::Pause(n)
            | Self::Restart(n)
            | Self::DiskFull(n)
            | Self::SyncError(n)
            | Self::WriteError(n, _)
            | Self::PowerCut(n) => vec![("process", *n)],
            Self::KillAll | Self::Blackout => (1..=nodes).map(|n| ("process", n)).collect(),
            Self::Slow(n) => vec![("slow", *n)],
            Self::Lossy(n, _) => vec![("lossy", *n)],
            Self::Skew(n, _) => vec![("clock", *n)],
            Self::SlowDisk(n, _) => vec![("slow_disk", *n)],
            Self::Member => vec![("members", 0)],
            // Cuts are counted, so they may lie over each other; the same one twice would add nothing.
            Self::Isolate(n) | Self::Unplug(n) | Self::Mute(n) => vec![("cut", *n)],
            Self::OneWay(from, _) => vec![("one_way", *from)],
            Self::Split(_) => vec![("split", 0)],
        }
    }
}

/// A fault with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// From the beginning of the load, in milliseconds.
    pub at_ms: u64,
    /// When it ends.
    pub end_ms: u64,
    /// What.
    pub fault: Fault,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, target) = (self.fault.name(), self.fault.target());
        write!(
            f,
            "{:>7} to {:>7} ms  {name} {target}",
            self.at_ms, self.end_ms
        )
    }
}

/// The faults of a campaign of so many milliseconds, in the order in which they begin.
#[must_use]
pub fn plan(seed: u64, nodes: u64, length_ms: u64) -> Vec<Planned> {
    let mut random = Random::new(seed, 1);
    let mut planned = Vec::new();
    let mut taken: BTreeMap<(&'static str, u64), u64> = BTreeMap::new();
    // Faults come from a deck, so that a short campaign sees most kinds instead of one kind often.
    let mut deck: Vec<u64> = Vec::new();
    let mut at_ms = FIRST_MS;
    while at_ms + LENGTH_MS.0 < length_ms {
        if deck.is_empty() {
            deck = (0..KINDS).collect();
            random.shuffle(&mut deck);
        }
        let kind = deck.pop().expect("it was just filled");
        let fault = draw(kind, nodes, &mut random);
        let length = random.between(LENGTH_MS.0, LENGTH_MS.1);
        // Membership needs time to be worth anything.
        let length = if fault == Fault::Member {
            length + 5_000
        } else {
            length
        };
        let end_ms = (at_ms + length).min(length_ms);
        let claims = fault.claims(nodes);
        let is_free = claims
            .iter()
            .all(|claim| taken.get(claim).is_none_or(|until| *until < at_ms));
        if is_free {
            taken.extend(claims.into_iter().map(|claim| (claim, end_ms)));
            planned.push(Planned {
                at_ms,
                end_ms,
                fault,
            });
        }
        at_ms += random.between(GAP_MS.0, GAP_MS.1);
    }
    planned
}

/// How many cards [`draw`] knows.
const KINDS: u64 = 23;

fn draw(kind: u64, nodes: u64, random: &mut Random) -> Fault {
    let n = random.between(1, nodes);
    match kind {
        0 | 1 => Fault::Kill(n),
        2 => Fault::KillAll,
        3 | 4 => Fault::Pause(n),
        5 => Fault::Restart(n),
        6 | 7 => Fault::Isolate(n),
        8 => Fault::Unplug(n),
        9 => {
            let step = random.between(1, nodes - 1);
            Fault::OneWay(n, (n - 1 + step) % nodes + 1)
        }
        10 => Fault::Mute(n),
        11 => {
            let mut all: Vec<u64> = (1..=nodes).collect();
            random.shuffle(&mut all);
            all.truncate(random.between(1, nodes / 2) as usize);
            Fault::Split(all)
        }
        12 => Fault::Slow(n),
        13 => Fault::Lossy(n, *random.pick(&[5, 20, 40])),
        14 | 15 => Fault::Skew(n, *random.pick(&[-5_000, -1_000, -200, 200, 1_000, 5_000])),
        16 => Fault::DiskFull(n),
        17 => Fault::SyncError(n),
        18 => Fault::PowerCut(n),
        19 => Fault::Blackout,
        20 => Fault::SlowDisk(n, *random.pick(&[20, 200, 1_000])),
        21 => Fault::WriteError(n, random.percent(50)),
        _ => Fault::Member,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_plan_and_another_one_another() {
        let first = plan(7, 3, 300_000);
        assert_eq!(first, plan(7, 3, 300_000));
        assert_ne!(first, plan(8, 3, 300_000));
        assert!(first.len() > 80, "{}", first.len());
        assert!(
            first
                .iter()
                .all(|p| p.at_ms < p.end_ms && p.end_ms <= 300_000)
        );
    }

    #[test]
    fn every_fault_comes_and_faults_overlap() {
        let all = plan(1, 5, 300_000);
        let names: std::collections::BTreeSet<_> = all.iter().map(|p| p.fault.name()).collect();
        assert_eq!(names.len(), 19, "{names:?}");
        let overlaps = all
            .windows(2)
            .filter(|two| two[1].at_ms < two[0].end_ms)
            .count();
        assert!(overlaps * 2 > all.len(), "{overlaps} of {}", all.len());
    }

    #[test]
    fn one_process_has_one_fault_at_a_time() {
        for seed in 0..50 {
            let mut until: BTreeMap<(&str, u64), u64> = BTreeMap::new();
            for planned in plan(seed, 3, 120_000) {
                for claim in planned.fault.claims(3) {
                    let before = until.insert(claim, planned.end_ms).unwrap_or(0);
                    assert!(before == 0 || before < planned.at_ms, "{planned}");
                }
            }
        }
    }
}
