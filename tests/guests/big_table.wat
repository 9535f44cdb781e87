;; Wants ten million table elements at its start.
(module
  (table 10000000 funcref)
  (func (export "answer") (result i32) i32.const 42))
