//! Heartbeats of all groups to one peer, as many in a message as are due.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use openraft::raft::StreamAppendResult;
use tidemill_proto::peer::v1 as peer;
use tidemill_types::PartitionId;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tonic::Status;

use super::{
    link::{LinkCounters, PeerClient},
    wire,
};
use crate::{limits::HEARTBEATS_WAITING_MAX, raft::Types};

/// Messages on their way at once: one that is stuck must not hold up the next.
const IN_FLIGHT_MAX: usize = 4;

/// A heartbeat that is due, and who waits for the answer.
pub(crate) struct Due {
    pub group: PartitionId,
    pub request: peer::AppendRequest,
    pub tell: oneshot::Sender<Result<StreamAppendResult<Types>, Status>>,
}

/// Sends the heartbeats to one peer.
pub(super) struct Hub {
    client: PeerClient,
    due: mpsc::Receiver<Due>,
    /// No answer is worth more than one interval's wait.
    heartbeat: Duration,
    counters: Arc<LinkCounters>,
}

impl Hub {
    pub fn new(
        client: PeerClient,
        due: mpsc::Receiver<Due>,
        heartbeat: Duration,
        counters: Arc<LinkCounters>,
    ) -> Self {
        Self {
            client,
            due,
            heartbeat,
            counters,
        }
    }

    /// Ends when nobody can send heartbeats any more.
    pub async fn run(mut self) {
        // The groups' timers are not in step: a short wait lets several share a message. It shortens
        // the time that a peer has to answer, so it must stay small beside the interval.
        let linger = self.heartbeat / 16;
        let mut calls = JoinSet::new();
        let mut batch = Vec::new();
        while self.due.recv_many(&mut batch, HEARTBEATS_WAITING_MAX).await > 0 {
            tokio::time::sleep(linger).await;
            while batch.len() < HEARTBEATS_WAITING_MAX
                && let Ok(due) = self.due.try_recv()
            {
                batch.push(due);
            }
            while calls.len() >= IN_FLIGHT_MAX {
                calls.join_next().await;
            }
            self.counters.heartbeats.fetch_add(1, Relaxed);
            calls.spawn(send(
                self.client.clone(),
                std::mem::take(&mut batch),
                self.heartbeat,
                Arc::clone(&self.counters),
            ));
            while calls.try_join_next().is_some() {}
        }
    }
}

async fn send(
    mut client: PeerClient,
    batch: Vec<Due>,
    timeout: Duration,
    counters: Arc<LinkCounters>,
) {
    let (waiting, groups): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(|due| {
            (
                due.tell,
                peer::GroupHeartbeat {
                    group: due.group.0.into(),
                    append: Some(due.request),
                },
            )
        })
        .unzip();
    let mut request = tonic::Request::new(peer::HeartbeatRequest { groups });
    request.set_timeout(timeout);
    let answers = match client.heartbeat(request).await {
        Ok(response) => response.into_inner().groups,
        Err(status) => {
            counters.failures.fetch_add(1, Relaxed);
            for tell in waiting {
                // Whoever does not wait any more has timed out.
                let _ = tell.send(Err(status.clone()));
            }
            return;
        }
    };
    for (tell, answer) in waiting.into_iter().zip(answers) {
        let answer = match answer.append {
            Some(append) => wire::appended_from_wire(append)
                .map_err(|error| Status::internal(error.to_string())),
            None => Err(Status::unavailable("the group does not answer")),
        };
        let _ = tell.send(answer);
    }
}
