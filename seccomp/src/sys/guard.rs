//! A secret that one process has and its children have not, and the kernel syscalls that are made with it.
//!
//! A filter looks at registers, and every kernel syscall on this processor has six argument registers, of which most use fewer.
//! A guarded rule wants the secret in the sixth. It lies in one page that a fork wipes, it is loaded into the register by
//! the instructions that make the syscall and cleared by the next one, so that it never lies in any other memory:
//! what is forked has neither the page's content nor a copy of it, and a wrong guess of 64 bits ends the process.

use std::arch::asm;
use std::ffi::{c_long, c_void};
use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;

use super::check;

/// A page that holds the secret here and zeroes in every child.
#[derive(Debug)]
pub struct Secret {
    page: NonNull<u64>,
    /// What a child is called. Here, and not among the program's constants, which a child would first have to page in.
    name: [u8; 16],
    /// The number of the process that a child must not outlive, 0 where the pid namespace sees to that.
    tie: u32,
}

impl Secret {
    /// Makes a secret. Its page is never given back.
    ///
    /// # Errors
    /// The kernel's; a kernel that cannot wipe a page at a fork (before Linux 4.14) is one.
    pub fn new() -> io::Result<Secret> {
        const PAGE: usize = 4096;
        // SAFETY: a new anonymous mapping that nothing else refers to.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the page is ours; wiping changes what a child sees of it, not what we see.
        check(c_long::from(unsafe { libc::madvise(page, PAGE, libc::MADV_WIPEONFORK) }))?;
        let page = NonNull::new(page.cast::<u64>()).ok_or_else(|| io::Error::other("no page"))?;
        let secret = Secret { page, name: *b"void-run\0\0\0\0\0\0\0\0", tie: 0 };
        while secret.has_a_zero_half() {
            // SAFETY: the page has room for the eight bytes, which the kernel writes there and nowhere else.
            let written = unsafe { libc::getrandom(page.as_ptr().cast::<c_void>(), size_of::<u64>(), 0) };
            check(written as c_long)?;
        }
        Ok(secret)
    }

    /// Has each child die with this process: for one that is not the first of a pid namespace. The filter must have
    /// [`crate::filter::TIE`].
    pub fn tie_children(&mut self) {
        self.tie = std::process::id();
    }

    /// A child finds zeroes, so zeroes must open nothing.
    fn has_a_zero_half(&self) -> bool {
        let zero: u64;
        // SAFETY: reads eight bytes of our page; the register that held them is cleared.
        unsafe {
            asm!(
                "xor {zero:e}, {zero:e}",
                "cmp dword ptr [{page}], 0",
                "sete {zero:l}",
                "cmp dword ptr [{page} + 4], 0",
                "jne 2f",
                "mov {zero:e}, 1",
                "2:",
                page = in(reg) self.page.as_ptr(),
                zero = out(reg) zero,
                options(nostack, readonly),
            );
        }
        zero != 0
    }

    /// Writes the low or the high half to `to`, passing it through one register alone, which is cleared.
    pub(crate) fn write_half(&self, high: bool, to: &mut u32) {
        let from = self.page.as_ptr().cast::<u32>().wrapping_add(usize::from(high));
        // SAFETY: `from` is one of the two halves in our page, `to` is a valid reference.
        unsafe {
            asm!(
                "mov {half:e}, dword ptr [{from}]",
                "mov dword ptr [{to}], {half:e}",
                "xor {half:e}, {half:e}",
                from = in(reg) from,
                to = in(reg) to,
                half = out(reg) _,
                options(nostack),
            );
        }
    }

    /// A kernel syscall with the secret as its sixth argument.
    ///
    /// # Safety
    /// As the kernel syscall's own: pointers among the arguments must be valid for what it does with them.
    unsafe fn call(&self, number: c_long, arguments: [usize; 4]) -> io::Result<usize> {
        let result: isize;
        // SAFETY: the caller answers for the arguments; the registers that the kernel changes are named.
        unsafe {
            asm!(
                "mov r9, qword ptr [{page}]",
                "syscall",
                "xor r9d, r9d",
                page = in(reg) self.page.as_ptr(),
                inlateout("rax") number as isize => result,
                in("rdi") arguments[0],
                in("rsi") arguments[1],
                in("rdx") arguments[2],
                in("r10") arguments[3],
                in("r8") 0usize,
                out("r9") _,
                out("rcx") _,
                out("r11") _,
                options(nostack),
            );
        }
        usize::try_from(result)
            .map_err(|_| io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::EINVAL)))
    }

    /// Forks. On the child's side `socket` is descriptor 3, no other beyond the streams is open, the process is called
    /// `void-run`, and the secret is gone from its registers too before anything else is executed: 0.
    ///
    /// Only for a process with one thread, and nothing may own a descriptor from 3 on that a destructor would close.
    pub(crate) fn fork(&self, socket: RawFd) -> io::Result<i32> {
        let result: isize;
        // SAFETY: clone with nothing but SIGCHLD is fork(2), and the process has one thread. In the child only registers
        // are used until it returns like the parent, on its own copy of the stack. The kernel reads `name`, of which the child has a copy.
        unsafe {
            asm!(
                "mov r9, qword ptr [{page}]",
                "syscall",
                "test rax, rax",
                "jnz 2f",
                // The child. Its page is wiped: the register is the last place, for three or five more syscalls.
                "mov eax, {dup2}",
                "mov edi, {socket:e}",
                "mov esi, 3",
                "syscall",
                "test rax, rax",
                "js 3f",
                "mov eax, {close_range}",
                "mov edi, 4",
                "mov esi, -1",
                "xor edx, edx",
                "syscall",
                "test rax, rax",
                "js 3f",
                "mov eax, {prctl}",
                "mov edi, {set_name}",
                "mov rsi, {name}",
                "syscall",
                "test {tie:e}, {tie:e}",
                "jz 4f",
                "mov eax, {prctl}",
                "mov edi, {set_death}",
                "mov esi, {kill}",
                "syscall",
                "test rax, rax",
                "js 3f",
                // One whose parent died before that call has another one by now.
                "mov eax, {getppid}",
                "syscall",
                "cmp eax, {tie:e}",
                "jne 3f",
                "4:",
                "xor eax, eax",
                "jmp 2f",
                "3:",
                "mov eax, {exit_group}",
                "mov edi, 1",
                "syscall",
                "ud2",
                "2:",
                "xor r9d, r9d",
                page = in(reg) self.page.as_ptr(),
                socket = in(reg) socket,
                name = in(reg) self.name.as_ptr(),
                tie = in(reg) self.tie,
                dup2 = const libc::SYS_dup2,
                close_range = const libc::SYS_close_range,
                prctl = const libc::SYS_prctl,
                set_name = const libc::PR_SET_NAME,
                set_death = const libc::PR_SET_PDEATHSIG,
                kill = const libc::SIGKILL,
                getppid = const libc::SYS_getppid,
                exit_group = const libc::SYS_exit_group,
                inlateout("rax") libc::SYS_clone as isize => result,
                inlateout("rdi") libc::SIGCHLD as usize => _,
                inlateout("rsi") 0usize => _,
                inlateout("rdx") 0usize => _,
                in("r10") 0usize,
                in("r8") 0usize,
                out("r9") _,
                out("rcx") _,
                out("r11") _,
                options(nostack),
            );
        }
        if result < 0 {
            return Err(io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::EINVAL)));
        }
        i32::try_from(result).map_err(io::Error::other)
    }

    /// Receives one packet into `buffer`: its length, and the numbers of the descriptors that came with it.
    pub(crate) fn receive(&self, buffer: &mut [u8], numbers: &mut Vec<RawFd>) -> io::Result<usize> {
        const CONTROL: usize = 64 + 4 * crate::descriptors::MOST;
        let mut control = Aligned([0u8; CONTROL]);
        let mut io = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: msghdr is plain data, for which all zeroes is a value.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut io;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL;
        let arguments = [3, (&raw mut header) as usize, libc::MSG_CMSG_CLOEXEC as usize, 0];
        // SAFETY: the header, the buffer and the control space outlive the call and have the lengths that it says.
        let length = unsafe { self.call(libc::SYS_recvmsg, arguments) }?;
        numbers.clear();
        // SAFETY: the kernel has filled the header, whose control space still stands.
        let mut message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        while !message.is_null() {
            // SAFETY: `message` is one of the header's control messages, as the two macros give them.
            unsafe {
                if (*message).cmsg_level == libc::SOL_SOCKET && (*message).cmsg_type == libc::SCM_RIGHTS {
                    let data = libc::CMSG_DATA(message).cast::<RawFd>();
                    let bytes = (*message).cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
                    numbers.extend((0..bytes / size_of::<RawFd>()).map(|at| data.add(at).read_unaligned()));
                }
                message = libc::CMSG_NXTHDR(&raw const header, message);
            }
        }
        Ok(length)
    }

    /// Closes every descriptor beyond the streams and the socket.
    pub(crate) fn close_all_others(&self) -> io::Result<()> {
        let arguments = [4, u32::MAX as usize, 0, 0];
        // SAFETY: integers alone; whoever received these descriptors knows them by number only.
        unsafe { self.call(libc::SYS_close_range, arguments) }.map(drop)
    }

    /// Reaps one child that has ended. `None` when there is none.
    pub(crate) fn reap(&self) -> Option<(i32, i32, libc::rusage)> {
        let mut status: i32 = 0;
        // SAFETY: rusage is plain integers, for which all zeroes is a value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        let any = (-1i32) as u32 as usize;
        let arguments = [any, (&raw mut status) as usize, libc::WNOHANG as usize, (&raw mut usage) as usize];
        // SAFETY: both pointers are to locals that outlive the call.
        let pid = unsafe { self.call(libc::SYS_wait4, arguments) }.ok()?;
        i32::try_from(pid).ok().filter(|pid| *pid > 0).map(|pid| (pid, status, usage))
    }
}

#[repr(align(8))]
struct Aligned<const N: usize>([u8; N]);
