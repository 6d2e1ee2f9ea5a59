//! Hands leaderships over: at a drain, and while this node is not fit to lead.

use std::{sync::Arc, time::Duration};

use tidemill_proto::peer::v1::{StatusRequest, StatusResponse};
use tidemill_types::NodeId;
use tonic::Request;

use crate::{
    directory::Directory,
    group::Group,
    members::{led_by_another, successors},
    space::INTERVAL,
};

/// Hands one group over, if this node leads it, to the first of the voters that takes it; those first
/// that have the most of the log.
pub(crate) async fn at_drain(directory: &Directory, group: &Group) {
    let node = directory.node();
    let Some(to) = successors(group, node).first().copied() else {
        return;
    };
    if !hand_over(directory, group, to).await {
        tracing::warn!(partition = %group.id(), to, "leadership was not taken over in time");
    }
}

async fn hand_over(directory: &Directory, group: &Group, to: u64) -> bool {
    let wait: Duration = directory.config().election_max;
    group.raft().trigger().transfer_leader(to).await.is_ok()
        && led_by_another(group, directory.node(), wait).await
}

/// Runs until it is dropped. Two kinds of leaders are in the way of nodes that could do better: one with a
/// nearly full disk refuses new work, and one whose rows are damaged refuses everything. Both give their
/// groups to others, again when they are elected again. Where no other is better they lead on: with a
/// low disk what runs can still end.
pub(crate) async fn while_unfit(directory: Arc<Directory>) {
    let mut tick = tokio::time::interval(INTERVAL);
    loop {
        tick.tick().await;
        let disk_low = directory.space().is_low();
        for group in directory.all() {
            let has_stopped = group.fault().is_some();
            if !disk_low && !has_stopped {
                continue;
            }
            for to in successors(&group, directory.node()) {
                if is_fit(&directory, to, &group).await && hand_over(&directory, &group, to).await {
                    tracing::warn!(partition = %group.id(), to, disk_low, has_stopped, "leadership handed over by a node that is not fit for it");
                    break;
                }
            }
        }
    }
}

async fn is_fit(directory: &Directory, node: u64, group: &Group) -> bool {
    let status = ask(directory, NodeId(node)).await;
    let stopped = u32::from(group.id().0);
    status.is_some_and(|status| !status.disk_low && !status.stopped.contains(&stopped))
}

/// What another member says of itself; none when it says nothing in time.
pub(crate) async fn ask(directory: &Directory, node: NodeId) -> Option<StatusResponse> {
    let members = directory.members();
    let member = members.iter().find(|member| member.id == node)?;
    let mut request = Request::new(StatusRequest {});
    request.set_timeout(INTERVAL);
    let link = directory.peers().link(node.0, &member.peer);
    match link.client().status(request).await {
        Ok(status) => Some(status.into_inner()),
        Err(error) => {
            tracing::debug!(%node, %error, "a node did not say how it is");
            None
        }
    }
}
