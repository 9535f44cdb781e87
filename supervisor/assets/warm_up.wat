;; The service's own module: what every zygote calls once before it locks itself down, and what the proof at the start
;; executes. A trap and a data segment are in it so that the engine has made all that it makes at first use.
(module
  (memory 1)
  (data (i32.const 0) "void")
  (table 1 funcref)
  (elem (i32.const 0) $add)
  (func $add (export "add") (param i32 i32) (result i32)
    local.get 0
    local.get 1
    i32.add)
  (func $trap (export "trap")
    unreachable))
