//! Values: what is read, what is refused, what is printed.

use super::*;
use proptest::prelude::*;

fn read(ty: ValType, json: &str) -> Result<Value, ValueError> {
    let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
    Value::from_json(ty, &raw)
}

fn f32v(x: f32) -> Value {
    Value::F32(x.to_bits())
}

fn f64v(x: f64) -> Value {
    Value::F64(x.to_bits())
}

#[test]
fn accepted_forms() {
    for (ty, json, value) in [
        (ValType::I32, "-2147483648", Value::I32(i32::MIN)),
        (ValType::I32, " 7 ", Value::I32(7)),
        (ValType::I64, "9223372036854775807", Value::I64(i64::MAX)),
        (ValType::I64, "\"-9223372036854775808\"", Value::I64(i64::MIN)),
        (ValType::F32, "3.3", f32v(3.3)),
        (ValType::F32, "2", f32v(2.0)),
        (ValType::F32, "-0", f32v(-0.0)),
        (ValType::F32, "-0.0", f32v(-0.0)),
        (ValType::F32, "3.4028235e38", f32v(f32::MAX)),
        // Just below the middle of two f32; an f64 cannot tell it from the middle, and would round up.
        (ValType::F32, "1.00000017881393432617187499", f32v(1.000_000_1)),
        (ValType::F32, "\"-Infinity\"", f32v(f32::NEG_INFINITY)),
        (ValType::F64, "1e308", f64v(1e308)),
        (ValType::F64, "\"NaN\"", Value::F64(0x7ff8_0000_0000_0000)),
        (ValType::F64, "9007199254740993", f64v(9_007_199_254_740_992.0)),
    ] {
        assert_eq!(read(ty, json), Ok(value), "{json} as {ty}");
    }
    let mut bytes = [0; 16];
    bytes[0] = 0x01;
    bytes[15] = 0xfe;
    assert_eq!(read(ValType::V128, "\"0xFE000000000000000000000000000001\""), Ok(Value::V128(bytes)));
}

#[test]
fn nothing_is_coerced() {
    for (ty, json) in [
        (ValType::I32, "2147483648"),
        (ValType::I32, "4294967295"),
        (ValType::I32, "2.0"),
        (ValType::I32, "2e0"),
        (ValType::I32, "\"2\""),
        (ValType::I32, "true"),
        (ValType::I32, "null"),
        (ValType::I32, "[2]"),
        (ValType::I64, "9223372036854775808"),
        (ValType::I64, "\"9223372036854775808\""),
        (ValType::I64, "\" 1\""),
        (ValType::I64, "\"+1\""),
        (ValType::I64, "\"01\""),
        (ValType::I64, "\"\""),
        (ValType::I64, "\"-\""),
        (ValType::I64, "1.0"),
        (ValType::F32, "3.5e38"),
        (ValType::F32, "1e400"),
        (ValType::F32, "\"1\""),
        (ValType::F32, "\"nan\""),
        (ValType::F64, "1e400"),
        (ValType::F64, "\"inf\""),
        (ValType::F64, "\"+Infinity\""),
        (ValType::V128, "1"),
        (ValType::V128, "\"0x1\""),
        (ValType::V128, "\"0XFE000000000000000000000000000001\""),
        (ValType::V128, "\"FE000000000000000000000000000001\""),
        (ValType::V128, "\"0x+E000000000000000000000000000001\""),
    ] {
        assert!(read(ty, json).is_err(), "{json} as {ty}");
    }
}

#[test]
fn a_refusal_is_short_whatever_it_refuses() {
    let error = read(ValType::I32, &format!("\"{}\"", "x".repeat(10_000))).unwrap_err().to_string();
    assert!(error.len() < 200, "{error}");
}

#[test]
fn printed_forms() {
    for (value, json) in [
        (Value::I32(-1), "-1"),
        (Value::I64(i64::MIN), "\"-9223372036854775808\""),
        (f32v(3.3), "3.3"),
        (f32v(-0.0), "-0.0"),
        (f32v(16_777_216.0), "16777216.0"),
        (f64v(0.1), "0.1"),
        (f64v(f64::NAN), "\"NaN\""),
        (f32v(f32::NEG_INFINITY), "\"-Infinity\""),
        (Value::V128(1u128.to_le_bytes()), "\"0x00000000000000000000000000000001\""),
    ] {
        assert_eq!(serde_json::to_string(&value).unwrap(), json);
    }
}

#[test]
fn results_are_null_one_or_an_array() {
    let get = |values: &[Value]| results_json(values).map(|raw| raw.get().to_owned());
    assert_eq!(get(&[]), None);
    assert_eq!(get(&[Value::I32(5)]).as_deref(), Some("5"));
    assert_eq!(get(&[Value::I32(5), Value::I64(6)]).as_deref(), Some("[5,\"6\"]"));
}

#[test]
fn reference_types_are_refused_as_such() {
    for word in ["funcref", "externref", "anyref", "ref null 0"] {
        assert!(matches!(ValType::parse(word), Err(TypeError::Reference(_))), "{word}");
    }
    for word in ["i33", "", "I32", " i32"] {
        assert!(matches!(ValType::parse(word), Err(TypeError::Unknown(_))), "{word}");
    }
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i32>().prop_map(Value::I32),
        any::<i64>().prop_map(Value::I64),
        any::<u32>().prop_map(Value::F32),
        any::<u64>().prop_map(Value::F64),
        any::<[u8; 16]>().prop_map(Value::V128),
    ]
}

proptest! {
    #[test]
    fn every_value_survives_json(value in values()) {
        let json = serde_json::to_string(&value).unwrap();
        let back = read(value.ty(), &json).unwrap();
        match value {
            Value::F32(bits) if f32::from_bits(bits).is_nan() => prop_assert_eq!(back, Value::F32(0x7fc0_0000)),
            Value::F64(bits) if f64::from_bits(bits).is_nan() => {
                prop_assert_eq!(back, Value::F64(0x7ff8_0000_0000_0000));
            }
            _ => prop_assert_eq!(back, value),
        }
    }
}
