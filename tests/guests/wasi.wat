;; A WASI command: words, an exit code, an echo of its input, and more output than anybody wants.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open" (func $path_open
    (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 1024) "hello\noops\n/etc/passwd")
  ;; Writes $length bytes from $at to descriptor $to.
  (func $write (param $to i32) (param $at i32) (param $length i32) (result i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $length))
    (call $fd_write (local.get $to) (i32.const 0) (i32.const 1) (i32.const 8)))
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 1024) (i32.const 6)))
    (drop (call $write (i32.const 2) (i32.const 1030) (i32.const 5))))
  (func (export "exit_with") (param i32)
    (drop (call $write (i32.const 1) (i32.const 1024) (i32.const 6)))
    (call $proc_exit (local.get 0)))
  ;; Copies stdin to stdout until it ends.
  (func (export "echo")
    (loop
      (i32.store (i32.const 16) (i32.const 4096))
      (i32.store (i32.const 20) (i32.const 4096))
      (if (i32.eqz (call $fd_read (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 24)))
        (then
          (drop (call $write (i32.const 1) (i32.const 4096) (i32.load (i32.const 24))))
          (br_if 1 (i32.load (i32.const 24)))))))
  ;; Writes $turns times 4 KiB of zeroes.
  (func (export "flood") (param $turns i32) (result i32)
    (loop
      (drop (call $write (i32.const 1) (i32.const 8192) (i32.const 4096)))
      (local.set $turns (i32.sub (local.get $turns) (i32.const 1)))
      (br_if 0 (i32.gt_s (local.get $turns) (i32.const 0))))
    i32.const 7)
  ;; How many arguments and variables there are.
  (func (export "counts") (result i32 i32)
    (drop (call $args_sizes_get (i32.const 32) (i32.const 36)))
    (drop (call $environ_sizes_get (i32.const 40) (i32.const 44)))
    (i32.load (i32.const 32))
    (i32.load (i32.const 40)))
  ;; The error of asking for the first preopened folder, and of opening a file below it.
  (func (export "files") (result i32 i32)
    (call $fd_prestat_get (i32.const 3) (i32.const 48))
    (call $path_open (i32.const 3) (i32.const 0) (i32.const 1035) (i32.const 11)
      (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 56))))
