package sha256x2

import "golang.org/x/sys/cpu"

// haveAsm selects the kernels: they need the SHA extensions and AVX. All
// processors with both have AVX2, too, which GODEBUG=cpu.avx2=off hides from all
// packages with assembly at once.
var haveAsm = cpu.X86.HasAVX2 && extendedFeatures()&(1<<29) != 0
