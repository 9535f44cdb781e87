;; Calls itself without end, plainly and through a table.
(module
  (type $f (func (param i32) (result i32)))
  (table funcref (elem $indirect))
  (func $deep (export "deep") (param i32) (result i32)
    (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
  (func $indirect (export "indirect") (type $f)
    (i32.add (call_indirect (type $f) (local.get 0) (i32.const 0)) (i32.const 1))))
