//! An allocator that puts what a run process writes close together.
//!
//! A run process is a copy of its zygote, and every page that it writes first is copied for it, which costs as much as
//! a thousand small allocations. A general allocator hands out memory wherever some was freed, one page here and one there. So from
//! [`Near::begin`] on, small allocations come one after the other from one piece of memory, until that is full; then
//! the heap (`heap.rs`) serves as before. What is freed there is only reused where it was the last.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use void_ipc::limits::FRAME_BYTES;

use super::heap::HEAP;

/// Bytes of the piece.
const BYTES: usize = 256 << 10;
/// All that the piece hands out begins at a multiple of this; what needs more is the heap's to serve.
const ALIGN: usize = 16;
/// Larger allocations lie on pages of their own anyway.
const SMALL: usize = 16 << 10;

/// The allocator of a program with one thread. Aligned to a page, so that nothing else lies on its pages, and in this order, so that
/// its own words lie where the first allocations are.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Near {
    /// First free byte of the piece.
    next: AtomicUsize,
    begun: AtomicBool,
    room_taken: AtomicBool,
    room: Room,
    piece: Piece,
}

#[derive(Debug)]
struct Room(UnsafeCell<[u8; FRAME_BYTES]>);

// SAFETY: it is handed out once, to one owner.
unsafe impl Sync for Room {}

#[derive(Debug)]
#[repr(align(16))]
struct Piece(UnsafeCell<[u8; BYTES]>);

// SAFETY: bytes of the piece are handed out once each (`next` only grows past what is in use), so no two owners share any.
unsafe impl Sync for Piece {}

impl Near {
    /// Serves as any allocator does, until [`Near::begin`].
    #[allow(clippy::new_without_default, reason = "it is a static, which needs a const function")]
    pub const fn new() -> Near {
        Near {
            next: AtomicUsize::new(0),
            begun: AtomicBool::new(false),
            room_taken: AtomicBool::new(false),
            room: Room(UnsafeCell::new([0; FRAME_BYTES])),
            piece: Piece(UnsafeCell::new([0; BYTES])),
        }
    }

    /// Room for one frame of the process's socket, whose first bytes are the ones that are used most: they lie on the page of
    /// this allocator's own words. Whoever asks again gets room on the heap.
    #[allow(clippy::mut_from_ref, reason = "it is handed out once")]
    pub fn room(&'static self) -> &'static mut [u8] {
        if self.room_taken.swap(true, Ordering::Relaxed) {
            return Vec::leak(vec![0; FRAME_BYTES]);
        }
        // SAFETY: the flag lets one caller come here, so this is the only reference there ever is.
        unsafe { &mut *self.room.0.get() }
    }

    /// From now on small allocations lie close together.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    fn start(&self) -> usize {
        self.piece.0.get().addr()
    }

    fn holds(&self, memory: *mut u8) -> bool {
        memory.addr().wrapping_sub(self.start()) < BYTES
    }

    /// Takes `size` bytes from the piece. `None` where they are not small, or it is full.
    fn take(&self, layout: Layout) -> Option<*mut u8> {
        if !self.begun.load(Ordering::Relaxed) || layout.size() > SMALL || layout.align() > ALIGN {
            return None;
        }
        let mut taken = None;
        // One thread: this loop is entered once. It is written so that a second one would do no harm.
        let update = |next: usize| {
            let from = next.next_multiple_of(ALIGN);
            let to = from.checked_add(layout.size())?;
            taken = Some(from);
            (to <= BYTES).then_some(to)
        };
        self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update).ok()?;
        taken.map(|from| self.piece.0.get().cast::<u8>().wrapping_add(from))
    }

    /// Gives back what was taken last; anything else stays taken.
    fn give_back(&self, memory: *mut u8, size: usize) {
        let from = memory.addr() - self.start();
        let _ = self.next.compare_exchange(from + size, from, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Makes the last one longer or shorter where it lies.
    fn stretch(&self, memory: *mut u8, old: usize, new: usize) -> bool {
        let from = memory.addr() - self.start();
        new <= SMALL
            && from + new <= BYTES
            && self
                .next
                .compare_exchange(from + old, from + new, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

// SAFETY: memory of the piece is handed out aligned, within bounds and to one owner at a time; all else is the heap's.
unsafe impl GlobalAlloc for Near {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds GlobalAlloc's contract, which is the heap's too.
        self.take(layout).unwrap_or_else(|| unsafe { HEAP.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match self.take(layout) {
            Some(memory) => {
                // SAFETY: `memory` has the layout's size. It may have been used and given back.
                unsafe { memory.write_bytes(0, layout.size()) };
                memory
            }
            // SAFETY: as for `alloc`.
            None => unsafe { HEAP.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if self.holds(memory) {
            self.give_back(memory, layout.size());
        } else {
            // SAFETY: it is not of the piece, so it is the heap's.
            unsafe { HEAP.dealloc(memory, layout) }
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.holds(memory) {
            // SAFETY: as for `dealloc`; the caller upholds the rest.
            return unsafe { HEAP.realloc(memory, layout, size) };
        }
        if self.stretch(memory, layout.size(), size) {
            return memory;
        }
        // SAFETY: the size is not zero and, rounded up to the alignment, does not overflow, as the caller promises.
        let layout_after = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: both pieces of memory are at least as long as what is copied, and distinct.
        unsafe {
            let moved = self.alloc(layout_after);
            if !moved.is_null() {
                std::ptr::copy_nonoverlapping(memory, moved, layout.size().min(size));
                self.dealloc(memory, layout);
            }
            moved
        }
    }
}
