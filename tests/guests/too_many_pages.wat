;; Wants more memory at its start than the service gives: 257 pages.
(module
  (memory (export "memory") 257)
  (func (export "answer") (result i32) i32.const 42))
