;; Traps before anybody has called anything.
(module
  (func $boom unreachable)
  (start $boom)
  (func (export "answer") (result i32) i32.const 42))
