//! What a guest may have of memory and tables: counted here, capped by the kernel behind it.

use void_ipc::limits::TABLE_ELEMENTS;
use wasmtime::{ResourceLimiter, Result};

const PAGE: usize = 64 * 1024;

/// Counts linear memory, all memories of a run together, and refuses growth beyond the limit.
#[derive(Debug, Clone)]
pub struct Limiter {
    bytes_max: usize,
    bytes: usize,
    last_growth: usize,
    table_elements: usize,
    refused: bool,
}

impl Limiter {
    /// A limiter for `pages` of 64 KiB.
    pub fn new(pages: u32) -> Limiter {
        let bytes_max = (pages as usize).saturating_mul(PAGE);
        Limiter { bytes_max, bytes: 0, last_growth: 0, table_elements: 0, refused: false }
    }

    /// Sets the limit of the run that is about to start.
    pub fn set_pages_max(&mut self, pages: u32) {
        self.bytes_max = (pages as usize).saturating_mul(PAGE);
    }

    /// Memory now, 64 KiB pages. Memories never shrink, so this is the peak.
    pub fn pages(&self) -> u32 {
        u32::try_from(self.bytes.div_ceil(PAGE)).unwrap_or(u32::MAX)
    }

    /// Whether a growth was refused.
    pub fn refused(&self) -> bool {
        self.refused
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        // Beyond its own maximum the guest asks for what it said it would not have: not our limit.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let growth = desired.saturating_sub(current);
        let fits = self.bytes.checked_add(growth).is_some_and(|bytes| bytes <= self.bytes_max);
        if fits {
            self.bytes += growth;
            self.last_growth = growth;
        } else {
            self.refused = true;
        }
        Ok(fits)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> Result<()> {
        self.bytes = self.bytes.saturating_sub(self.last_growth);
        self.last_growth = 0;
        self.refused = true;
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        // They lie in the heap, which is prepared for this many.
        let fits = total <= TABLE_ELEMENTS;
        if fits {
            self.table_elements = total;
        } else {
            self.refused = true;
        }
        Ok(fits)
    }
}
