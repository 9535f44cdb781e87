//! The typed values of the command line as the call's arguments, in the order in which they stand there.

use clap::ArgMatches;
use serde_json::value::RawValue;
use void_api::{ValType, Value};

use crate::failure::Failure;

/// The flags that give an argument; without a type the value is JSON, sent as it is.
const FLAGS: [(&str, &str, Option<ValType>); 5] = [
    ("i32s", "--i32", Some(ValType::I32)),
    ("i64s", "--i64", Some(ValType::I64)),
    ("f32s", "--f32", Some(ValType::F32)),
    ("f64s", "--f64", Some(ValType::F64)),
    ("args", "--arg", None),
];

/// Reads the values of `exec` from the matches of the whole command line.
pub(crate) fn in_order(matches: &ArgMatches) -> Result<Vec<Box<RawValue>>, Failure> {
    let Some(exec) = matches.subcommand_matches("exec") else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (id, flag, ty) in FLAGS {
        let (Some(values), Some(places)) = (exec.get_many::<String>(id), exec.indices_of(id)) else {
            continue;
        };
        for (value, place) in values.zip(places) {
            found.push((place, argument(flag, ty, value)?));
        }
    }
    found.sort_by_key(|(place, _)| *place);
    Ok(found.into_iter().map(|(_, json)| json).collect())
}

fn argument(flag: &str, ty: Option<ValType>, text: &str) -> Result<Box<RawValue>, Failure> {
    let Some(ty) = ty else {
        return RawValue::from_string(text.to_owned())
            .map_err(|error| Failure::Usage(format!("{flag} {}: not JSON ({error})", void_api::clip(text))));
    };
    // A number is written as one; NaN and the infinities are words, which JSON knows only as strings.
    let json = RawValue::from_string(text.to_owned()).or_else(|_| serde_json::value::to_raw_value(text));
    // Written back in the type's own form, so that the server can tell 2 as an i32 from 2 as an f64.
    json.ok()
        .map(|json| Value::from_json(ty, &json))
        .ok_or_else(|| Failure::Usage(format!("{flag} {}: not a value", void_api::clip(text))))?
        .map_err(|error| Failure::Usage(format!("{flag}: {error}")))
        .and_then(|value| {
            serde_json::value::to_raw_value(&value)
                .map_err(|error| Failure::Local(format!("{flag}: {error}")))
        })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::in_order;
    use crate::arguments::Cli;

    fn read(line: &str) -> Result<String, String> {
        let words = ["void-wasm", "exec", "bafy"].into_iter().chain(line.split(' '));
        let matches = Cli::command().try_get_matches_from(words).map_err(|error| error.to_string())?;
        let arguments = in_order(&matches).map_err(|failure| failure.to_string())?;
        Ok(arguments.iter().map(|json| json.get()).collect::<Vec<_>>().join(","))
    }

    #[test]
    fn order_is_kept_across_types() {
        let line = "--f64 3.14 --i32 2 --arg [1] --f64 2 --i64 -9 --i32 -5 --f32 NaN --f64 -Infinity";
        assert_eq!(read(line).unwrap(), r#"3.14,2,[1],2.0,"-9",-5,"NaN","-Infinity""#);
        assert_eq!(read("--i32=2 --wait --i32 3").unwrap(), "2,3");
        assert_eq!(read("--wait").unwrap(), "");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_flag() {
        for line in [
            "--i32 2147483648",
            "--i32 2.0",
            "--i32 x",
            "--i64 9223372036854775808",
            "--f32 1e39",
            "--f64 inf",
            "--f64 .5",
            "--arg {",
            "--i32 --i32",
        ] {
            let refusal = read(line).unwrap_err();
            assert!(refusal.contains(&line[..5]), "{line}: {refusal}");
        }
    }
}
