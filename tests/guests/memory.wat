;; Grows its memory: as far as it goes and says how far; and so that it dies of it.
(module
  (memory (export "memory") 1)
  (func $fill (export "until_refused") (result i32)
    (loop
      (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    memory.size)
  (func (export "die_of_it")
    call $fill
    drop
    unreachable)
  (func (export "touch_all") (result i32)
    (local $at i32)
    (local $end i32)
    (local.set $end (i32.mul (call $fill) (i32.const 65536)))
    (loop
      (i32.store (local.get $at) (local.get $at))
      (local.set $at (i32.add (local.get $at) (i32.const 4096)))
      (br_if 0 (i32.lt_u (local.get $at) (local.get $end))))
    memory.size)
  (func (export "grow") (param i32) (result i32)
    (memory.grow (local.get 0)))
  (func (export "peek") (param i32) (result i32)
    (i32.load (local.get 0)))
  (func (export "poke") (param i32 i32)
    (i32.store (local.get 0) (local.get 1))))
