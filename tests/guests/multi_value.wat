;; No result, several results, and several parameters of different types.
(module
  (func (export "none"))
  (func (export "swap") (param i32 i64) (result i64 i32) local.get 1 local.get 0)
  (func (export "five") (result i32 i64 f32 f64 v128)
    i32.const -1
    i64.const -9223372036854775808
    f32.const 0.5
    f64.const nan
    v128.const i64x2 1 0))
