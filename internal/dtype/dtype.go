// Package dtype knows the element types of checkpoints by their bit patterns:
// sizes, names, exact scaling by powers of two, conversion to float32, and the
// statistics that range analysis needs.
package dtype

// DType is an element type, named as in the safetensors format.
type DType uint8

// The element types of safetensors.
const (
	Invalid DType = iota
	BOOL
	F4
	F6E2M3
	F6E3M2
	U8
	I8
	F8E5M2
	F8E4M3
	F8E8M0
	F8E4M3FNUZ
	F8E5M2FNUZ
	I16
	U16
	F16
	BF16
	I32
	U32
	F32
	F64
	I64
	U64
	C64
)

var table = [...]struct {
	name string
	bits int
}{
	Invalid:    {"", 0},
	BOOL:       {"BOOL", 8},
	F4:         {"F4", 4},
	F6E2M3:     {"F6_E2M3", 6},
	F6E3M2:     {"F6_E3M2", 6},
	U8:         {"U8", 8},
	I8:         {"I8", 8},
	F8E5M2:     {"F8_E5M2", 8},
	F8E4M3:     {"F8_E4M3", 8},
	F8E8M0:     {"F8_E8M0", 8},
	F8E4M3FNUZ: {"F8_E4M3FNUZ", 8},
	F8E5M2FNUZ: {"F8_E5M2FNUZ", 8},
	I16:        {"I16", 16},
	U16:        {"U16", 16},
	F16:        {"F16", 16},
	BF16:       {"BF16", 16},
	I32:        {"I32", 32},
	U32:        {"U32", 32},
	F32:        {"F32", 32},
	F64:        {"F64", 64},
	I64:        {"I64", 64},
	U64:        {"U64", 64},
	C64:        {"C64", 64},
}

// Parse returns the type with the given safetensors name.
func Parse(name string) (DType, bool) {
	for d, t := range table {
		if t.name == name && d != int(Invalid) {
			return DType(d), true
		}
	}
	return Invalid, false
}

// String returns the safetensors name.
func (d DType) String() string {
	if int(d) >= len(table) {
		return ""
	}
	return table[d].name
}

// Bits returns the size of one element in bits.
func (d DType) Bits() int {
	if int(d) >= len(table) {
		return 0
	}
	return table[d].bits
}

// Scalable reports whether elements of the type can be multiplied by powers of
// two by this package: BF16, F16, F32 and F64.
func (d DType) Scalable() bool { return d == BF16 || d == F16 || d == F32 || d == F64 }
