;; Export names are any text.
(module
  (func (export "") (result i32) i32.const 1)
  (func (export "two words") (result i32) i32.const 2)
  (func (export "snow \e2\98\83") (result i32) i32.const 3)
  (func (export "wasi:cli/run@0.2.0#run") (result i32) i32.const 4)
  (func (export "a(b") (result i32) i32.const 5)
  (func (export "a->b") (result i32) i32.const 6)
  (func (export "\"quoted\"\n") (result i32) i32.const 7)
  (memory (export "memory") 1))
