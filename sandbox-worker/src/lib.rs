//! The confined side: what runs in the processes below the supervisor. It decides nothing.
//!
//! [`spawner`] starts workers in namespaces of their own. A [`zygote`] holds one module's code and an
//! instance in which no guest code has run; it forks a [`run`] process for each run.
#![deny(unsafe_code)]

use void_seccomp::Near;

/// What a run process writes lies close together: see [`Near`].
#[global_allocator]
static HEAP: Near = Near::new();

pub mod engine;
pub mod imports;
pub mod limiter;
pub mod line;
pub mod run;
pub mod spawner;
pub mod zygote;
