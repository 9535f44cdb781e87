//! What the service says about itself, as types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

/// `GET /health`
#[derive(Serialize, JsonSchema)]
pub(crate) struct Live {
    /// `ok`, always.
    #[schemars(extend("const" = "ok"))]
    pub(crate) status: &'static str,
}

/// `GET /readyz`
#[derive(Serialize, JsonSchema)]
pub(crate) struct Ready {
    /// `ready`, always: otherwise the answer is a problem.
    #[schemars(extend("const" = "ready"))]
    pub(crate) status: &'static str,
}

/// Settings of one kind, by their names.
type Part = BTreeMap<String, serde_json::Value>;

/// `GET /v1/policy`: what holds, as far as a tenant may know it.
#[derive(Serialize, JsonSchema)]
pub(crate) struct PolicyView<'a> {
    /// The service's version.
    pub(crate) version: &'static str,
    /// Who asks.
    pub(crate) tenant: &'a str,
    /// Counts the reloads that took effect.
    pub(crate) generation: u64,
    /// The master switch.
    pub(crate) enabled: bool,
    /// Whether runs are accepted and not executed.
    pub(crate) freeze: bool,
    /// The share of runs that execute.
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub(crate) canary: void_policy::Share,
    /// Kinds of gateway call that are granted.
    #[schemars(with = "Vec<String>", extend("items" = { "enum": ["emit", "http", "kv"] }))]
    pub(crate) caps: void_policy::settings::Caps,
    /// What one run may spend.
    #[schemars(with = "Part")]
    pub(crate) limits: void_policy::settings::Limits,
    /// The terms of `http.fetch`.
    #[schemars(with = "Part")]
    pub(crate) http: &'a void_policy::settings::HttpGrant,
    /// The terms of `kv.*`.
    #[schemars(with = "Part")]
    pub(crate) kv: void_policy::settings::KvGrant,
    /// How many runs at once, and how they are kept apart.
    #[schemars(with = "Part")]
    pub(crate) work: void_policy::settings::Work,
    /// Ended runs kept.
    #[schemars(with = "Part")]
    pub(crate) retention: void_policy::settings::Retention,
    /// `run`: a process for every run. `module`: a worker for each tenant and module.
    #[schemars(with = "String", extend("enum" = ["run", "module"]))]
    pub(crate) isolation: void_policy::settings::Isolation,
    /// The layers that stand around a run, in the order in which a process takes them on.
    pub(crate) layers: Vec<&'static str>,
    /// Those that do not, where the service was told to start nevertheless.
    pub(crate) layers_missing: Vec<MissingLayer<'a>>,
    /// Every setting that a tenant may see, as it would stand in the environment.
    #[schemars(with = "BTreeMap<String, String>")]
    pub(crate) settings: BTreeMap<&'static str, String>,
}

/// A layer that does not stand.
#[derive(Serialize, JsonSchema)]
pub(crate) struct MissingLayer<'a> {
    /// Its name.
    pub(crate) layer: &'static str,
    /// Why.
    pub(crate) detail: &'a str,
}
