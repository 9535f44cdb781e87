;; Counts in a global and in memory: a run must never see another run's count.
(module
  (memory 1)
  (global $count (mut i32) (i32.const 0))
  (func (export "count") (result i32)
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))
    (i32.add (global.get $count) (i32.load (i32.const 8)))))
