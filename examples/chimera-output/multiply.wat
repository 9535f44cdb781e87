(module
  (func (export "multiply") (param $a f64) (param $b f64) (result f64)
    (f64.mul (local.get $a) (local.get $b))))
