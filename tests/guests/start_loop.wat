;; Loops before anybody has called anything.
(module
  (func $spin (loop br 0))
  (start $spin)
  (func (export "answer") (result i32) i32.const 42))
