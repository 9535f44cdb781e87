//! Memory that a module is read into.
//!
//! The first touch of a fresh page costs more than reading and hashing what is put there: on the machine where it was
//! measured, 1.2 µs for 4 KiB, beside 1.9 µs for their sha256. So large modules get huge pages, and what is given back
//! is kept for the next, up to a bound. Old bytes are in it then; nobody sees more of it than was written anew.

use std::collections::BTreeMap;
use std::mem::take;

use bytes::Bytes;
use memmap2::{Advice, MmapMut};
use parking_lot::Mutex;

/// Below, memory comes from the allocator and goes back there: it has such pieces at hand.
const KEPT_FROM: usize = 32 << 10;
/// What is kept comes in steps of this size, so that the next module finds some that fits.
const STEP: usize = 8 << 10;
/// From this size on, huge pages. A page may be partly unused, which costs less than many small ones.
const LARGE: usize = 768 << 10;
/// A huge page.
const HUGE: usize = 2 << 20;
/// The most that is kept: one module of the largest size that is accepted by default, or many small ones.
const KEPT: usize = 64 << 20;

/// Memory of a fixed size, to be filled and then shared.
pub(crate) struct Buffer {
    memory: Memory,
    size: usize,
}

enum Memory {
    Heap(Vec<u8>),
    Mapped(MmapMut),
}

impl Memory {
    fn new(room: usize) -> Self {
        if room >= HUGE
            && let Ok(map) = MmapMut::map_anon(room)
        {
            // A kernel without huge pages refuses, and nothing but speed is lost.
            let _ = map.advise(Advice::HugePage);
            return Self::Mapped(map);
        }
        Self::Heap(vec![0; room])
    }

    fn room(&self) -> usize {
        match self {
            Self::Heap(bytes) => bytes.len(),
            Self::Mapped(map) => map.len(),
        }
    }
}

/// Memory that a module of `size` bytes holds, at most.
pub(crate) fn room_for(size: usize) -> usize {
    match size {
        0..KEPT_FROM => size,
        KEPT_FROM..LARGE => size.next_multiple_of(STEP),
        _ => size.next_multiple_of(HUGE),
    }
}

impl Buffer {
    pub(crate) fn new(size: usize) -> Self {
        let room = room_for(size);
        let memory = SPARE.lock().take(room).unwrap_or_else(|| Memory::new(room));
        Self { memory, size }
    }

    /// What is in it is anything, until it is written.
    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        let all: &mut [u8] = match &mut self.memory {
            Memory::Heap(bytes) => bytes,
            Memory::Mapped(map) => map,
        };
        all.get_mut(..self.size).unwrap_or_default()
    }

    /// The bytes, without a copy.
    pub(crate) fn share(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        let all: &[u8] = match &self.memory {
            Memory::Heap(bytes) => bytes,
            Memory::Mapped(map) => map,
        };
        all.get(..self.size).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::replace(&mut self.memory, Memory::Heap(Vec::new()));
        let given_up = SPARE.lock().give(memory);
        drop(given_up);
    }
}

/// What was given back.
static SPARE: Mutex<Spare> = Mutex::new(Spare { by_room: BTreeMap::new(), total: 0 });

struct Spare {
    by_room: BTreeMap<usize, Vec<Memory>>,
    total: usize,
}

impl Spare {
    fn take(&mut self, room: usize) -> Option<Memory> {
        if room < KEPT_FROM {
            return None;
        }
        let memory = self.by_room.get_mut(&room)?.pop()?;
        self.total -= room;
        Some(memory)
    }

    /// Keeps it. What is too much then, to be freed off the lock: of other sizes first, which nobody has asked for since.
    fn give(&mut self, memory: Memory) -> Vec<Memory> {
        let room = memory.room();
        if !(KEPT_FROM..=KEPT).contains(&room) {
            return vec![memory];
        }
        let mut given_up = Vec::new();
        let others: Vec<usize> = match self.total + room > KEPT {
            true => self.by_room.keys().copied().filter(|other| *other != room).collect(),
            false => Vec::new(),
        };
        for other in others {
            if self.total + room <= KEPT {
                break;
            }
            let all = self.by_room.get_mut(&other).map(take).unwrap_or_default();
            self.by_room.remove(&other);
            self.total -= other * all.len();
            given_up.extend(all);
        }
        if self.total + room > KEPT {
            given_up.push(memory);
        } else {
            self.total += room;
            self.by_room.entry(room).or_default().push(memory);
        }
        given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_given_back_is_used_again_and_shows_no_more_than_was_asked_for() {
        // Sizes that no other test of this process asks for.
        for size in [613_000, 7_000_001] {
            let mut first = Buffer::new(size);
            first.as_mut().fill(7);
            let first = first.share();
            let (at, kept) = (first.as_ptr(), first.slice(1..3));
            drop(first);
            assert_ne!(Buffer::new(size).share().as_ptr(), at, "still in use");
            assert_eq!(*kept, [7, 7]);
            drop(kept);
            let again = Buffer::new(size - 1).share();
            let other = Buffer::new(size - 1).share();
            assert!([again.as_ptr(), other.as_ptr()].contains(&at));
            assert_eq!((again.len(), other.len()), (size - 1, size - 1));
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_other_sizes_go_first() {
        let mut spare = Spare { by_room: BTreeMap::new(), total: 0 };
        let memory = |room| Memory::Heap(vec![0; room]);
        assert_eq!(spare.give(memory(STEP)).len(), 1, "too small");
        assert_eq!(spare.give(memory(KEPT + STEP)).len(), 1, "too large");
        for _ in 0..KEPT / HUGE {
            assert!(spare.give(memory(HUGE)).is_empty());
        }
        assert_eq!((spare.give(memory(HUGE)).len(), spare.total), (1, KEPT));
        assert_eq!(spare.give(memory(2 * HUGE)).len(), KEPT / HUGE);
        assert_eq!(spare.total, 2 * HUGE);
        assert!(spare.take(HUGE).is_none());
        assert_eq!(spare.take(2 * HUGE).map(|memory| memory.room()), Some(2 * HUGE));
        assert_eq!(spare.total, 0);
    }

    #[test]
    fn a_module_counts_with_all_the_memory_that_it_holds() {
        for size in [0, 1, KEPT_FROM, LARGE - 1, LARGE, HUGE + 1] {
            assert_eq!(Buffer::new(size).memory.room(), room_for(size));
            assert_eq!(Buffer::new(size).as_mut().len(), size);
        }
    }
}
