//! How much a node takes on at once. Whoever finds no place is told to come again: waiting in a queue
//! here would only hide that the node is full.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tidemill_types::{
    FlowId,
    limits::{
        WEBHOOK_BODIES_BYTES_MAX, WEBHOOK_LOOKUPS_MAX, WEBHOOKS_PER_FLOW_MAX, WEBHOOKS_PER_NODE_MAX,
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Refusal;

/// A permit of the room for bodies stands for so many bytes.
const ROOM_UNIT_BYTES: usize = 1024;

/// The places of a node.
pub(super) struct Places {
    lookups: Arc<Semaphore>,
    starts: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    flows: Arc<Mutex<BTreeMap<FlowId, usize>>>,
}

/// The place of a start, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    flow: FlowId,
    flows: Arc<Mutex<BTreeMap<FlowId, usize>>>,
    _permit: OwnedSemaphorePermit,
}

/// Room for a body, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Room {
    units: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Places {
    pub fn new() -> Self {
        Self {
            lookups: Arc::new(Semaphore::new(WEBHOOK_LOOKUPS_MAX)),
            starts: Arc::new(Semaphore::new(WEBHOOKS_PER_NODE_MAX)),
            bodies: Arc::new(Semaphore::new(WEBHOOK_BODIES_BYTES_MAX / ROOM_UNIT_BYTES)),
            flows: Arc::default(),
        }
    }

    /// A place to look for a flow, which may mean asking another node.
    pub fn lookup(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.lookups)
            .try_acquire_owned()
            .map_err(|_| Refusal::overloaded("the node is looking for too many flows: try again"))
    }

    /// A place to start an execution of a flow.
    pub fn start(&self, flow: FlowId) -> Result<Place, Refusal> {
        let permit = Arc::clone(&self.starts).try_acquire_owned().map_err(|_| {
            Refusal::overloaded("the node has too many webhook requests: try again")
        })?;
        let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        let count = flows.entry(flow).or_default();
        if *count >= WEBHOOKS_PER_FLOW_MAX {
            return Err(Refusal::overloaded(
                "the flow has too many webhook requests: try again",
            ));
        }
        *count += 1;
        drop(flows);
        Ok(Place {
            flow,
            flows: Arc::clone(&self.flows),
            _permit: permit,
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
                Refusal::overloaded("the node has no memory for more bodies: try again")
            })?;
        match &mut room.permit {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        room.units = units;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = flows.get_mut(&self.flow) {
            *count -= 1;
            if *count == 0 {
                flows.remove(&self.flow);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_types::PartitionId;

    use super::*;

    #[test]
    fn a_flow_and_a_node_have_so_many_places_and_get_them_back() {
        let places = Places::new();
        let flow = |number| FlowId::new(0, PartitionId(1), number);
        let held: Vec<Place> = (0..WEBHOOKS_PER_FLOW_MAX)
            .map(|_| places.start(flow(1)).expect("a place"))
            .collect();
        assert!(places.start(flow(1)).is_err());
        let other = places.start(flow(2)).expect("another flow has its own");
        drop(other);
        let rest: Vec<Place> = (WEBHOOKS_PER_FLOW_MAX..WEBHOOKS_PER_NODE_MAX)
            .map(|number| places.start(flow(number as u64)).expect("a place"))
            .collect();
        assert!(places.start(flow(2)).is_err());
        drop((held, rest));
        assert!(places.flows.lock().expect("whole").is_empty());
        assert!(places.start(flow(1)).is_ok());
    }

    #[test]
    fn bodies_share_the_nodes_room() {
        let places = Places::new();
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
