;; Two memories share one limit.
(module
  (memory $a 100)
  (memory $b 100)
  (func (export "grow_both") (param i32) (result i32 i32)
    (memory.grow $a (local.get 0))
    (memory.grow $b (local.get 0))))
