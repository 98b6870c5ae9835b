package parquet

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

var (
	errEnds  = errors.New("the page ends in the middle")
	errRange = errors.New("a value is out of range")
)

// hybrid decodes runs of equal values and runs of packed ones, of width bits
// each. It holds nothing but its place: a run may be billions long.
type hybrid struct {
	in     []byte
	width  int
	left   uint64 // values left in the run
	value  uint32 // of a run of equal ones
	packed bool
	bit    int // place in a packed run's bytes
	run    []byte
}

func (h *hybrid) next() (uint32, error) {
	if h.width == 0 {
		return 0, nil
	}
	for h.left == 0 {
		if err := h.begin(); err != nil {
			return 0, err
		}
	}
	h.left--
	if !h.packed {
		return h.value, nil
	}
	v, ok := unpackBits(h.run, h.bit, h.width)
	if !ok {
		return 0, errEnds
	}
	h.bit += h.width
	return uint32(v), nil
}

// begin reads the next run's header.
func (h *hybrid) begin() error {
	u, n := binary.Uvarint(h.in)
	if n <= 0 {
		return errEnds
	}
	h.in = h.in[n:]
	if h.packed = u&1 == 1; h.packed {
		size := min(uint64(len(h.in)), (u>>1)*uint64(h.width))
		if u>>1 > uint64(len(h.in)) {
			size = uint64(len(h.in))
		}
		h.left, h.bit, h.run = (u>>1)*8, 0, h.in[:size]
		h.in = h.in[size:]
		return nil
	}
	size := (h.width + 7) / 8
	if len(h.in) < size {
		return errEnds
	}
	h.left, h.value = u>>1, 0
	for i := range size {
		h.value |= uint32(h.in[i]) << (8 * i)
	}
	h.in = h.in[size:]
	return nil
}

// unpackBits returns width bits from the given bit on, least significant first.
func unpackBits(b []byte, bit, width int) (uint64, bool) {
	if (bit+width+7)/8 > len(b) {
		return 0, false
	}
	var v uint64
	for got := 0; got < width; {
		at := bit + got
		take := min(8-at%8, width-got)
		part := uint64(b[at/8]>>(at%8)) & (1<<take - 1)
		v |= part << got
		got += take
	}
	return v, true
}

// delta decodes DELTA_BINARY_PACKED, one value at a time.
type delta struct {
	in       []byte
	perMini  int // values of a miniblock
	minis    int
	left     uint64 // values left
	value    int64
	minDelta int64
	widths   []byte // of the miniblocks left in the block
	mini     []byte // the miniblock under way
	width    int
	at       int // value within it
	started  bool
}

func (d *delta) uvarint() (uint64, error) {
	u, n := binary.Uvarint(d.in)
	if n <= 0 {
		return 0, errEnds
	}
	d.in = d.in[n:]
	return u, nil
}

// start reads the header.
func (d *delta) start() error {
	var h [4]uint64
	for i := range h {
		var err error
		if h[i], err = d.uvarint(); err != nil {
			return err
		}
	}
	block, minis := h[0], h[1]
	if minis == 0 || block == 0 || block > 1<<20 || h[2] > maxValues || block%minis != 0 || block/minis%8 != 0 {
		return errRange
	}
	d.perMini, d.minis, d.left = int(block/minis), int(minis), h[2]
	d.value = int64(h[3]>>1) ^ -int64(h[3]&1)
	d.at = d.perMini
	return nil
}

func (d *delta) next() (int64, error) {
	if d.left == 0 {
		return 0, errEnds
	}
	d.left--
	if !d.started {
		d.started = true
		return d.value, nil
	}
	if d.at == d.perMini {
		if err := d.block(); err != nil {
			return 0, err
		}
	}
	v, ok := unpackBits(d.mini, d.at*d.width, d.width)
	if !ok {
		return 0, errEnds
	}
	d.at++
	d.value += d.minDelta + int64(v)
	return d.value, nil
}

// block begins the next miniblock.
func (d *delta) block() error {
	if len(d.widths) == 0 {
		u, err := d.uvarint()
		if err != nil {
			return err
		}
		d.minDelta = int64(u>>1) ^ -int64(u&1)
		if len(d.in) < d.minis {
			return errEnds
		}
		d.widths, d.in = d.in[:d.minis], d.in[d.minis:]
	}
	d.width, d.widths = int(d.widths[0]), d.widths[1:]
	if d.width > 64 {
		return errRange
	}
	size := min(d.perMini/8*d.width, len(d.in))
	d.mini, d.in = d.in[:size], d.in[size:]
	d.at = 0
	return nil
}

// rest returns the bytes behind the values, which must all have been read: the
// last block has widths for all its miniblocks, and bytes only for those in use.
func (d *delta) rest() []byte { return d.in }

// width is the number of bits that levels up to n take.
func width(n int) int { return bits.Len(uint(n)) }
