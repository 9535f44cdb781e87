//! Random numbers for run ids, which must not be guessed: from the kernel, taken many at a time, for asking costs more than the rest
//! of an id.

use std::cell::RefCell;

const BYTES: usize = 1024;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; BYTES], used: BYTES }) };
}

struct Pool {
    bytes: [u8; BYTES],
    used: usize,
}

/// A random number of 128 bits.
///
/// # Errors
/// The kernel's, when it has no randomness to give.
pub(crate) fn number() -> Result<u128, getrandom::Error> {
    POOL.with_borrow_mut(Pool::take)
}

impl Pool {
    fn take(&mut self) -> Result<u128, getrandom::Error> {
        if self.used == BYTES {
            getrandom::fill(&mut self.bytes)?;
            self.used = 0;
        }
        let mut taken = [0; 16];
        // The pool holds a whole number of them; what was given is not kept.
        for (to, from) in taken.iter_mut().zip(&mut self.bytes[self.used..]) {
            *to = std::mem::take(from);
        }
        self.used += taken.len();
        Ok(u128::from_le_bytes(taken))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn no_number_comes_twice() {
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            assert!(seen.insert(super::number().ok()), "a number came twice");
        }
        assert!(!seen.contains(&Some(0)));
    }
}
