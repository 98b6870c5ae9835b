package train

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/dtype"
)

type baseCase struct {
	Name, Base, SHA256, Fill string
	Shape                    []int
	Spread                   float64
	Demo, BF16               bool
	Offset                   *float64
}

// input is what testdata/base.py quantises.
func (c baseCase) input(t *testing.T) []float32 {
	t.Helper()
	x := make([]float32, count(c.Shape))
	if c.Demo {
		_, src := openModel(t, demoModel, 8)
		p := &Param{Name: c.Name, Shape: c.Shape}
		if err := p.load(src, false); err != nil {
			t.Fatal(err)
		}
		return p.Data
	}
	at, rows, cols := start(0, c.Name), start(0, c.Name+".rows"), c.Shape[1]
	for i := range x {
		e := math.Floor(unit(rows+uint64(i/cols))*(2*c.Spread+1)) - c.Spread
		x[i] = float32((2*unit(at+uint64(i)) - 1) * math.Exp2(e))
	}
	if c.Fill != "" {
		v, err := strconv.ParseFloat(c.Fill, 32)
		if err != nil {
			t.Fatal(err)
		}
		clear(x[2*cols : 3*cols])
		x[3*cols+5] = float32(v)
	}
	return x
}

// digest hashes the bits, with one kind of NaN.
func digest(x []float32) string {
	b := make([]byte, 0, 4*len(x))
	for _, v := range x {
		bits := math.Float32bits(v)
		if v != v {
			bits = 0x7FC00000
		}
		b = binary.LittleEndian.AppendUint32(b, bits)
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// TestBase compares with bitsandbytes on the CPU, bit for bit. Of the mean that
// double quantisation subtracts, which it sums in float32, the last place may
// differ; all the rest is compared with its mean.
func TestBase(t *testing.T) {
	raw, err := os.ReadFile("testdata/base.json")
	if err != nil {
		t.Fatal(err)
	}
	var ref struct{ Cases []baseCase }
	if err := json.Unmarshal(raw, &ref); err != nil {
		t.Fatal(err)
	}
	same, means := 0, 0
	for _, c := range ref.Cases {
		t.Run(fmt.Sprintf("%s/%s/%g%s/bf16=%v", c.Base, c.Name, c.Spread, c.Fill, c.BF16), func(t *testing.T) {
			x := c.input(t)
			if c.BF16 {
				dtype.RoundBF16(x)
			}
			p := &Param{Shape: c.Shape, Data: x, base: c.Base}
			if c.Offset == nil {
				p.quantise()
			} else {
				code, scales := QuantiseNF4(x)
				m, want := mean(scales), float32(*c.Offset)
				if d := math.Abs(float64(m - want)); d > 4e-7*float64(want) {
					t.Errorf("mean %v, want %v", m, want)
				}
				means++
				if m == want {
					same++
				}
				roundScales(scales, want)
				fromNF4(x, code, scales)
			}
			if c.BF16 {
				dtype.RoundBF16(x)
			}
			if digest(x) != c.SHA256 {
				t.Errorf("other bits than bitsandbytes': %v …", x[:4])
			}
		})
	}
	t.Logf("%d of %d means are the same", same, means)
}

func TestFlipped(t *testing.T) {
	x, y := make([]float32, 6*80), make([]float32, 6*80)
	normal(x, 1, "flipped", 1)
	transpose(y, x, 6, 80)
	p, q := &Param{Shape: []int{6, 80}, Data: x, base: NF4}, &Param{Shape: []int{80, 6}, Data: y, base: NF4, flipped: true}
	p.quantise()
	q.quantise()
	back := make([]float32, len(y))
	transpose(back, q.Data, 80, 6)
	if !slices.Equal(p.Data, back) {
		t.Error("a transposed matrix is quantised in another way")
	}
}

func TestBaseGradients(t *testing.T) {
	lora := Trainable{Kind: LoRA, Modules: []string{AllLinear}, Rank: 3, Alpha: 6}
	dora := lora
	dora.Kind = DoRA
	for _, base := range []string{NF4, NF4DQ, Int8} {
		for _, what := range []Trainable{lora, {Kind: Norms}, {Kind: Head}, {Kind: Embeddings}} {
			checkGradients(t, tiny(t, decoder), Options{Trainable: what, Base: base})
		}
	}
	if _, err := New(context.Background(), tiny(t, decoder), memory{tiny(t, decoder), 1, 1}, Options{Batch: 1, Trainable: dora, Base: NF4}); err != nil {
		t.Error(err)
	}
}

// TestBaseOf: linear maps are quantised; the head, the embedding, norms and biases
// are not.
func TestBaseOf(t *testing.T) {
	g := tiny(t, decoder)
	e, err := New(context.Background(), g, memory{g, 1, 0.6}, Options{Batch: 1, Trainable: Trainable{Kind: Norms}, Base: NF4})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range e.Tensors() {
		got, shape, _ := e.Weights(name)
		want := &Param{Name: name, Shape: shape}
		if err := want.load(memory{g, 1, 0.6}, false); err != nil {
			t.Fatal(err)
		}
		whole := len(shape) == 1 || name == "head.weight" || name == "embed.weight"
		if slices.Equal(got, want.Data) != whole {
			t.Errorf("%s: quantised should be %v", name, !whole)
		}
	}
	for _, what := range []Trainable{{Kind: Full}, {Kind: Tensors, Modules: []string{"o_proj"}}} {
		if _, err := Estimate(g, Options{Batch: 1, Trainable: what, Base: NF4}, TrainOptions{}); err == nil || !strings.Contains(err.Error(), "cannot be trained") {
			t.Errorf("%s: %v", what.Kind, err)
		}
	}
	if _, err := Estimate(g, Options{Batch: 1, Trainable: Trainable{Kind: Norms}, Base: "nf5"}, TrainOptions{}); err == nil {
		t.Error("an unknown format was taken")
	}
}
