;; An endless loop, a loop of a known length, and something quick beside them.
(module
  (func (export "forever") (loop br 0))
  (func (export "spin") (param $turns i64) (result i64)
    (local $sum i64)
    (loop
      (local.set $sum (i64.rotl (i64.add (local.get $sum) (local.get $turns)) (i64.const 7)))
      (local.set $turns (i64.sub (local.get $turns) (i64.const 1)))
      (br_if 0 (i64.gt_s (local.get $turns) (i64.const 0))))
    local.get $sum)
  (func (export "answer") (result i32) i32.const 42))
