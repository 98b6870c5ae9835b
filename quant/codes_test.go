package quant

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"pgregory.net/rapid"
)

// TestCodes compares codes with those of gguf-py and bitsandbytes.
func TestCodes(t *testing.T) {
	data, err := os.ReadFile("testdata/codes.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]string
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	x := make([]float32, 4096)
	for i := range x {
		v := float32(uint32(i)*2654435761>>8)/(1<<24) - 0.5
		x[i] = float32(v*v) * v
	}
	for _, q := range Quantisers() {
		if want[q.Name] == "" {
			continue
		}
		codes := make([]byte, len(x))
		for i := 0; i < len(x); i += q.Block {
			q.encode(codes[i:i+q.Block], x[i:i+q.Block])
		}
		sum := sha256.Sum256(codes)
		if hex.EncodeToString(sum[:]) != want[q.Name] {
			t.Errorf("%s: other codes", q.Name)
		}
		delete(want, q.Name)
	}
	if len(want) != 0 {
		t.Errorf("not compared: %v", want)
	}
}

// TestCompare: a factor for every block changes no code; one for every element
// does, and a scale that rounds in fp16 is seen.
func TestCompare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		for _, q := range Quantisers() {
			a, b, c := make([]float32, 4*q.Block), make([]float32, 4*q.Block), make([]float32, 4*q.Block)
			e := 0
			for i := range a {
				if i%q.Block == 0 {
					e = r.IntN(7)
				}
				a[i] = float32(r.NormFloat64())
				b[i] = float32(math.Ldexp(float64(a[i]), e))
				c[i] = float32(math.Ldexp(float64(a[i]), r.IntN(7)))
			}
			if d := q.Compare(a, b); d != (Difference{Blocks: 4}) {
				t.Fatalf("%s: factors by block: %+v", q.Name, d)
			}
			if d := q.Compare(a, c); d.Codes == 0 {
				t.Fatalf("%s: factors by element: %+v", q.Name, d)
			}
		}
	})
	q := Quantisers()[0]
	a, b := make([]float32, 32), make([]float32, 32)
	for i := range a {
		a[i] = float32(i + 1)
		b[i] = float32(math.Ldexp(float64(a[i]), -20)) // its scale is subnormal in fp16
	}
	if d := q.Compare(a, b); d.Scales != 1 || d.Codes != 0 {
		t.Errorf("a scale that rounds: %+v", d)
	}
}
