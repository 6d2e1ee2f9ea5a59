//! Who belongs to the cluster. An operator adds nodes under new ids, which learn and then vote, and removes nodes,
//! whose machines end some time later: one change at a time, group by group, repeated until it is answered. So does
//! production (`crates/replica/src/replica.rs`), whose change of one group is the one that runs here.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use openraft::async_runtime::WatchReceiver as _;
use tidemill_proto::peer::v1::{
    change_member_request::Change, change_member_response::Result as Changed,
};
use tidemill_types::PartitionId;
use tonic::Status;

use super::{Event, Outbox, Said, World, lock, node::Node};
use crate::{
    change::{self, FOUND_HALF_MADE},
    codec, raft,
    run::{self, between},
    store::Crash,
};

/// See the module.
pub(super) struct Members {
    /// Those that belong to it once the change under way is made.
    nodes: BTreeSet<u64>,
    /// What is left of the change under way.
    steps: VecDeque<(PartitionId, Change)>,
    /// Counts what the operator asks.
    asked: u64,
}

/// Milliseconds before the first change, and between two of them.
const FIRST_MS: (u64, u64) = (1_000, 4_000);
const PAUSE_MS: (u64, u64) = (300, 2_500);
/// How long the operator waits for an answer, and before it asks again.
const TIMEOUT_MS: (u64, u64) = (800, 3_000);
const RETRY_MS: (u64, u64) = (20, 250);
/// How long a removed node may live on.
const RETIRED_MS: (u64, u64) = (0, 1_500);

impl Members {
    pub fn new(nodes: u64) -> Self {
        Self {
            nodes: (1..=nodes).collect(),
            steps: VecDeque::new(),
            asked: 0,
        }
    }

    pub fn has(&self, node: u64) -> bool {
        self.nodes.contains(&node)
    }

    /// Why a node does not know them yet, if it does not.
    fn unknown_to(&self, node: &Node, group: PartitionId) -> Option<String> {
        let (voters, learners) = node.members(group)?;
        let is_known = learners.is_empty() && voters == [self.nodes.clone()];
        (!is_known).then(|| {
            format!(
                "group {group}: node {} takes {voters:?} for its voters and {learners:?} for learners, they are {:?}",
                node.id, self.nodes
            )
        })
    }
}

impl Node {
    /// Changes a group's members, if it leads it.
    pub fn change(
        &mut self,
        group: PartitionId,
        change: Change,
        alive: BTreeSet<u64>,
        outbox: &Outbox,
        asked: u64,
    ) {
        let Some((process, opened)) = self.serving() else {
            return;
        };
        let own = opened.server.groups[&group].clone();
        let (outbox, node, number) = (Arc::clone(outbox), self.id, self.process);
        let _in_runtime = process.runtime.enter();
        tokio::spawn(async move {
            let check = |others: Vec<u64>| async move {
                let answer = others.iter().filter(|id| alive.contains(id)).count();
                if answer * 2 > others.len() {
                    return Ok(());
                }
                Err(Status::failed_precondition("no majority"))
            };
            let answer = change::change(&own, change, check).await;
            let answer = answer.map_err(|status| status.to_string());
            lock(&outbox).push((node, number, group, Said::Changed { asked, answer }));
        });
    }

    /// The voters of a group, more than once in a change, and its learners, as this node knows them.
    pub fn members(&self, group: PartitionId) -> Option<(Vec<BTreeSet<u64>>, BTreeSet<u64>)> {
        let (_, opened) = self.serving()?;
        let metrics = opened.server.groups[&group].raft().metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        Some((
            membership.get_joint_config().clone(),
            membership.learner_ids().collect(),
        ))
    }
}

impl World {
    /// Nodes whose machines have not ended for good.
    pub(super) fn machines(&self) -> Vec<u64> {
        let machines = self.nodes.iter().filter(|node| !node.is_gone);
        machines.map(|node| node.id).collect()
    }

    pub(super) fn any_machine(&self) -> u64 {
        let machines = self.machines();
        machines[between(0, machines.len() as u64 - 1) as usize]
    }

    /// The nodes that belong to the cluster.
    pub(super) fn member_nodes(&self) -> Vec<&Node> {
        let is_member = |node: &&Node| self.members.has(node.id);
        self.nodes.iter().filter(is_member).collect()
    }

    pub(super) fn members_later(&mut self) {
        let (least, most) = match self.members.asked {
            0 => FIRST_MS,
            _ => PAUSE_MS,
        };
        self.after(between(least, most), Event::Members);
    }

    /// The operator wants another change.
    pub(super) fn members_next(&mut self) {
        if self.faults.are_over {
            return;
        }
        let (now, usual) = (self.members.nodes.len() as u64, self.options.nodes);
        let adds = now < usual || (now == usual && run::chance(700));
        let groups: Vec<_> = self.truths.keys().copied().collect();
        let steps = &mut self.members.steps;
        if adds {
            let id = self.nodes.len() as u64 + 1;
            run::note("add", &[id]);
            let peer = codec::node_to_wire(id, &raft::Peer::default());
            for group in groups {
                steps.push_back((group, Change::Add(peer.clone())));
                steps.push_back((group, Change::Promote(id)));
            }
            self.members.nodes.insert(id);
            self.nodes.push(Node::new(id));
            self.start(id);
        } else {
            let at = between(0, now - 1) as usize;
            let id = *self.members.nodes.iter().nth(at).expect("one of them");
            run::note("remove", &[id]);
            steps.extend(groups.into_iter().map(|group| (group, Change::Remove(id))));
            self.members.nodes.remove(&id);
        }
        self.change_members();
    }

    /// Asks for what is next, or again.
    pub(super) fn change_members(&mut self) {
        let Some((group, change)) = self.members.steps.front().cloned() else {
            return;
        };
        self.members.asked += 1;
        let asked = self.members.asked;
        let alive = self.nodes.iter().filter(|node| node.is_serving());
        let alive: BTreeSet<u64> = alive.map(|node| node.id).collect();
        let node = self.target(group);
        self.nodes[node as usize - 1].change(group, change, alive, &self.outbox, asked);
        let ms = between(TIMEOUT_MS.0, TIMEOUT_MS.1);
        self.after(ms, Event::ChangeAgain(asked));
    }

    /// Nothing was heard, or nothing good.
    pub(super) fn change_again(&mut self, asked: u64) {
        if self.members.asked == asked {
            self.change_members();
        }
    }

    pub(super) fn changed(&mut self, asked: u64, answer: Result<Changed, String>) {
        run::tell(|| format!("change {asked}: {answer:?}"));
        let Some((group, change)) = self.members.steps.front().cloned() else {
            return;
        };
        if self.members.asked != asked {
            return;
        }
        match answer {
            Ok(Changed::Done(_)) => {
                self.members.steps.pop_front();
                self.members.asked += 1;
                if !self.members.steps.is_empty() {
                    return self.change_members();
                }
                match change {
                    Change::Remove(id) => {
                        run::count("members removed");
                        let ms = between(RETIRED_MS.0, RETIRED_MS.1);
                        self.after(ms, Event::Retire(id));
                    }
                    Change::Add(_) | Change::Promote(_) | Change::TransferTo(_) => {
                        run::count("members added");
                    }
                }
                self.members_later();
                return;
            }
            Ok(Changed::NotLeader(leader)) => {
                match leader {
                    0 => self.clients.leaders.remove(&group),
                    leader => self.clients.leaders.insert(group, leader),
                };
            }
            Ok(Changed::Refused(why)) if why == FOUND_HALF_MADE => {
                run::count("changes of members found half made");
            }
            Ok(Changed::Refused(_)) => run::count("changes of members refused"),
            Err(_) => run::count("changes of members put off"),
        }
        let ms = between(RETRY_MS.0, RETRY_MS.1);
        self.after(ms, Event::ChangeAgain(asked));
    }

    /// A removed node's machine ends, for good.
    pub(super) fn retire(&mut self, node: u64) {
        run::note("retire", &[node]);
        let at = &mut self.nodes[node as usize - 1];
        at.is_gone = true;
        at.end(Crash::Killed);
        self.links.set_down(node, true);
    }

    /// What of the members has not come to rest, if anything.
    pub(super) fn members_unfinished(&self) -> Option<String> {
        if let Some((group, change)) = self.members.steps.front() {
            return Some(format!("group {group}: not made yet: {change:?}"));
        }
        let nodes = self.member_nodes();
        self.truths.keys().find_map(|group| {
            let mut nodes = nodes.iter();
            nodes.find_map(|node| self.members.unknown_to(node, *group))
        })
    }
}
