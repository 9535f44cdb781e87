//! What the supervisor and its workers say to each other, and how large each thing may be.
//!
//! Holds the messages, their limits, the codec and the channel. Decides nothing, logs nothing and
//! knows nothing of HTTP. Everything that travels upward is hostile until the supervisor has judged it.
#![forbid(unsafe_code)]

pub mod channel;
mod codec;
pub mod limits;
pub mod message;

pub use codec::{CodecError, Message, decode, encode, encode_into};
