//! Who leads the groups that have stopped on this node: without it clients and workers of this node would
//! not find them, although the other nodes serve them.

use std::{collections::BTreeMap, sync::Arc};

use tidemill_types::NodeId;

use crate::{directory::Directory, handover::ask, space::INTERVAL};

/// Asks the other members as long as a group has stopped here. Runs until it is dropped.
pub(crate) async fn follow(directory: Arc<Directory>) {
    let mut tick = tokio::time::interval(INTERVAL);
    loop {
        tick.tick().await;
        let unopened = directory.stopped();
        let mut retired = directory.all();
        retired.retain(|group| group.fault().is_some());
        if unopened.is_empty() && retired.is_empty() {
            continue;
        }
        let leaders = leaders(&directory).await;
        let leader = |id: u16| leaders.get(&u32::from(id)).copied();
        for group in unopened {
            group.led_by(leader(group.id().0));
        }
        for group in retired {
            group.led_by(leader(group.id().0));
        }
    }
}

/// By group, the node that says that it leads: what others say of it may be old.
async fn leaders(directory: &Directory) -> BTreeMap<u32, NodeId> {
    let others = directory
        .members()
        .into_iter()
        .map(|member| member.id)
        .filter(|id| *id != directory.node());
    let statuses = others.map(|node| async move { (node, ask(directory, node).await) });
    let mut leaders = BTreeMap::new();
    for (node, status) in futures::future::join_all(statuses).await {
        let led = status.into_iter().flat_map(|status| status.leaders);
        leaders.extend(
            led.filter(|group| group.leader == node.0)
                .map(|group| (group.group, node)),
        );
    }
    leaders
}
