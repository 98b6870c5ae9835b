package tensor

import "github.com/neuroseal/neuroseal/internal/dtype"

// haveAsm selects the assembly kernels: every arm64 processor has NEON. Only tests
// change it.
var haveAsm = true

// kernelsFor returns nil: products with weights as stored run in Go.
func kernelsFor(dtype.DType) *kernels { return nil }
