package tensor

import (
	"golang.org/x/sys/cpu"

	"github.com/neuroseal/neuroseal/internal/dtype"
)

// haveAsm selects the assembly kernels. Only tests change it.
var haveAsm = cpu.X86.HasAVX2 && cpu.X86.HasFMA && cpu.X86.HasF16C

// kernelsFor returns the assembly for weights of type d, nil if there is none.
func kernelsFor(d dtype.DType) *kernels {
	if haveAsm && int(d) < len(assembly) {
		return assembly[d]
	}
	return nil
}

var assembly = [...]*kernels{
	dtype.BF16: {
		[5][5]dotFunc{
			4: {1: dotBF16T4R1, 2: dotBF16T4R2},
			2: {1: dotBF16T2R1, 4: dotBF16T2R4},
			1: {1: dotBF16T1R1, 4: dotBF16T1R4},
		},
		[5]axpyFunc{1: axpyBF16T1, 4: axpyBF16T4},
	},
	dtype.F16: {
		[5][5]dotFunc{
			4: {1: dotF16T4R1, 2: dotF16T4R2},
			2: {1: dotF16T2R1, 4: dotF16T2R4},
			1: {1: dotF16T1R1, 4: dotF16T1R4},
		},
		[5]axpyFunc{1: axpyF16T1, 4: axpyF16T4},
	},
	dtype.F32: {
		[5][5]dotFunc{
			4: {1: dotF32T4R1, 2: dotF32T4R2},
			2: {1: dotF32T2R1, 4: dotF32T2R4},
			1: {1: dotF32T1R1, 4: dotF32T1R4},
		},
		[5]axpyFunc{1: axpyF32T1, 4: axpyF32T4},
	},
}
