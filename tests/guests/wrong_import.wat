;; Imports a known function with the wrong type.
(module
  (import "wasi_snapshot_preview1" "random_get" (func (param f64) (result f64)))
  (func (export "answer") (result i32) i32.const 42))
