//go:build !amd64 && !arm64

package tensor

import "github.com/neuroseal/neuroseal/internal/dtype"

// haveAsm is false: this architecture runs the portable kernels.
var haveAsm = false

func kernelsFor(dtype.DType) *kernels { return nil }
