//! How much a node takes on at once. Whoever finds no place is told to come again: waiting in a queue
//! here would only hide that the node is full.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tidemill_types::{
    FlowId,
    limits::{
        WEBHOOK_BODIES_BYTES_MAX, WEBHOOK_LOOKUPS_MAX, WEBHOOKS_HELD_MAX,
        WEBHOOKS_HELD_PER_FLOW_MAX, WEBHOOKS_PER_FLOW_MAX, WEBHOOKS_PER_NODE_MAX,
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Refusal;
use crate::metrics::{Gauge, Metrics};

/// A permit of the room for bodies stands for so many bytes.
const ROOM_UNIT_BYTES: usize = 1024;

/// The places of a node.
pub(super) struct Places {
    lookups: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    starts: Arc<Mutex<Shared>>,
    held: Arc<Mutex<Shared>>,
}

/// Places that flows share, so that none takes them all.
struct Shared {
    taken: usize,
    most: usize,
    flows: BTreeMap<FlowId, usize>,
    most_of_flow: usize,
    gauge: Option<Arc<Gauge>>,
}

/// Why there is no place.
enum Full {
    Node,
    Flow,
}

/// A place, until it is dropped.
pub(super) struct Place {
    flow: FlowId,
    of: Arc<Mutex<Shared>>,
}

/// Room for a body, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Room {
    units: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Places {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            lookups: Arc::new(Semaphore::new(WEBHOOK_LOOKUPS_MAX)),
            bodies: Arc::new(Semaphore::new(WEBHOOK_BODIES_BYTES_MAX / ROOM_UNIT_BYTES)),
            starts: Shared::new(WEBHOOKS_PER_NODE_MAX, WEBHOOKS_PER_FLOW_MAX, None),
            held: Shared::new(
                WEBHOOKS_HELD_MAX,
                WEBHOOKS_HELD_PER_FLOW_MAX,
                Some(Arc::clone(&metrics.webhooks_held)),
            ),
        }
    }

    /// A place to look for a flow, which may mean asking another node.
    pub fn lookup(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let permit = Arc::clone(&self.lookups).try_acquire_owned();
        permit.map_err(|_| {
            Refusal::shed(
                "lookups",
                "the node is looking for too many flows: try again",
            )
        })
    }

    /// A place to start an execution of a flow.
    pub fn start(&self, flow: FlowId) -> Result<Place, Refusal> {
        take(&self.starts, flow).map_err(|full| match full {
            Full::Node => Refusal::shed(
                "starts",
                "the node has too many webhook requests: try again",
            ),
            Full::Flow => Refusal::shed(
                "flow_starts",
                "the flow has too many webhook requests: try again",
            ),
        })
    }

    /// A place for a request that waits for its answer.
    pub fn hold(&self, flow: FlowId) -> Result<Place, Refusal> {
        take(&self.held, flow).map_err(|full| match full {
            Full::Node => Refusal::shed(
                "held",
                "the node holds too many requests that wait for their answer: try again",
            ),
            Full::Flow => Refusal::shed(
                "flow_held",
                "too many requests of the flow wait for their answer: try again",
            ),
        })
    }

    /// Makes a room large enough for so many bytes.
    pub fn take_room(&self, room: &mut Room, bytes: usize) -> Result<(), Refusal> {
        let units = bytes.div_ceil(ROOM_UNIT_BYTES);
        let more = units.saturating_sub(room.units);
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).expect("a message's bytes fit 32 bits");
        let permit = Arc::clone(&self.bodies)
            .try_acquire_many_owned(more)
            .map_err(|_| {
                Refusal::shed(
                    "bodies",
                    "the node has no memory for more bodies: try again",
                )
            })?;
        match &mut room.permit {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        room.units = units;
        Ok(())
    }
}

impl Shared {
    fn new(most: usize, most_of_flow: usize, gauge: Option<Arc<Gauge>>) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            taken: 0,
            most,
            flows: BTreeMap::new(),
            most_of_flow,
            gauge,
        }))
    }

    fn show(&self) {
        if let Some(gauge) = &self.gauge {
            #[allow(clippy::cast_precision_loss)] // some thousands
            gauge.set(self.taken as f64);
        }
    }
}

fn take(of: &Arc<Mutex<Shared>>, flow: FlowId) -> Result<Place, Full> {
    let mut shared = of.lock().unwrap_or_else(PoisonError::into_inner);
    if shared.taken >= shared.most {
        return Err(Full::Node);
    }
    let most_of_flow = shared.most_of_flow;
    let count = shared.flows.entry(flow).or_default();
    if *count >= most_of_flow {
        return Err(Full::Flow);
    }
    *count += 1;
    shared.taken += 1;
    shared.show();
    Ok(Place {
        flow,
        of: Arc::clone(of),
    })
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shared = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        shared.taken -= 1;
        if let Some(count) = shared.flows.get_mut(&self.flow) {
            *count -= 1;
            if *count == 0 {
                shared.flows.remove(&self.flow);
            }
        }
        shared.show();
    }
}

#[cfg(test)]
mod tests {
    use tidemill_types::PartitionId;

    use super::*;

    fn flow(number: usize) -> FlowId {
        FlowId::new(0, PartitionId(1), number as u64)
    }

    #[test]
    fn a_flow_and_a_node_have_so_many_places_and_get_them_back() {
        let places = Places::new(&Metrics::new());
        let held: Vec<Place> = (0..WEBHOOKS_PER_FLOW_MAX)
            .map(|_| places.start(flow(1)).expect("a place"))
            .collect();
        assert!(places.start(flow(1)).is_err());
        let other = places.start(flow(2)).expect("another flow has its own");
        drop(other);
        let rest: Vec<Place> = (WEBHOOKS_PER_FLOW_MAX..WEBHOOKS_PER_NODE_MAX)
            .map(|number| places.start(flow(number)).expect("a place"))
            .collect();
        assert!(places.start(flow(2)).is_err());
        drop((held, rest));
        assert!(places.starts.lock().expect("whole").flows.is_empty());
        assert!(places.start(flow(1)).is_ok());
    }

    #[test]
    fn so_many_flows_are_looked_for() {
        let places = Places::new(&Metrics::new());
        let held: Vec<_> = (0..WEBHOOK_LOOKUPS_MAX)
            .map(|_| places.lookup().expect("a place"))
            .collect();
        let refusal = places.lookup().expect_err("no place");
        assert_eq!(refusal.shed_reason(), Some("lookups"));
        drop(held);
        assert!(places.lookup().is_ok());
    }

    #[test]
    fn so_many_requests_are_held_and_counted() {
        let metrics = Metrics::new();
        let places = Places::new(&metrics);
        let held: Vec<Place> = (0..WEBHOOKS_HELD_MAX)
            .map(|number| places.hold(flow(number % 2)).expect("a place"))
            .collect();
        assert_eq!(metrics.webhooks_held.get(), WEBHOOKS_HELD_MAX as f64);
        assert!(places.hold(flow(9)).is_err());
        drop(held);
        assert_eq!(metrics.webhooks_held.get(), 0.0);
        let held: Vec<Place> = (0..WEBHOOKS_HELD_PER_FLOW_MAX)
            .map(|_| places.hold(flow(1)).expect("a place"))
            .collect();
        assert!(places.hold(flow(1)).is_err());
        assert!(places.hold(flow(2)).is_ok());
        drop(held);
    }

    #[test]
    fn bodies_share_the_nodes_room() {
        let places = Places::new(&Metrics::new());
        let mut large = Room::default();
        places.take_room(&mut large, 1).expect("room");
        places
            .take_room(&mut large, WEBHOOK_BODIES_BYTES_MAX)
            .expect("all of it");
        assert!(places.take_room(&mut Room::default(), 1).is_err());
        drop(large);
        assert!(places.take_room(&mut Room::default(), 1).is_ok());
    }
}
