//! The gateway calls of a guest, for Rust. `docs/abi.md` is the reference.
//!
//! Works without the standard library and, unless the feature `alloc` is on, without an allocator. Nothing is kept of what
//! a call was given: all memory stays the guest's.
#![no_std]
#![warn(missing_docs)]

#[cfg(feature = "alloc")]
extern crate alloc;

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

mod import {
    #[link(wasm_import_module = "void")]
    extern "C" {
        pub fn emit(event: *const u8, event_len: usize, data: *const u8, data_len: usize) -> i32;
        pub fn kv_get(
            ns: *const u8,
            ns_len: usize,
            key: *const u8,
            key_len: usize,
            value: *mut u8,
            value_cap: usize,
        ) -> i32;
        pub fn kv_set(
            ns: *const u8,
            ns_len: usize,
            key: *const u8,
            key_len: usize,
            value: *const u8,
            value_len: usize,
        ) -> i32;
        pub fn kv_delete(ns: *const u8, ns_len: usize, key: *const u8, key_len: usize) -> i32;
        pub fn http_fetch(
            method: *const u8,
            method_len: usize,
            url: *const u8,
            url_len: usize,
            headers: *const u8,
            headers_len: usize,
            body: *const u8,
            body_len: usize,
        ) -> i32;
        pub fn http_headers(out: *mut u8, out_cap: usize) -> i32;
        pub fn http_body_len() -> i32;
        pub fn http_body(offset: usize, out: *mut u8, out_cap: usize) -> i32;
    }
}

/// Why a call did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Policy does not allow it; the run's record says which rule, and what would allow it.
    Denied,
    /// Too many in too short a time; later it may be allowed.
    RateLimited,
    /// What was sent, or would be answered, is larger than allowed.
    TooLarge,
    /// Not UTF-8, or a name, URL, method or header that is none.
    Invalid,
    /// No such key; or, of [`http`], nothing was fetched.
    NotFound,
    /// The namespace has as many keys as it may.
    Full,
    /// The time ran out.
    TimedOut,
    /// The host could not be reached, or broke off.
    Unreachable,
    /// The service cannot do it now.
    Unavailable,
    /// A code that these bindings do not know.
    Other(i32),
}

impl Error {
    /// The code, as the ABI has it: negative.
    pub fn code(self) -> i32 {
        match self {
            Error::Denied => -1,
            Error::RateLimited => -2,
            Error::TooLarge => -3,
            Error::Invalid => -4,
            Error::NotFound => -5,
            Error::Full => -6,
            Error::TimedOut => -7,
            Error::Unreachable => -8,
            Error::Unavailable => -9,
            Error::Other(code) => code,
        }
    }

    fn of(code: i32) -> Self {
        match code {
            -1 => Error::Denied,
            -2 => Error::RateLimited,
            -3 => Error::TooLarge,
            -4 => Error::Invalid,
            -5 => Error::NotFound,
            -6 => Error::Full,
            -7 => Error::TimedOut,
            -8 => Error::Unreachable,
            -9 => Error::Unavailable,
            other => Error::Other(other),
        }
    }
}

/// What a call returned: a length, a status or a number of things; or why it did nothing.
fn result(returned: i32) -> Result<usize, Error> {
    usize::try_from(returned).map_err(|_| Error::of(returned))
}

/// Publishes an event of this name with this data, at most 64 KiB.
///
/// # Errors
///
/// Any [`Error`] but `NotFound` and `Full`.
pub fn emit(event: &str, data: &[u8]) -> Result<(), Error> {
    // SAFETY: pointer and length are one slice's each, and the call only reads.
    result(unsafe { import::emit(event.as_ptr(), event.len(), data.as_ptr(), data.len()) }).map(drop)
}

/// The tenant's keys and values. The empty namespace is the unnamed one.
pub mod kv {
    use super::{import, result, Error};

    /// Reads a key into `value` and returns the value's length. Where that is more than `value` holds, nothing was written.
    ///
    /// # Errors
    ///
    /// `NotFound` where there is no such key.
    pub fn get(namespace: &str, key: &str, value: &mut [u8]) -> Result<usize, Error> {
        // SAFETY: pointer and length are one slice's each; the call writes to `value` only, and not beyond its length.
        result(unsafe {
            import::kv_get(
                namespace.as_ptr(),
                namespace.len(),
                key.as_ptr(),
                key.len(),
                value.as_mut_ptr(),
                value.len(),
            )
        })
    }

    /// A key's value, of whatever length.
    ///
    /// # Errors
    ///
    /// `NotFound` where there is no such key.
    #[cfg(feature = "alloc")]
    pub fn get_vec(namespace: &str, key: &str) -> Result<super::Vec<u8>, Error> {
        super::grown(256, |value| get(namespace, key, value))
    }

    /// Writes a key.
    ///
    /// # Errors
    ///
    /// `Full` where the namespace has no room for a new key, `TooLarge` where the value is longer than allowed.
    pub fn set(namespace: &str, key: &str, value: &[u8]) -> Result<(), Error> {
        // SAFETY: pointer and length are one slice's each, and the call only reads.
        result(unsafe {
            import::kv_set(
                namespace.as_ptr(),
                namespace.len(),
                key.as_ptr(),
                key.len(),
                value.as_ptr(),
                value.len(),
            )
        })
        .map(drop)
    }

    /// Removes a key. Whether it was there.
    ///
    /// # Errors
    ///
    /// Any [`Error`] but `NotFound` and `Full`.
    pub fn delete(namespace: &str, key: &str) -> Result<bool, Error> {
        // SAFETY: pointer and length are one slice's each, and the call only reads.
        result(unsafe { import::kv_delete(namespace.as_ptr(), namespace.len(), key.as_ptr(), key.len()) })
            .map(|removed| removed != 0)
    }
}

/// One request at a time: the answer is kept by the service until the next [`http::fetch`].
pub mod http {
    use super::{import, result, Error};

    /// Fetches. `headers` is lines of `name: value`, each ended by a line feed. Returns the status code, 100 to 599.
    ///
    /// # Errors
    ///
    /// `Denied`, `RateLimited`, `TooLarge`, `Invalid`, `TimedOut`, `Unreachable`, `Unavailable`.
    pub fn fetch(method: &str, url: &str, headers: &str, body: &[u8]) -> Result<u16, Error> {
        // SAFETY: pointer and length are one slice's each, and the call only reads.
        let returned = unsafe {
            import::http_fetch(
                method.as_ptr(),
                method.len(),
                url.as_ptr(),
                url.len(),
                headers.as_ptr(),
                headers.len(),
                body.as_ptr(),
                body.len(),
            )
        };
        u16::try_from(returned).map_err(|_| Error::of(returned))
    }

    /// The kept answer's headers, as lines of `name: value`, into `out`. Returns their length. Where that is more than
    /// `out` holds, nothing was written.
    ///
    /// # Errors
    ///
    /// `NotFound` where nothing was fetched.
    pub fn headers(out: &mut [u8]) -> Result<usize, Error> {
        // SAFETY: pointer and length are one slice's, and the call does not write beyond it.
        result(unsafe { import::http_headers(out.as_mut_ptr(), out.len()) })
    }

    /// The kept answer's headers, of whatever length.
    ///
    /// # Errors
    ///
    /// `NotFound` where nothing was fetched.
    #[cfg(feature = "alloc")]
    pub fn headers_vec() -> Result<super::Vec<u8>, Error> {
        super::grown(1024, headers)
    }

    /// The length of the kept answer's body.
    ///
    /// # Errors
    ///
    /// `NotFound` where nothing was fetched.
    pub fn body_len() -> Result<usize, Error> {
        // SAFETY: the call takes nothing.
        result(unsafe { import::http_body_len() })
    }

    /// Copies the kept answer's body from `offset` on into `out`. Returns how many bytes were written; 0 is the end.
    ///
    /// # Errors
    ///
    /// `NotFound` where nothing was fetched.
    pub fn body(offset: usize, out: &mut [u8]) -> Result<usize, Error> {
        // SAFETY: pointer and length are one slice's, and the call does not write beyond it.
        result(unsafe { import::http_body(offset, out.as_mut_ptr(), out.len()) })
    }

    /// The kept answer's body, whole.
    ///
    /// # Errors
    ///
    /// `NotFound` where nothing was fetched.
    #[cfg(feature = "alloc")]
    pub fn body_vec() -> Result<super::Vec<u8>, Error> {
        let mut whole = super::Vec::new();
        whole.resize(body_len()?, 0);
        let mut at = 0;
        while at < whole.len() {
            match body(at, &mut whole[at..])? {
                0 => break,
                more => at += more,
            }
        }
        whole.truncate(at);
        Ok(whole)
    }
}

/// What `read` writes, read again with more room where it was longer than expected.
#[cfg(feature = "alloc")]
fn grown(expected: usize, read: impl Fn(&mut [u8]) -> Result<usize, Error>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    bytes.resize(expected, 0);
    loop {
        let len = read(&mut bytes)?;
        let fits = len <= bytes.len();
        bytes.resize(len, 0);
        if fits {
            return Ok(bytes);
        }
    }
}
