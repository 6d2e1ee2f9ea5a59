//! Carries flows from the catalog to their partitions. (S2's; this file only names the seam.)

use std::sync::Arc;

use tidemill_core::command::CatalogEffect;

use crate::{actor::EffectSink, node::Node};

/// Where the catalog's effects go.
#[derive(Default)]
pub struct CatalogSink {}

impl CatalogSink {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self {}
    }
}

impl EffectSink<CatalogEffect> for CatalogSink {
    fn deliver(&self, _: Vec<CatalogEffect>) {}
    fn epoch_ended(&self) {}
    fn epoch_began(&self) {}
}

/// Runs until the node shuts down.
pub fn spawn(_: Arc<Node>) {}
