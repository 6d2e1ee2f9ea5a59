//! Free ports below those that the system gives to outgoing connections, where a restarted node could
//! find its own taken.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    sync::{Mutex, PoisonError},
};

use anyhow::{Result, bail};

const LOWEST: u16 = 12_000;
const HIGHEST: u16 = 32_000;

/// Given out by this process: a node that is down still owns its ports.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port on which nobody listens now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let span = u32::from(HIGHEST - LOWEST);
    // Test processes that run at once begin at different places.
    let begin = std::process::id().wrapping_mul(2_654_435_761) % span;
    for offset in 0..span {
        let offset = u16::try_from((begin + offset) % span).expect("the span is below 65,536");
        let port = LOWEST + offset;
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    bail!("no free port between {LOWEST} and {HIGHEST}")
}
