//! What each path takes and answers.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};
use void_api::limits::{IDEMPOTENCY_KEY_MAX_CHARS, WAIT_MAX_SECONDS};
use void_api::{
    Accepted, ExecRequest, Mode, ModuleInfo, ProblemCode as P, RunId, RunList, RunRecord, Status,
};
use void_store::LIST_LIMIT;

use super::schemas::{Live, PolicyView, Ready};
use super::seconds;

/// One method of one path.
pub(super) struct Operation {
    pub(super) path: &'static str,
    /// In lower case.
    pub(super) method: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    /// Whether it is asked by a tenant.
    pub(super) for_tenants: bool,
    pub(super) parameters: Vec<Value>,
    pub(super) body: Option<Value>,
    /// By status.
    pub(super) answers: Vec<(String, Value)>,
    /// Refusals beside those of the token.
    pub(super) problems: &'static [P],
}

impl Operation {
    fn new(method: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self {
            path,
            method,
            id,
            summary,
            description: "",
            for_tenants: true,
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            problems: &[],
        }
    }

    fn says(self, description: &'static str) -> Self {
        Self { description, ..self }
    }

    fn open(self) -> Self {
        Self { for_tenants: false, ..self }
    }

    fn parameter(mut self, place: &str, name: &str, description: &str, schema: Value) -> Self {
        self.parameters.push(json!({
            "name": name, "in": place, "required": place == "path", "description": description, "schema": schema,
        }));
        self
    }

    fn body(self, kind: &str, schema: Value) -> Self {
        Self { body: Some(json!({ "required": true, "content": { kind: { "schema": schema } } })), ..self }
    }

    /// An answer in `kind`, with these headers.
    fn answer(mut self, status: u16, description: &str, kind: &str, schema: Value, headers: Value) -> Self {
        let content = json!({ kind: { "schema": schema } });
        let answer = json!({ "description": description, "headers": headers, "content": content });
        self.answers.push((status.to_string(), answer));
        self
    }

    fn json(self, status: u16, description: &str, schema: Value) -> Self {
        self.answer(status, description, "application/json", schema, json!({}))
    }

    /// Not changed since the client had it.
    fn unchanged(mut self) -> Self {
        self.parameters.push(json!({
            "name": "If-None-Match", "in": "header", "required": false, "description": "The ETag of what the client has.",
            "schema": { "type": "string" },
        }));
        self.answers.push((
            "304".to_owned(),
            json!({ "description": "The client has it.", "headers": { "ETag": etag() } }),
        ));
        self
    }

    fn refuses(self, problems: &'static [P]) -> Self {
        Self { problems, ..self }
    }
}

fn etag() -> Value {
    json!({ "description": "Changes with the content.", "required": true, "schema": { "type": "string" } })
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

/// All of them.
pub(super) fn all(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let mut all = vec![exec(generator)];
    all.extend(runs(generator));
    all.extend(modules(generator));
    all.extend(about_the_service(generator));
    all
}

fn exec(generator: &mut SchemaGenerator) -> Operation {
    let location = json!({
        "description": "Where the run is found.",
        "required": true,
        "schema": { "type": "string", "pattern": "^/v1/runs/wasm_[0-7][0-9a-hjkmnp-tv-z]{25}$" },
    });
    let (record, accepted) = (of::<RunRecord>(generator), of::<Accepted>(generator));
    let applied = json!({
        "description": "With Prefer: wait, and the run over in time.",
        "schema": { "type": "string", "pattern": "^wait=[0-9]+$" },
    });
    let maybe_location = json!({ "description": location["description"], "schema": location["schema"] });
    Operation::new("post", "/v1/exec", "exec", "Run a module")
        .says("Checked in this order: size, form, token, master switch, what can be refused without the module, idempotency \
               key, freeze, canary share, queue.")
        .parameter(
            "header",
            "Prefer",
            "wait=N: answer with the record if the run ends within N seconds, at most 60. Others are ignored.",
            json!({ "type": "string", "examples": ["wait=10"] }),
        )
        .parameter(
            "header",
            "Idempotency-Key",
            "The same as the field idempotency_key.",
            json!({ "type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_MAX_CHARS }),
        )
        .body("application/json", of::<ExecRequest>(generator))
        .answer(
            200,
            "With Prefer: wait, the record of the run, which has ended. With an idempotency key seen before, the first run.",
            "application/json",
            json!({ "anyOf": [record, accepted] }),
            json!({ "Preference-Applied": applied, "Location": maybe_location }),
        )
        .answer(
            202,
            "The run was accepted.",
            "application/json",
            accepted,
            json!({ "Location": location, "Retry-After": seconds("When to look") }),
        )
        .refuses(&[
            P::PayloadTooLarge, P::MalformedJson, P::UnknownField, P::DuplicateField, P::InvalidField,
            P::MissingField, P::InvalidValue, P::InvalidTarget, P::InvalidEntry, P::InvalidArgs, P::InvalidQuery,
            P::InvalidHeader, P::IdempotencyConflict, P::IdempotencyMismatch, P::Disabled, P::QueueFull, P::Draining,
            P::Unavailable, P::Timeout, P::Internal,
        ])
}

fn runs(generator: &mut SchemaGenerator) -> [Operation; 4] {
    let record = of::<RunRecord>(generator);
    let run_id = of::<RunId>(generator);
    let mode = json!({ "enum": Mode::ALL.iter().filter(|mode| **mode != Mode::Cached).collect::<Vec<_>>() });
    [
        Operation::new("get", "/v1/runs", "listRuns", "List runs, newest first")
            .parameter("query", "status", "Only with this status.", of::<Status>(generator))
            .parameter("query", "mode", "Only with this mode.", mode)
            .parameter(
                "query",
                "label",
                "key:value; may repeat, and all must match.",
                json!({ "type": "array", "maxItems": void_api::limits::LABELS_MAX,
                        "items": { "type": "string", "pattern": "^[^:]+:" } }),
            )
            .parameter(
                "query",
                "limit",
                "Runs on a page.",
                json!({ "type": "integer", "minimum": 1, "maximum": LIST_LIMIT, "default": 50 }),
            )
            .parameter("query", "cursor", "next_cursor of the page before.", run_id.clone())
            .json(200, "One page.", of::<RunList>(generator))
            .refuses(&[P::InvalidQuery, P::Draining, P::Unavailable]),
        Operation::new("get", "/v1/runs/{run_id}", "getRun", "Read a run, or wait for its end")
            .parameter("path", "run_id", "The run.", run_id.clone())
            .parameter(
                "query",
                "wait",
                "Seconds to wait for the run's end; more than 60 count as 60.",
                json!({ "type": "integer", "minimum": 0, "default": 0, "examples": [WAIT_MAX_SECONDS] }),
            )
            .json(200, "The record as it stands.", record.clone())
            .refuses(&[P::InvalidQuery, P::RunNotFound, P::Draining, P::Unavailable]),
        Operation::new("post", "/v1/runs/{run_id}/cancel", "cancelRun", "End a run")
            .parameter("path", "run_id", "The run.", run_id.clone())
            .json(200, "The final record.", record)
            .refuses(&[P::InvalidQuery, P::RunNotFound, P::AlreadyEnded, P::Draining, P::Unavailable]),
        Operation::new("get", "/v1/events", "events", "Follow events")
            .says("Server-Sent Events; each has a CloudEvent 1.0 in JSON as its data and its number as its id. Begins with what \
                   comes next, with all that is known of run_id, or after Last-Event-ID.")
            .parameter(
                "query",
                "type",
                "Only of this type.",
                json!({ "enum": ["wasm.exec.started", "wasm.exec.finished", "wasm.exec.error", "wasm.guest.emit"] }),
            )
            .parameter("query", "run_id", "Only of this run.", run_id)
            .parameter("header", "Last-Event-ID", "Go on after this event.", json!({ "type": "integer", "minimum": 0 }))
            .answer(
                200,
                "The stream, which goes on until the client leaves.",
                "text/event-stream",
                json!({ "type": "string" }),
                json!({}),
            )
            .refuses(&[P::InvalidQuery, P::InvalidHeader]),
    ]
}

fn modules(generator: &mut SchemaGenerator) -> [Operation; 2] {
    let info = of::<ModuleInfo>(generator);
    let location = json!({ "Location": {
        "description": "Where the module is found.", "required": true,
        "schema": { "type": "string", "pattern": "^/v1/modules/[a-z0-9]+$" },
    } });
    [
        Operation::new("put", "/v1/modules", "putModule", "Upload a module")
            .says("Kept for the tenant that uploads it.")
            .body("application/wasm", json!({ "type": "string", "format": "binary" }))
            .answer(201, "What it is.", "application/json", info.clone(), location)
            .refuses(&[
                P::InvalidQuery,
                P::MalformedJson,
                P::ModuleTooLarge,
                P::ModuleInvalid,
                P::Timeout,
                P::Unavailable,
                P::Internal,
            ]),
        Operation::new("get", "/v1/modules/{cid}", "getModule", "What a module is")
            .parameter("path", "cid", "A CID of the module.", json!({ "type": "string", "minLength": 1 }))
            .json(200, "What it is.", info)
            .refuses(&[
                P::InvalidQuery,
                P::ModuleNotFound,
                P::ModuleUnverified,
                P::ModuleInvalid,
                P::Unavailable,
                P::Internal,
            ]),
    ]
}

fn about_the_service(generator: &mut SchemaGenerator) -> [Operation; 6] {
    let with_etag = json!({ "ETag": etag() });
    [
        Operation::new(
            "get",
            "/v1/policy",
            "policy",
            "The settings in force and the layers of isolation that stand",
        )
        .json(200, "The policy.", of::<PolicyView>(generator))
        .refuses(&[P::InvalidQuery]),
        Operation::new("get", "/metrics", "metrics", "Numbers for Prometheus")
            .open()
            .answer(200, "The text format.", "text/plain", json!({ "type": "string" }), json!({}))
            .refuses(&[P::Internal]),
        Operation::new("get", "/health", "health", "Whether the process lives").open().json(
            200,
            "It does.",
            of::<Live>(generator),
        ),
        Operation::new("get", "/readyz", "ready", "Whether a run would be taken")
            .open()
            .json(200, "It would.", of::<Ready>(generator))
            .refuses(&[P::Disabled, P::Draining, P::Unavailable]),
        Operation::new("get", "/openapi.json", "openapi", "This document")
            .open()
            .answer(200, "It.", "application/json", json!({ "type": "object" }), with_etag)
            .unchanged(),
        Operation::new("get", "/", "statusPage", "How the service is, for people")
            .says(
                "Shows numbers of all tenants together; the runs of the tenant that asks, where it is known.",
            )
            .open()
            .answer(200, "A page.", "text/html", json!({ "type": "string" }), json!({}))
            .refuses(&[P::Unauthorized, P::Internal]),
    ]
}
