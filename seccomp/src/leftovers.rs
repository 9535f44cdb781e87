//! Mappings that a program is started with and that a run process has no use for: the Rust runtime's signal stack, and the
//! kernel's own code for asking the time.
//!
//! Each costs every fork a little, and what is not there cannot be read or jumped to. The stack that the kernel made stays,
//! for the sake of those who look at a process: its arguments and environment lie there, and ps(1) shows them.

use std::fs;
use std::io;
use std::ops::Range;

use crate::sys;

/// The mappings, as found at the start.
#[derive(Debug)]
pub struct Leftovers {
    signals: Vec<Range<usize>>,
    clock: Vec<Range<usize>>,
}

struct Mapping {
    range: Range<usize>,
    forbidden: bool,
    name: String,
}

impl Leftovers {
    /// Finds them. At the start of the program, while /proc is there and its signal stack is the runtime's.
    ///
    /// # Errors
    /// Where /proc cannot be read, or is not as proc_pid_maps(5) says.
    pub fn find() -> io::Result<Leftovers> {
        let mappings = read(&fs::read_to_string("/proc/self/maps")?)?;
        let named = |names: &[&str]| {
            let found = mappings.iter().filter(|mapping| names.contains(&mapping.name.as_str()));
            found.map(|mapping| mapping.range.clone()).collect::<Vec<_>>()
        };
        let mut signals = Vec::new();
        let present = sys::signal_stack();
        for pair in mappings.windows(2) {
            let [guard, stack] = pair else { continue };
            if present.as_ref() == Some(&stack.range)
                && guard.forbidden
                && guard.range.end == stack.range.start
            {
                signals.push(guard.range.start..stack.range.end);
            }
        }
        Ok(Leftovers { signals, clock: named(&["[vvar]", "[vvar_vclock]", "[vdso]"]) })
    }

    /// Gives them back: the signal stack, and, without `clock`, what tells the time without a kernel syscall, which nothing
    /// may ask for any more.
    ///
    /// Only when signals have [another stack](crate::memory::on_own_stack).
    ///
    /// # Errors
    /// The kernel's. What is left over costs time and nothing else.
    pub fn give_back(self, clock: bool) -> io::Result<()> {
        let clock = if clock { Vec::new() } else { self.clock };
        self.signals.iter().chain(&clock).try_for_each(sys::give_back)
    }
}

fn read(maps: &str) -> io::Result<Vec<Mapping>> {
    let read_one = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        Some(Mapping {
            range: number(start)?..number(end)?,
            forbidden: words.next()?.starts_with("---"),
            name: words.nth(3).unwrap_or_default().to_owned(),
        })
    };
    maps.lines().map(read_one).collect::<Option<_>>().ok_or_else(|| io::ErrorKind::InvalidData.into())
}
