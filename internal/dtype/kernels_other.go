//go:build !amd64

package dtype

// haveAsm is false: this architecture runs the portable kernels, and nothing
// below is ever called.
var haveAsm = false

const noAsm = "dtype: assembly kernel called on an architecture without one"

func scaleConst16(p *byte, n int, absMask, lo, hi, delta uint64) int { panic(noAsm) }
func scaleConst32(p *byte, n int, absMask, lo, hi, delta uint64) int { panic(noAsm) }
func scaleConst64(p *byte, n int, absMask, lo, hi, delta uint64) int { panic(noAsm) }

func scaleCols16(p *byte, col *int16, n int, row, absMask, mant, expMax uint64) int { panic(noAsm) }
func scaleCols32(p *byte, col *int16, n int, row, absMask, mant, expMax uint64) int { panic(noAsm) }
func scaleCols64(p *byte, col *int16, n int, row, absMask, mant, expMax uint64) int { panic(noAsm) }

func bf16ToF32(dst *float32, src *byte, n int) { panic(noAsm) }
func f16ToF32(dst *float32, src *byte, n int)  { panic(noAsm) }
func f32ToBF16(dst *byte, src *float32, n int) { panic(noAsm) }
func f32ToF16(dst *byte, src *float32, n int)  { panic(noAsm) }

func mulF32(x *float32, n int, f float32) { panic(noAsm) }
func divF32(x *float32, n int, f float32) { panic(noAsm) }

func statsBF16(p *byte, n int, acc *byte) { panic(noAsm) }
func statsF16(p *byte, n int, acc *byte)  { panic(noAsm) }
func statsF32(p *byte, n int, acc *byte)  { panic(noAsm) }
