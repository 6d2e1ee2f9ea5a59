//! Hands leaderships over: at a drain, and while this node's disk is nearly full.

use std::{sync::Arc, time::Duration};

use tidemill_proto::peer::v1::{StatusRequest, StatusResponse};
use tonic::Request;

use crate::{
    directory::Directory,
    group::Group,
    limits::MEMBER_CALL_TIMEOUT,
    members::{led_by_another, successors},
    space,
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

/// Runs until it is dropped. A leader with a nearly full disk refuses new work although the others may
/// have room: so it gives its groups to them, again when it is elected again. With no such node it leads
/// on, since what runs can still end.
pub(crate) async fn while_disk_is_low(directory: Arc<Directory>) {
    let mut tick = tokio::time::interval(space::INTERVAL);
    loop {
        tick.tick().await;
        if !directory.space().is_low() {
            continue;
        }
        for group in directory.all() {
            for to in successors(&group, directory.node()) {
                if has_room(&directory, to).await && hand_over(&directory, &group, to).await {
                    tracing::warn!(partition = %group.id(), to, "disk nearly full, leadership handed over");
                    break;
                }
            }
        }
    }
}

async fn has_room(directory: &Directory, node: u64) -> bool {
    let members = directory.members();
    let Some(member) = members.iter().find(|member| member.id.0 == node) else {
        return false;
    };
    let mut request = Request::new(StatusRequest {});
    request.set_timeout(MEMBER_CALL_TIMEOUT);
    let link = directory.peers().link(node, &member.peer);
    let status: Option<StatusResponse> = match link.client().status(request).await {
        Ok(status) => Some(status.into_inner()),
        Err(error) => {
            tracing::debug!(node, %error, "a node did not say whether it has room");
            None
        }
    };
    status.is_some_and(|status| !status.disk_low)
}
