;; What the node runs before it offers this runner: "ok", and a newline.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "\10\00\00\00\03\00\00\00ok\n")
  (func (export "_start")
    (drop (call 0 (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 0)))))
