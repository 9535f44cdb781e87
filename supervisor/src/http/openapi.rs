//! `GET /openapi.json`: this API for programs, OpenAPI 3.1. Schemas are made from the very types that are read and
//! written; what each path takes and answers stands in `operations`.

mod operations;
mod schemas;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use hyper::header::{HeaderMap, HeaderValue};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use void_api::{PROBLEM_JSON, Problem, ProblemCode};

use super::answer::{self, Answer};
use operations::Operation;
pub(super) use schemas::{Live, MissingLayer, PolicyView, Ready};

/// The document, made once.
static DOCUMENT: LazyLock<answer::Kept> = LazyLock::new(|| answer::Kept::new(document().to_string()));

/// The document, or that the client has it.
pub(super) fn answer(headers: &HeaderMap) -> Answer {
    DOCUMENT.answer(headers, HeaderValue::from_static("application/json"))
}

fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
        .into_generator();
    let problem = generator.subschema_for::<Problem>().to_value();
    let mut paths: BTreeMap<&'static str, Map<String, Value>> = BTreeMap::new();
    for operation in operations::all(&mut generator) {
        let described = describe(&operation, &problem);
        paths.entry(operation.path).or_default().insert(operation.method.to_owned(), described);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "void-wasm",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Runs untrusted WebAssembly, each run in a locked-down process of its own.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{}, { "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Needed where the service has WASM_API_TOKENS_FILE. Says which tenant calls.",
                },
            },
            "schemas": definitions(&mut generator),
        },
    })
}

fn definitions(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let mut definitions = generator.take_definitions(true);
    // Rust's names for sizes of integers say nothing to other languages; the bounds stand beside them.
    definitions.values_mut().for_each(without_formats);
    definitions
}

fn without_formats(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
                fields.remove("format");
            }
            fields.values_mut().for_each(without_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(without_formats),
        _ => {}
    }
}

fn describe(operation: &Operation, problem: &Value) -> Value {
    let mut described = Map::new();
    described.insert("operationId".into(), operation.id.into());
    described.insert("summary".into(), operation.summary.into());
    if !operation.description.is_empty() {
        described.insert("description".into(), operation.description.into());
    }
    if !operation.parameters.is_empty() {
        described.insert("parameters".into(), operation.parameters.clone().into());
    }
    if let Some(body) = &operation.body {
        described.insert("requestBody".into(), body.clone());
    }
    if !operation.for_tenants {
        described.insert("security".into(), json!([{}]));
    }
    let mut answers: Map<String, Value> = operation.answers.iter().cloned().collect();
    answers.extend(problems(operation, problem));
    described.insert("responses".into(), answers.into());
    described.into()
}

/// The refusals that an operation knows, by status.
fn problems(operation: &Operation, problem: &Value) -> impl Iterator<Item = (String, Value)> {
    let mut by_status: BTreeMap<u16, Vec<ProblemCode>> = BTreeMap::new();
    let always: &[ProblemCode] = if operation.for_tenants { &[ProblemCode::Unauthorized] } else { &[] };
    for code in operation.problems.iter().chain(always) {
        by_status.entry(code.status()).or_default().push(*code);
    }
    // A web page of another origin may not write where there are no tokens.
    if operation.for_tenants && operation.method != "get" {
        by_status.insert(403, vec![ProblemCode::Unauthorized]);
    }
    by_status.into_iter().map(|(status, codes)| (status.to_string(), refusal(status, &codes, problem)))
}

fn refusal(status: u16, codes: &[ProblemCode], problem: &Value) -> Value {
    let mut headers = Map::new();
    if codes.iter().any(|code| code.retry_after().is_some()) {
        headers.insert("Retry-After".into(), seconds("When to try again"));
    }
    if status == 401 {
        let schema = json!({ "type": "string", "pattern": "^Bearer " });
        headers.insert("WWW-Authenticate".into(), json!({ "required": true, "schema": schema }));
    }
    let titles: Vec<&str> = codes.iter().map(|code| code.title()).collect();
    json!({
        "description": titles.join(". ") + ".",
        "headers": headers,
        "content": { PROBLEM_JSON: { "schema": {
            "allOf": [problem],
            "properties": { "code": { "enum": codes }, "status": { "const": status } },
        } } },
    })
}

/// A header that counts seconds.
fn seconds(description: &str) -> Value {
    json!({
        "description": format!("{description}, in seconds."),
        "required": true,
        "schema": { "type": "integer", "minimum": 0 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::route::Route;
    use crate::metrics::ROUTES;

    /// Every `$ref` of a document.
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_path_is_described_with_its_method() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        for (path, operations) in paths {
            let (route, _) = Route::of(&path.replace(['{', '}'], ""));
            assert_ne!(route, Route::Other, "{path}");
            let method = operations.as_object().unwrap().keys().next().unwrap().to_uppercase();
            assert!(route.methods().starts_with(&method), "{path} {method}");
        }
        // All but the page's parts and what is nothing.
        assert_eq!(paths.len() + 2, ROUTES.len());
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_schema_is_used() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 10);
        for reference in &found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            assert!(found.contains(&format!("#/components/schemas/{name}").as_str()), "{name} is not used");
        }
    }

    #[test]
    fn fields_that_may_be_absent_are_never_null() {
        let document = document();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let required = |name: &str| schemas[name]["required"].clone();
        assert_eq!(required("ExecRequest"), json!(["target"]));
        assert_eq!(
            required("RunRecord"),
            json!(["run_id", "status", "mode", "result", "usage", "target", "entry", "labels", "created_at"])
        );
        assert!(!document.to_string().contains("\"null\""), "a type that may be null");
    }
}
