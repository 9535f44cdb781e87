//! Memory that a module is read into. Large ones get huge pages: a first touch of each 4 KiB page costs more than
//! reading and hashing what is put there (measured: 50 MB in twice the time).

use bytes::Bytes;
use memmap2::{Advice, MmapMut};

/// From this size on. The last huge page may be partly unused, which is little against this.
const LARGE: usize = 8 << 20;

/// Zeroed memory of a fixed size, to be filled and then shared.
pub(crate) enum Buffer {
    Heap(Vec<u8>),
    Mapped(MmapMut),
}

impl Buffer {
    pub(crate) fn new(size: usize) -> Self {
        if size >= LARGE
            && let Ok(map) = MmapMut::map_anon(size)
        {
            // A kernel without huge pages refuses, and nothing but speed is lost.
            let _ = map.advise(Advice::HugePage);
            return Self::Mapped(map);
        }
        Self::Heap(vec![0; size])
    }

    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }

    /// The bytes, without a copy.
    pub(crate) fn share(self) -> Bytes {
        match self {
            Self::Heap(bytes) => Bytes::from(bytes),
            Self::Mapped(map) => Bytes::from_owner(map),
        }
    }
}
