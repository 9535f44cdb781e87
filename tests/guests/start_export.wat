;; A command: its entry is `_start`, the default.
(module
  (memory (export "memory") 1)
  (func (export "_start")))
