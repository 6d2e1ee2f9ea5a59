//! What all databases of a node share, so that one bound holds for all of them together.

use rocksdb::{BlockBasedOptions, Cache, Env, Options, WriteBufferManager};

use crate::{StoreError, StoreOptions, options};

#[derive(Clone)]
pub struct SharedMemory {
    cache: Cache,
    state_write_buffers: WriteBufferManager,
    env: Env,
}

impl SharedMemory {
    pub fn new(options: &StoreOptions) -> Result<Self, StoreError> {
        Ok(Self {
            cache: Cache::new_lru_cache(options.block_cache_bytes),
            // Without stalling: the flush that would end the stall may be another group's.
            state_write_buffers: WriteBufferManager::new_write_buffer_manager(
                options.state_memory_bytes,
                false,
            ),
            env: options::environment()?,
        })
    }

    /// Background threads.
    pub fn apply(&self, options: &mut Options) {
        options.set_env(&self.env);
    }

    pub fn state_write_buffers(&self) -> &WriteBufferManager {
        &self.state_write_buffers
    }

    /// Blocks, indexes and filters in the one cache: what is outside it has no bound.
    pub fn blocks(&self) -> BlockBasedOptions {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&self.cache);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        blocks
    }

    pub fn cache_bytes(&self) -> u64 {
        self.cache.get_usage() as u64
    }
}
