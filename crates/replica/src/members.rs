//! Changes of the members: of one group on its leader, and of all groups from anywhere.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use openraft::{ServerState, async_runtime::WatchReceiver};
use tidemill_proto::peer::v1::{
    self as peer, change_member_request::Change, change_member_response::Result as Changed,
};
use tidemill_types::{NodeId, PartitionId};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Request, Status};

use crate::{
    ChangeError, change,
    directory::Directory,
    group::Group,
    handover::ask,
    limits::{CHANGE_TIMEOUT, MEMBER_CALL_TIMEOUT, RETRY_PAUSE},
    network::member_client,
};

/// Changes the members of one group, if this node leads it.
pub(crate) async fn change_here(
    directory: &Directory,
    group: &Group,
    change: Change,
) -> Result<Changed, Status> {
    let check = |others| check_rest(directory, group.id(), others);
    change::change(group, change, check).await
}

/// Refuses to remove a voter when the others would have no majority that answers: the change could not be
/// committed, and nor could anything after it.
async fn check_rest(
    directory: &Directory,
    group: PartitionId,
    others: Vec<u64>,
) -> Result<(), Status> {
    let answers = others.iter().map(|id| async {
        let id = NodeId(*id);
        id == directory.node() || ask(directory, id).await.is_some()
    });
    let answers = futures::future::join_all(answers).await;
    let alive = answers.into_iter().filter(|answers| *answers).count();
    if alive * 2 > others.len() {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "group {group} would be left with {} voters, of which {alive} answer: no majority",
        others.len()
    )))
}

/// Asks around until the change of one group is made; gives the leader's last log index then.
pub(crate) struct Changer<'a> {
    directory: &'a Directory,
    /// Where members are reached, before this node knows any.
    addresses: BTreeMap<u64, String>,
    deadline: Instant,
}

impl<'a> Changer<'a> {
    pub fn new(directory: &'a Directory) -> Self {
        let addresses = directory
            .members()
            .into_iter()
            .map(|member| (member.id.0, member.peer))
            .collect();
        Self {
            directory,
            addresses,
            deadline: Instant::now() + CHANGE_TIMEOUT,
        }
    }

    /// Asks the node at `address` for the cluster that it is part of.
    pub async fn learn(&mut self, address: &str) -> Result<peer::StatusResponse, ChangeError> {
        let channel = self
            .directory
            .peers()
            .channel_to_address(address)
            .map_err(|error| ChangeError::Invalid(format!("{address:?}: {error}")))?;
        loop {
            let mut request = Request::new(peer::StatusRequest {});
            request.set_timeout(MEMBER_CALL_TIMEOUT);
            let why = match member_client(channel.clone()).status(request).await {
                Ok(status) => {
                    let status = status.into_inner();
                    if status.partitions > 0 {
                        let nodes = status.nodes.iter();
                        self.addresses
                            .extend(nodes.map(|node| (node.id, node.peer.clone())));
                        return Ok(status);
                    }
                    "it is not part of a cluster yet".to_owned()
                }
                Err(status) if status.code() == Code::PermissionDenied => {
                    return Err(ChangeError::Conflict(status.message().to_owned()));
                }
                Err(status) => status.to_string(),
            };
            self.pause(&format!("{address}: {why}")).await?;
        }
    }

    async fn pause(&self, why: &str) -> Result<(), ChangeError> {
        if Instant::now() + RETRY_PAUSE >= self.deadline {
            return Err(ChangeError::Unavailable(why.to_owned()));
        }
        sleep(RETRY_PAUSE).await;
        Ok(())
    }

    /// Changes one group, wherever it is led.
    pub async fn change(&self, group: PartitionId, change: &Change) -> Result<u64, ChangeError> {
        let mut next = self
            .directory
            .get(group)
            .and_then(|group| group.leadership().borrow().leader)
            .map(|node| node.0);
        let mut others = self.addresses.keys().copied().cycle();
        loop {
            let Some(node) = next.take().or_else(|| others.next()) else {
                return Err(ChangeError::Unavailable(
                    "this node is not part of a cluster".to_owned(),
                ));
            };
            let why = match self.ask(node, group, change.clone()).await {
                Ok(Changed::Done(index)) => return Ok(index),
                Ok(Changed::NotLeader(leader)) => {
                    next = Some(leader).filter(|leader| *leader != 0 && *leader != node);
                    format!("group {group} has no leader")
                }
                Ok(Changed::Refused(why)) => {
                    next = Some(node);
                    format!("group {group}: {why}")
                }
                Err(status) if status.code() == Code::FailedPrecondition => {
                    return Err(ChangeError::Conflict(status.message().to_owned()));
                }
                Err(status) if status.code() == Code::InvalidArgument => {
                    return Err(ChangeError::Invalid(status.message().to_owned()));
                }
                Err(status) => format!("group {group}, node {node}: {status}"),
            };
            self.pause(&why).await?;
        }
    }

    async fn ask(&self, node: u64, group: PartitionId, change: Change) -> Result<Changed, Status> {
        if NodeId(node) == self.directory.node() {
            return match self.directory.get(group) {
                Some(group) => change_here(self.directory, &group, change).await,
                None => Ok(Changed::NotLeader(0)),
            };
        }
        let Some(address) = self.addresses.get(&node) else {
            return Err(Status::not_found("its address is not known"));
        };
        let mut request = Request::new(peer::ChangeMemberRequest {
            group: group.0.into(),
            change: Some(change),
        });
        request.set_timeout(MEMBER_CALL_TIMEOUT);
        let link = self.directory.peers().link(node, address);
        let response = link.client().change_member(request).await?.into_inner();
        response
            .result
            .ok_or_else(|| Status::internal("the answer is empty"))
    }

    /// Waits until `group` has applied `index` here.
    pub async fn applied(&self, group: &Group, index: u64) -> Result<(), ChangeError> {
        let mut applied = group.applied_changes();
        match timeout_at(self.deadline, applied.wait_for(|applied| *applied >= index)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ChangeError::Unknown(format!(
                "group {} has not caught up",
                group.id()
            ))),
        }
    }
}

/// Waits until somebody else leads; false when nobody did in time.
pub(crate) async fn led_by_another(group: &Group, node: NodeId, wait: Duration) -> bool {
    let mut leadership = group.leadership();
    let other = leadership.wait_for(|l| l.leader.is_some_and(|leader| leader != node));
    matches!(tokio::time::timeout(wait, other).await, Ok(Ok(_)))
}

/// The voters beside `node`, if it leads; those first that have the most of the log.
pub(crate) fn successors(group: &Group, node: NodeId) -> Vec<u64> {
    let metrics = group.raft().metrics();
    let metrics = metrics.borrow_watched();
    if metrics.state != ServerState::Leader {
        return Vec::new();
    }
    let Some(replication) = metrics.replication.as_ref() else {
        return Vec::new();
    };
    let matched = |id: &u64| replication.get(id).copied().flatten().map(|id| id.index);
    let mut voters: Vec<u64> = metrics
        .membership_config
        .voter_ids()
        .filter(|id| *id != node.0)
        .collect();
    voters.sort_by_key(|id| Reverse(matched(id)));
    voters
}
