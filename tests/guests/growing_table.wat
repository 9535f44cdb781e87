;; Grows its table until it is refused.
(module
  (table $t 1 funcref)
  (func (export "until_refused") (result i32)
    (loop
      (br_if 0 (i32.ne (table.grow $t (ref.null func) (i32.const 100000)) (i32.const -1))))
    (table.size $t)))
