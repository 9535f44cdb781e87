;; A reference cannot be written down outside the module.
(module
  (func (export "gives") (result funcref) ref.null func)
  (func (export "takes") (param funcref)))
