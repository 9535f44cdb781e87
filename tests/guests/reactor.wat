;; A reactor: begins once, before whatever is asked of it. The order of what was called is in the digits.
(module
  (import "wasi_snapshot_preview1" "sched_yield" (func $sched_yield (result i32)))
  (memory (export "memory") 1)
  (global $calls (mut i32) (i32.const 0))
  (func $note (param i32)
    (global.set $calls (i32.add (i32.mul (global.get $calls) (i32.const 10)) (local.get 0))))
  (func $start (call $note (i32.const 1)))
  (start $start)
  (func (export "_initialize") (drop (call $sched_yield)) (call $note (i32.const 2)))
  (func (export "calls") (result i32) (call $note (i32.const 3)) (global.get $calls)))
