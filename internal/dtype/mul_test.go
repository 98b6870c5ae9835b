package dtype

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

// torchInput is patterns in testdata/torch_mul.py.
func torchInput(d DType) []byte {
	f := layout(d)
	buf := make([]byte, 65536*f.size)
	state := uint64(1)
	for i := range 65536 {
		state = state*6364136223846793005 + 1442695040888963407
		switch f.size {
		case 2:
			binary.LittleEndian.PutUint16(buf[2*i:], uint16(i))
		case 4:
			binary.LittleEndian.PutUint32(buf[4*i:], uint32(state>>32))
		default:
			binary.LittleEndian.PutUint64(buf[8*i:], state)
		}
	}
	return buf
}

// plainNaN replaces every NaN by the quiet one without sign and payload.
func plainNaN(f *format, buf []byte) {
	for i := range f.count(buf) {
		if f.load(buf, i)&f.absMask > f.inf() {
			f.store(buf, i, f.inf()|1<<(f.mant-1))
		}
	}
}

func TestMulDivRowEqualsTorch(t *testing.T) {
	data, err := os.ReadFile("testdata/torch_mul.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Cases []struct {
			Dtype, Op, SHA256 string
			Factor            float64
			At                []int
			Bits              []string
		}
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Cases) == 0 {
		t.Fatal("no cases")
	}
	bothWays(t, func(t *testing.T) {
		for _, c := range doc.Cases {
			d, _ := Parse(c.Dtype)
			f := layout(d)
			buf := torchInput(d)
			if c.Op == "mul" {
				MulRow(d, buf, c.Factor)
			} else {
				DivRow(d, buf, c.Factor)
			}
			plainNaN(f, buf)
			for j, i := range c.At {
				if got := fmt.Sprintf("%#x", f.load(buf, i)); got != c.Bits[j] {
					t.Errorf("%s %s %g: element %d is %s, torch has %s", c.Dtype, c.Op, c.Factor, i, got, c.Bits[j])
				}
			}
			if sum := sha256.Sum256(buf); hex.EncodeToString(sum[:]) != c.SHA256 {
				t.Errorf("%s %s %g: results differ from torch", c.Dtype, c.Op, c.Factor)
			}
		}
	})
}
