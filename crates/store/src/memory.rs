//! What all databases of a node share, so that one bound holds for all of them together.

use rocksdb::{BlockBasedIndexType, BlockBasedOptions, Cache, Env, Options, WriteBufferManager};

use crate::{StoreError, StoreOptions, options};

/// One part of an index or filter: RocksDB's own size for it.
const METADATA_BLOCK_BYTES: usize = 4096;

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
        // In parts: whole ones are megabytes for each file, and once they do not all fit into the cache,
        // each look at a row reads some of them anew. Only the small top levels stay in memory.
        blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        blocks.set_partition_filters(true);
        blocks.set_metadata_block_size(METADATA_BLOCK_BYTES);
        blocks.set_pin_top_level_index_and_filter(true);
        blocks
    }

    pub fn cache_bytes(&self) -> u64 {
        self.cache.get_usage() as u64
    }
}
