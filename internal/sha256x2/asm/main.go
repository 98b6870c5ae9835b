// Command asm writes the amd64 assembly of package sha256x2. It is a module of
// its own, so that the generator is no dependency of the product. Run it through
// go generate in the parent folder.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64")
	constants := roundConstants()
	swap := byteOrder()
	blocks(constants, swap, 1)
	blocks(constants, swap, 2)
	features()
	Generate()
}

// lane is one stream: its state in the order that the instructions want, and the
// sixteen words of the message that come next.
type lane struct {
	name       string
	state      reg.Register
	data       reg.Register
	abef, cdgh reg.VecPhysical
	w          [4]reg.VecPhysical
	sum        Mem // the state before this block
}

// The instructions take the sums of words and constants from X0. Everything else
// of two lanes fits into the other fifteen registers.
var (
	registers = [2][6]reg.VecPhysical{
		{reg.X1, reg.X2, reg.X3, reg.X4, reg.X5, reg.X6},
		{reg.X7, reg.X8, reg.X9, reg.X10, reg.X11, reg.X12},
	}
	temp = [2]reg.VecPhysical{reg.X13, reg.X14}
	wk   = reg.X0
)

// blocks emits the function that hashes n blocks of each of several streams,
// round by round in turn: a round waits for the one before it, and the processor
// works on the other stream meanwhile.
func blocks(constants, swap Mem, lanes int) {
	names := []string{"a", "b"}[:lanes]
	if lanes == 1 {
		TEXT("blocks1", NOSPLIT, "func(a *[8]uint32, p *byte, n int)")
		Doc("blocks1 adds n blocks of 64 bytes, at least one, to a state.")
	} else {
		TEXT("blocks2", NOSPLIT, "func(a *[8]uint32, p *byte, b *[8]uint32, q *byte, n int)")
		Doc("blocks2 adds n blocks of 64 bytes, at least one, to each of two states.")
	}
	Pragma("noescape")
	ls := make([]*lane, lanes)
	for i, name := range names {
		r := registers[i]
		l := &lane{name: name, abef: r[0], cdgh: r[1], w: [4]reg.VecPhysical{r[2], r[3], r[4], r[5]}, sum: AllocLocal(32)}
		l.state, l.data = Load(Param(name), GP64()), Load(Param([]string{"p", "q"}[i]), GP64())
		ls[i] = l
	}
	n := Load(Param("n"), GP64())
	k := GP64()
	LEAQ(constants, k)
	for _, l := range ls {
		l.load()
	}
	Label("block")
	for _, l := range ls {
		l.begin(swap)
	}
	for i := range 16 {
		rounds(ls, Mem{Base: k, Disp: 16 * i}, i)
	}
	for _, l := range ls {
		VPADDD(l.sum, l.abef, l.abef)
		VPADDD(l.sum.Offset(16), l.cdgh, l.cdgh)
	}
	DECQ(n)
	JNZ(LabelRef("block"))
	for _, l := range ls {
		l.store()
	}
	RET()
}

// load brings a state into the order of the instructions: a, b, e and f in one
// register, c, d, g and h in the other.
func (l *lane) load() {
	t := temp[0]
	VMOVDQU(Mem{Base: l.state}, l.abef)
	VMOVDQU(Mem{Base: l.state, Disp: 16}, l.cdgh)
	VPSHUFD(U8(0xb1), l.abef, l.abef)
	VPSHUFD(U8(0x1b), l.cdgh, l.cdgh)
	VMOVDQA(l.abef, t)
	VPALIGNR(U8(8), l.cdgh, l.abef, l.abef)
	VPBLENDW(U8(0xf0), t, l.cdgh, l.cdgh)
}

// store undoes load.
func (l *lane) store() {
	t := temp[0]
	VPSHUFD(U8(0x1b), l.abef, l.abef)
	VPSHUFD(U8(0xb1), l.cdgh, l.cdgh)
	VMOVDQA(l.abef, t)
	VPBLENDW(U8(0xf0), l.cdgh, l.abef, l.abef)
	VPALIGNR(U8(8), t, l.cdgh, l.cdgh)
	VMOVDQU(l.abef, Mem{Base: l.state})
	VMOVDQU(l.cdgh, Mem{Base: l.state, Disp: 16})
}

// begin keeps the state and reads a block, whose words are big-endian.
func (l *lane) begin(swap Mem) {
	VMOVDQU(l.abef, l.sum)
	VMOVDQU(l.cdgh, l.sum.Offset(16))
	for i, w := range l.w {
		VMOVDQU(Mem{Base: l.data, Disp: 16 * i}, w)
		VPSHUFB(swap, w, w)
	}
	ADDQ(U8(64), l.data)
}

// rounds emits rounds 4i to 4i+3 of every lane, and makes the words that the
// rounds 16 later take.
func rounds(ls []*lane, k Mem, i int) {
	for _, l := range ls {
		VPADDD(k, l.w[i%4], wk)
		SHA256RNDS2(wk, l.abef, l.cdgh)
		VPSHUFD(U8(0x0e), wk, wk)
		SHA256RNDS2(wk, l.cdgh, l.abef)
	}
	if i >= 12 {
		return
	}
	for j, l := range ls {
		w := func(d int) reg.VecPhysical { return l.w[(i+d)%4] }
		VPALIGNR(U8(4), w(2), w(3), temp[j])
		SHA256MSG1(w(1), w(0))
		VPADDD(temp[j], w(0), w(0))
		SHA256MSG2(w(3), w(0))
	}
}

// features emits what golang.org/x/sys/cpu does not tell.
func features() {
	TEXT("extendedFeatures", NOSPLIT, "func() uint32")
	Doc("extendedFeatures returns EBX of CPUID leaf 7.0, which the processor must have.")
	MOVL(U32(7), reg.EAX)
	XORL(reg.ECX, reg.ECX)
	CPUID()
	Store(reg.EBX, ReturnIndex(0))
	RET()
}

// byteOrder is the shuffle that turns the words of a message round.
func byteOrder() Mem {
	m := GLOBL("byteOrder", RODATA|NOPTR)
	DATA(0, U64(0x0405060700010203))
	DATA(8, U64(0x0c0d0e0f08090a0b))
	return m
}

// roundConstants are those of FIPS 180-4, section 4.2.2.
func roundConstants() Mem {
	m := GLOBL("roundConstants", RODATA|NOPTR)
	for i, k := range [64]uint32{
		0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
		0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
		0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
		0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
		0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
		0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
		0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
		0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
	} {
		DATA(4*i, U32(k))
	}
	return m
}
