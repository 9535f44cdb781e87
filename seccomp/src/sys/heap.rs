//! The worker's heap: dlmalloc over memory that is part of the program, beside its other data.
//!
//! Where a heap lies decides what a fork costs: each region of 2 MiB that holds a written page takes a page of the
//! kernel's tables, to be made and taken apart with every run process, and a region far from all others takes three. The C
//! library's heap lies far away. This one also never asks the kernel for more, which no filter would allow.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::{Allocator, Dlmalloc};

/// Bytes of heap that a worker has in its life. Pages that nobody used cost nothing.
const BYTES: usize = 64 << 20;
/// What dlmalloc gets at first: with the program's other data it fits one region, and a small module's zygote needs no more.
const FIRST_BYTES: usize = 896 << 10;
/// What it gets then, or more where it asks for more.
const MORE_BYTES: usize = 1 << 20;

#[repr(align(4096))]
struct Ground(UnsafeCell<[u8; BYTES]>);

// SAFETY: each byte is handed to dlmalloc once: `GIVEN` only grows.
unsafe impl Sync for Ground {}

static GROUND: Ground = Ground(UnsafeCell::new([0; BYTES]));
/// Bytes of it that dlmalloc has.
static GIVEN: AtomicUsize = AtomicUsize::new(0);

/// Hands the ground out from its start to its end.
struct Grounds;

// SAFETY: what is handed out lies in the ground, is at least as long as is said, was not handed out before, is all zeroes,
// and is never taken back.
unsafe impl Allocator for Grounds {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let mut bytes = 0;
        let grow = |given: usize| {
            bytes = size.max(if given == 0 { FIRST_BYTES } else { MORE_BYTES });
            given.checked_add(bytes).filter(|after| *after <= BYTES)
        };
        match GIVEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow) {
            Ok(before) => (GROUND.0.get().cast::<u8>().wrapping_add(before), bytes, 0),
            Err(_) => (null_mut(), 0, 0),
        }
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        4096
    }
}

/// The heap. Its lock is for tests, which have threads; a worker has one.
pub(super) struct Heap(Mutex<Dlmalloc<Grounds>>);

/// Apart from the piece of `near.rs`, which is all zeroes and so takes no room in the program's file.
pub(super) static HEAP: Heap = Heap(Mutex::new(Dlmalloc::new_with_allocator(Grounds)));

impl Heap {
    fn inner(&self) -> MutexGuard<'_, Dlmalloc<Grounds>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: dlmalloc upholds GlobalAlloc's contract, and the lock keeps it to one caller at a time.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the contract.
        unsafe { self.inner().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`.
        unsafe { self.inner().calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as for `alloc`.
        unsafe { self.inner().free(memory, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as for `alloc`.
        unsafe { self.inner().realloc(memory, layout.size(), layout.align(), size) }
    }
}
