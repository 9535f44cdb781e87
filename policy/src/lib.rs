//! What is allowed: settings read from text, admission of requests, and judgement of gateway calls.
//!
//! Everything here is a function of its arguments. Must not enter: I/O (file texts are passed in), a clock (times are
//! passed in as monotonic nanoseconds), randomness, logging, and acting on a decision.
//!
//! A decision to act is a *permit* whose fields only this crate can fill; the gateway acts on nothing else.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod address;
pub mod admission;
pub mod allowlist;
pub mod judge;
pub mod rate;
pub mod secrets;
pub mod settings;
pub mod tokens;

pub use admission::{Admission, Bucket, Share, admit};
pub use allowlist::Allowlist;
pub use settings::{SettingError, Settings, Warning};
pub use tokens::{Tenant, Tokens};
