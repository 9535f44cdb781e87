//! Where this program's own code and constants lie, and moving them onto huge pages.

use std::io;
use std::ops::Range;

use super::check;

/// One huge page.
const HUGE: usize = 2 << 20;

/// A part of this program, as it was loaded.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    range: Range<usize>,
    executable: bool,
    writable: bool,
}

/// The parts of this program that do not change: code and constants.
pub(crate) fn own_parts() -> Vec<Part> {
    parts().into_iter().filter(|part| !part.writable).collect()
}

/// Where the parts lie that were writable when the program was loaded, in the order of their addresses.
pub(super) fn writable_parts() -> Vec<Range<usize>> {
    parts().into_iter().filter(|part| part.writable).map(|part| part.range).collect()
}

fn parts() -> Vec<Part> {
    let mut found: Vec<Part> = Vec::new();
    // SAFETY: the callback gets the very pointer that is passed here, and is called before the function returns.
    unsafe { libc::dl_iterate_phdr(Some(note_parts), (&raw mut found).cast()) };
    found
}

unsafe extern "C" fn note_parts(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    found: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: `found` is what `parts` passed; `info` and its headers are valid during the callback.
    let (found, info) = unsafe { (&mut *found.cast::<Vec<Part>>(), &*info) };
    // The kernel's page of code that every process has (vdso) is not the program's.
    if super::auxiliary(libc::AT_SYSINFO_EHDR) == info.dlpi_addr as usize {
        return 0;
    }
    for number in 0..usize::from(info.dlpi_phnum) {
        // SAFETY: there are `dlpi_phnum` headers.
        let header = unsafe { &*info.dlpi_phdr.add(number) };
        if header.p_type == libc::PT_LOAD {
            let start = (info.dlpi_addr + header.p_vaddr) as usize;
            let range = start..start + header.p_memsz as usize;
            let (executable, writable) = (header.p_flags & libc::PF_X != 0, header.p_flags & libc::PF_W != 0);
            found.push(Part { range, executable, writable });
        }
    }
    0
}

/// Replaces the mapping of a part by a copy on huge pages. What executes meanwhile is in both, and the same.
///
/// It begins at a multiple of 2 MiB, and what lies between its end and the next multiple is nobody's: the worker is
/// linked so. A kernel that has no huge page at hand gives small ones, and the copy is as good.
///
/// # Errors
/// The kernel's; the mapping is then as it was.
pub(crate) fn onto_huge_pages(part: &Part) -> io::Result<()> {
    let range = &part.range;
    let protection = if part.executable { libc::PROT_READ | libc::PROT_EXEC } else { libc::PROT_READ };
    let bytes = range.len().next_multiple_of(HUGE);
    if !range.start.is_multiple_of(HUGE) {
        return Err(io::Error::other("the part does not begin at a huge page's boundary"));
    }
    let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new anonymous mapping that nothing else refers to, one huge page larger than needed.
    let area = unsafe {
        libc::mmap(std::ptr::null_mut(), bytes + HUGE, libc::PROT_READ | libc::PROT_WRITE, private, -1, 0)
    };
    if area == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let start = area.addr().next_multiple_of(HUGE);
    let (before, copy) = (start - area.addr(), area.with_addr(start));
    // SAFETY: all of it is within the area made above; the part is readable for its length and does not change; the last call
    // replaces the part's mapping by bytes that are the same, so the instructions that make it go on in the copy.
    unsafe {
        libc::munmap(area, before);
        libc::munmap(copy.byte_add(bytes), HUGE - before);
        // Where huge pages are off the copy lies on small ones.
        libc::madvise(copy, bytes, libc::MADV_HUGEPAGE);
        let original = copy.with_addr(range.start);
        std::ptr::copy_nonoverlapping(original.cast::<u8>(), copy.cast::<u8>(), range.len());
        let moved = check(libc::mprotect(copy, bytes, protection).into()).and_then(|_| {
            let fixed = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            match libc::mremap(copy, bytes, bytes, fixed, original) {
                libc::MAP_FAILED => Err(io::Error::last_os_error()),
                _ => Ok(()),
            }
        });
        if moved.is_err() {
            libc::munmap(copy, bytes);
        }
        moved
    }
}
