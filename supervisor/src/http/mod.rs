//! HTTP/1.1: from bytes on a connection to the service's functions, and from what they say to bytes.
//!
//! Parses, bounds and renders. Must not enter: decisions of policy, the life of a run, SQL.
//!
//! ```text
//! connection ─► route ─► auth ─► exec │ runs │ modules │ events │ state │ page │ openapi ─► answer
//!                                 └ body, prefer, query: what a request says beside its path
//! ```

mod answer;
mod auth;
mod body;
mod connection;
mod events;
mod exec;
mod modules;
mod openapi;
mod page;
mod prefer;
mod query;
mod route;
mod runs;
mod state;

pub(crate) use connection::serve_connection;
