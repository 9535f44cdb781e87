//! JSON Schemas of the types that have a JSON form of their own. The others derive theirs beside their definition.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::limits::{CID_MAX_BYTES, ENTRY_MAX_BYTES};
use crate::{Entry, Problem, ProblemCode, RunId, Target, Timestamp, TypeName};

const DIGEST: &str = "^sha256:[0-9a-fA-F]{64}$";

macro_rules! schema {
    ($($(#[$meta:meta])* $type:ty, $name:literal, $generator:ident => $schema:expr;)+) => {
        $(impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        })+
    };
}

schema! {
    RunId, "RunId", _g => json_schema!({ "type": "string", "pattern": "^wasm_[0-7][0-9a-hjkmnp-tv-z]{25}$" });
    Timestamp, "Timestamp", _g => json_schema!({
        "type": "string", "format": "date-time", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]{3}Z$",
    });
    Entry, "Entry", _g => json_schema!({
        "description": "An export: name, name(types), name(types)->type or name(types)->(types). A name that holds \
                        parentheses is written in double quotes.",
        "type": "string", "minLength": 1, "maxLength": ENTRY_MAX_BYTES, "default": "_start",
    });
    TypeName, "TypeName", _g => json_schema!({
        "description": "i32, i64, f32, f64, v128, or what has no JSON form, as WebAssembly text writes it.", "type": "string",
    });
    Argument, "Argument", _g => json_schema!({
        "description": "i32, f32, f64: a number. i64: a number or a string. f32 and f64 also \"NaN\", \"Infinity\", \
                        \"-Infinity\". v128: \"0x\" and 32 hex digits.",
        "type": ["number", "string"],
    });
    Target, "Target", _g => target();
    Problem, "Problem", generator => problem(generator);
}

/// One item of `args`.
pub(crate) struct Argument;

/// The entry is written always and may be left away.
pub(crate) fn without_entry(schema: &mut Schema) {
    if let Some(required) = schema.get_mut("required").and_then(|required| required.as_array_mut()) {
        required.retain(|name| name != "entry");
    }
}

fn target() -> Schema {
    let one = |field: &str, mut value: Schema, says: &str| {
        value.insert("description".to_owned(), says.into());
        json_schema!({
            "type": "object", "required": [field], "additionalProperties": false, "properties": { field: value },
        })
    };
    let digest = || json_schema!({ "type": "string", "pattern": DIGEST });
    let cid = json_schema!({ "type": "string", "minLength": 1, "maxLength": CID_MAX_BYTES });
    let bytes = json_schema!({ "type": "string", "pattern": DIGEST.replace("sha256:", "(sha256:)?") });
    json_schema!({
        "description": "Which module.",
        "oneOf": [
            one("cid", cid, "A CID, version 0 or 1, raw or dag-pb, sha2-256."),
            one("ast_hash", digest(), "Of the source, as a manifest names it."),
            one("astHash", digest(), "The same as ast_hash."),
            one("sha256", bytes, "Of the module's bytes."),
        ],
    })
}

fn problem(generator: &mut SchemaGenerator) -> Schema {
    let code = generator.subschema_for::<ProblemCode>();
    let run_id = generator.subschema_for::<RunId>();
    json_schema!({
        "description": "RFC 9457 problem details: code says what is wrong, detail what to do.",
        "type": "object",
        "required": ["type", "title", "status", "code", "detail", "error"],
        "properties": {
            "type": { "type": "string", "pattern": "^urn:void-wasm:problem:[a-z_]+$" },
            "title": { "type": "string", "description": "The same words for every problem of a code." },
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "code": code,
            "detail": { "type": "string", "description": "One sentence that says what to do." },
            "error": { "type": "string", "description": "The same as detail, for simple clients." },
            "run_id": run_id,
        },
    })
}
