package gguf

import "golang.org/x/sys/cpu"

//go:generate go -C asm run . -out ../kernels_amd64.s -stubs ../kernels_amd64.go -pkg gguf

// haveAsm selects the assembly kernels. Only tests change it.
var haveAsm = cpu.X86.HasAVX2
