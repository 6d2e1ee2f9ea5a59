//! A change of one group's members, on its leader.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
};

use openraft::{
    ChangeMembers, ServerState,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, RaftError},
};
use tidemill_proto::peer::v1::{
    change_member_request::Change, change_member_response::Result as Changed,
};
use tonic::Status;

use crate::{
    codec::node_from_wire,
    group::Group,
    raft::{Peer, Raft, Types},
};

/// Entries that a learner may lack when it becomes a voter: it must not hold up commits for long.
const PROMOTE_LAG_MAX: u64 = 100;
/// Why a change is to be asked for again.
pub(crate) const FOUND_HALF_MADE: &str =
    "a change of the voters that was half made has been made first";

/// Changes the members of a group, if this node leads it. `check_rest` refuses to remove a voter from beside these
/// others.
pub(crate) async fn change<C, F>(
    group: &Group,
    change: Change,
    check_rest: C,
) -> Result<Changed, Status>
where
    C: FnOnce(Vec<u64>) -> F,
    F: Future<Output = Result<(), Status>>,
{
    let raft = group.raft();
    let now = Now::of(raft, &change);
    if !now.leads {
        return Ok(Changed::NotLeader(now.leader.unwrap_or(0)));
    }
    let last = now.last;
    if let Change::TransferTo(id) = change {
        if !now.is_voter {
            return Ok(Changed::Refused("it is not a voter".to_owned()));
        }
        return raft
            .trigger()
            .transfer_leader(id)
            .await
            .map(|()| Changed::Done(last))
            .map_err(|error| Status::unavailable(error.to_string()));
    }
    // What this leader only has in its log may be lost with it: a change that was told to be made, and was not, would
    // let somebody end the machine of a voter.
    if !now.is_committed {
        let why = "a change of the members is not committed yet";
        return Ok(Changed::Refused(why.to_owned()));
    }
    if now.is_joint {
        // Voters change in two steps, and the leader was lost that would have made the second one.
        let rest = ChangeMembers::AddVoterIds(BTreeSet::new());
        return match raft.change_membership(rest, true).await {
            Ok(_) => Ok(Changed::Refused(FOUND_HALF_MADE.to_owned())),
            Err(error) => failed(error),
        };
    }
    let written = match change {
        Change::Add(node) => {
            let (id, node) =
                node_from_wire(node).map_err(|e| Status::invalid_argument(e.to_string()))?;
            if now.known.as_ref() == Some(&node) {
                return Ok(Changed::Done(last));
            }
            if now.known.is_some() {
                raft.change_membership(ChangeMembers::SetNodes(BTreeMap::from([(id, node)])), true)
                    .await
            } else {
                raft.add_learner(id, node, false).await
            }
        }
        Change::Promote(_) if now.is_voter => return Ok(Changed::Done(last)),
        Change::Promote(_) if now.known.is_none() => {
            return Ok(Changed::Refused("it is not a member yet".to_owned()));
        }
        Change::Promote(id) => {
            if now.matched + PROMOTE_LAG_MAX < last {
                return Ok(Changed::Refused("it has not caught up yet".to_owned()));
            }
            raft.change_membership(ChangeMembers::AddVoterIds(BTreeSet::from([id])), true)
                .await
        }
        Change::Remove(_) if now.known.is_none() => return Ok(Changed::Done(last)),
        Change::Remove(id) => {
            if now.is_voter {
                check_rest(now.others).await?;
            }
            let id = BTreeSet::from([id]);
            if now.is_voter {
                raft.change_membership(ChangeMembers::RemoveVoters(id), false)
                    .await
            } else {
                raft.change_membership(ChangeMembers::RemoveNodes(id), false)
                    .await
            }
        }
        Change::TransferTo(_) => return Ok(Changed::Done(last)),
    };
    match written {
        Ok(written) => Ok(Changed::Done(written.log_id.index)),
        Err(error) => failed(error),
    }
}

fn failed(error: RaftError<Types, ClientWriteError<Types>>) -> Result<Changed, Status> {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            Ok(Changed::NotLeader(forward.leader_id.unwrap_or(0)))
        }
        RaftError::APIError(error) => Ok(Changed::Refused(error.to_string())),
        RaftError::Fatal(error) => Err(Status::unavailable(error.to_string())),
    }
}

/// How things are for a change, as this node knows it.
struct Now {
    leads: bool,
    leader: Option<u64>,
    /// Index of the log's last entry.
    last: u64,
    /// The members that count now are committed.
    is_committed: bool,
    /// They are of two steps: the voters from before a change, and those after it.
    is_joint: bool,
    /// The node concerned, if it is a member.
    known: Option<Peer>,
    is_voter: bool,
    /// The other voters.
    others: Vec<u64>,
    /// How much of the log the node concerned has.
    matched: u64,
}

impl Now {
    fn of(raft: &Raft, change: &Change) -> Self {
        let node = match change {
            Change::Add(node) => node.id,
            Change::Promote(id) | Change::Remove(id) | Change::TransferTo(id) => *id,
        };
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = &metrics.membership_config;
        let membership = members.membership();
        let replication = metrics.replication.as_ref();
        let matched = replication.and_then(|replication| replication.get(&node).copied().flatten());
        Self {
            leads: metrics.state == ServerState::Leader,
            leader: metrics.current_leader,
            last: metrics.last_log_index.unwrap_or(0),
            is_committed: metrics.committed_membership_config.log_id() == members.log_id(),
            is_joint: membership.get_joint_config().len() > 1,
            known: membership.get_node(&node).cloned(),
            is_voter: membership.voter_ids().any(|id| id == node),
            others: membership.voter_ids().filter(|id| *id != node).collect(),
            matched: matched.map_or(0, |matched| matched.index),
        }
    }
}
