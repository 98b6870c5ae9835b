package dtype

import "golang.org/x/sys/cpu"

// haveAsm selects the assembly kernels. Only tests change it.
var haveAsm = cpu.X86.HasAVX2 && cpu.X86.HasFMA && cpu.X86.HasF16C && cpu.X86.HasPOPCNT
