package gguf

// The types whose codes are indices into code books.

// signed writes scale × value with the signs of bits, lowest first.
func signed(dst []float32, scale float32, values []float32, bits byte) {
	for i, v := range values {
		x := scale * v
		if bits>>i&1 != 0 {
			x = -x
		}
		dst[i] = x
	}
}

func dequantiseI2XXS(dst []float32, b []byte) {
	d, grid := f16(b, 0), &grids().iq2xxs
	for g := range 8 {
		at := 2 + 8*g
		more := word(b, at+4)
		db := d * (0.5 + float32(more>>28)) * 0.25
		for k := range 4 {
			signed(dst[32*g+8*k:], db, grid.entry(int(b[at+k])), evenSigns(more>>(7*k)))
		}
	}
}

// fourth is the scale of the IQ2 types: nibble i of packed scales.
func fourth(d float32, scales []byte, i int) float32 {
	return d * (0.5 + float32(scales[i/2]>>(i%2*4)&15)) * 0.25
}

func dequantiseI2XS(dst []float32, b []byte) {
	d, grid := f16(b, 0), &grids().iq2xs
	for i := range 32 {
		q := half(b, 2+2*i)
		signed(dst[8*i:], fourth(d, b[66:], i/2), grid.entry(int(q&511)), evenSigns(uint32(q>>9)))
	}
}

func dequantiseI2S(dst []float32, b []byte) {
	d, grid := f16(b, 0), &grids().iq2s
	qs, signs, high, scales := b[2:34], b[34:66], b[66:74], b[74:82]
	for i := range 32 {
		q := int(qs[i]) | int(high[i/4]>>(i%4*2)&3)<<8
		signed(dst[8*i:], fourth(d, scales, i/2), grid.entry(q), signs[i])
	}
}

func dequantiseI3XXS(dst []float32, b []byte) {
	d, grid := f16(b, 0), &grids().iq3xxs
	for g := range 8 {
		more := word(b, 66+4*g)
		db := d * (0.5 + float32(more>>28)) * 0.5
		for k := range 8 {
			signs := evenSigns(more>>(k/2*7)) >> (k % 2 * 4)
			signed(dst[32*g+4*k:], db, grid.entry(int(b[2+8*g+k])), signs)
		}
	}
}

func dequantiseI3S(dst []float32, b []byte) {
	d, grid := f16(b, 0), &grids().iq3s
	qs, high, signs, scales := b[2:66], b[66:74], b[74:106], b[106:110]
	for i := range 64 {
		g := i / 8
		db := d * float32(1+2*(scales[g/2]>>(g%2*4)&15))
		q := int(qs[i]) | int(high[i/8]>>(i%8)&1)<<8
		signed(dst[4*i:], db, grid.entry(q), signs[i/2]>>(i%2*4))
	}
}

// shifted writes scale × (value ± 1/8).
func shifted(dst []float32, scale float32, values []float32, minus bool) {
	delta := float32(0.125)
	if minus {
		delta = -delta
	}
	for i, v := range values {
		dst[i] = scale * (v + delta)
	}
}

func dequantiseI1S(dst []float32, b []byte) {
	d, grid := f16(b, 0), &grids().iq1
	for i := range 32 {
		high := half(b, 34+i/4*2)
		q := int(b[2+i]) | int(high>>(i%4*3)&7)<<8
		shifted(dst[8*i:], d*float32(2*(high>>12&7)+1), grid.entry(q), high&0x8000 != 0)
	}
}

// scaleI1M gathers the fp16 scale of IQ1_M from the top nibbles of four words.
func scaleI1M(b []byte) uint16 {
	return half(b, 48)>>12 | half(b, 50)>>12<<4 | half(b, 52)>>12<<8 | half(b, 54)>>12<<12
}

func dequantiseI1M(dst []float32, b []byte) {
	d, grid := halfValue(scaleI1M(b)), &grids().iq1
	for i := range 32 {
		high := b[32+i/2] >> (i % 2 * 4)
		scale := half(b, 48+i/8*2) >> (i / 2 % 4 * 3) & 7
		q := int(b[i]) | int(high&7)<<8
		shifted(dst[8*i:], d*float32(2*scale+1), grid.entry(q), high&8 != 0)
	}
}

func dequantiseI4NL(dst []float32, b []byte) {
	d := f16(b, 0)
	for j, q := range b[2:18] {
		dst[j], dst[16+j] = d*nibbles[q&15], d*nibbles[q>>4]
	}
}

func dequantiseI4XS(dst []float32, b []byte) {
	d, high := f16(b, 0), half(b, 2)
	low, qs := b[4:8], b[8:]
	for g := range 8 {
		s := int(low[g/2]>>(g%2*4)&15) | int(high>>(2*g)&3)<<4
		dl := d * float32(s-32)
		for j, q := range qs[16*g : 16*g+16] {
			dst[32*g+j], dst[32*g+16+j] = dl*nibbles[q&15], dl*nibbles[q>>4]
		}
	}
}
