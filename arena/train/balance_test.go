package train

import (
	"context"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// sealScales finds a seal's powers of two from a sealed and an unsealed engine.
func sealScales(t *testing.T, dir string) func(name string) (rows, cols []float32) {
	t.Helper()
	g, src := openModel(t, demoModel, 8)
	_, sealed := openModel(t, dir, 8)
	found := map[string][2][]float32{}
	for name, id := range g.Weights() {
		p, q := &Param{Name: name, Shape: g.Shape(id)}, &Param{Name: name, Shape: g.Shape(id)}
		for _, err := range []error{p.load(src, false), q.load(sealed, false)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		rows, cols := p.matrix()
		r, c := make([]float32, rows), make([]float32, cols)
		ratio := func(i, j int) float32 { return q.Data[i*cols+j] / p.Data[i*cols+j] }
		for i := range r {
			r[i] = ratio(i, 0)
		}
		for j := range c {
			c[j] = ratio(0, j) / ratio(0, 0)
		}
		for i, v := range p.Data {
			if want := v * r[i/cols] * c[i%cols]; q.Data[i] != want {
				t.Fatalf("%s: element %d is %g, by the factors %g", name, i, q.Data[i], want)
			}
		}
		found[name] = [2][]float32{r, c}
	}
	return func(name string) (rows, cols []float32) { return found[name][0], found[name][1] }
}

// TestPairUndoesASeal: with the seal's own scales, training a sealed model is
// training the original, with clipping, decay and the same eps. The forward pass
// is bit for bit; gradients behind a factor of 2^80 may be subnormal in fp32, and
// lose bits that the original's have.
func TestPairUndoesASeal(t *testing.T) {
	dir, n := lockDemo(t)
	if n < 1 {
		t.Fatalf("residual gauge 2^%g", n)
	}
	scales := sealScales(t, dir)
	for _, what := range []Trainable{
		{Kind: Full}, {Kind: Norms}, {Kind: Embeddings},
		{Kind: LoRA, Modules: []string{AllLinear}, Rank: 8, Alpha: 16, Ratio: 4},
		{Kind: LoRA, Modules: []string{"embed_tokens", "v_proj"}, Rank: 4, Alpha: 8},
		{Kind: Residual, Modules: []string{"down_proj"}, Rank: 4},
		{Kind: SoftPrompt, Virtual: 6},
	} {
		plain := TrainOptions{LR: 2e-3, Clip: 1, Optimizer: Optimizer{WeightDecay: 0.1}}
		pair := plain
		pair.Optimizer.Method, pair.Scales = Pair, scales
		const steps = 8
		o := Options{Trainable: what, Workers: 2}
		want, got := curve(t, demoModel, steps, o, plain), curve(t, dir, steps, o, pair)
		for i := range want {
			if math.Abs(want[i]-got[i]) > 1e-6*want[i] || i == 0 && want[i] != got[i] {
				t.Errorf("%s, step %d: loss %v, sealed %v", what.Kind, i, want[i], got[i])
				break
			}
		}
		if !(want[steps-1] < want[0]) {
			t.Errorf("%s: learned nothing: %v", what.Kind, want)
		}
		naive := curve(t, dir, steps, o, plain)
		if what.Kind == Full && math.Abs(naive[steps-1]-want[steps-1]) < 0.1 {
			t.Errorf("the seal does not hold AdamW either: %v", naive)
		}
	}
}

// TestRowColIgnoresASeal: estimated scales follow the seal's.
func TestRowColIgnoresASeal(t *testing.T) {
	dir, _ := lockDemo(t)
	for _, what := range []Trainable{{Kind: Full}, {Kind: LoRA, Modules: []string{AllLinear}, Rank: 8, Alpha: 16}} {
		to := TrainOptions{LR: 1e-2, Clip: 1, Optimizer: Optimizer{Method: RowCol}}
		const steps = 8
		o := Options{Trainable: what, Workers: 2}
		want, got := curve(t, demoModel, steps, o, to), curve(t, dir, steps, o, to)
		for i := range want {
			if d := math.Abs(want[i]-got[i]) / want[i]; !(d < 1e-3) {
				t.Errorf("%s, step %d: loss %v, sealed %v", what.Kind, i, want[i], got[i])
			}
		}
		if !(want[steps-1] < 0.7*want[0]) {
			t.Errorf("%s: learned nothing: %v", what.Kind, want)
		}
	}
}

// TestBalancedStep: scales of 2^±100 on both sides change no bit of a training,
// as long as the stored numbers themselves are floats.
func TestBalancedStep(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		matrices, rows, cols := rapid.IntRange(1, 2).Draw(t, "matrices"), rapid.IntRange(1, 6).Draw(t, "rows"), rapid.IntRange(1, 20).Draw(t, "cols")
		shape := []int{matrices, rows, cols}
		n := count(shape)
		powers := func(name string, n int) (out []float32) {
			for range n {
				out = append(out, float32(math.Exp2(float64(rapid.IntRange(-100, 100).Draw(t, name)))))
			}
			return out
		}
		r, c := powers("row", matrices*rows), powers("col", matrices*cols)
		plain, sealed := &Param{Name: "w", Shape: shape}, &Param{Name: "w", Shape: shape}
		at, err := given(sealed, r, c)
		if err != nil {
			t.Fatal(err)
		}
		factor := func(i int) float64 {
			row, col := at.row(i / cols)
			return row * col[i%cols]
		}
		seed := rapid.Uint64().Draw(t, "seed")
		plain.Data, plain.Grad = make([]float32, n), make([]float32, n)
		normal(plain.Data, seed, "data", 1)
		sealed.Data, sealed.Grad = make([]float32, n), make([]float32, n)
		ok := make([]bool, n) // not beyond float32 where it is stored
		for i, v := range plain.Data {
			sealed.Data[i] = float32(float64(v) * factor(i))
			e := math.Log2(factor(i))
			ok[i] = math.Abs(e) < 110
		}
		states := [2]map[string][]float32{}
		for k := range states {
			states[k] = map[string][]float32{"m": make([]float32, n), "v": make([]float32, n)}
		}
		o := adamW{b1: 0.9, b2: 0.999, eps: 1e-8, decay: 0.1}
		for step := 1; step <= 4; step++ {
			normal(plain.Grad, seed, "grad"+string(rune(step)), 0.01)
			for i, g := range plain.Grad {
				sealed.Grad[i] = float32(float64(g) / factor(i))
			}
			at.times(sealed.Grad, 1)
			u := update{lr: 1e-2, step: step, workers: 1, coords: at}
			u.p, u.states = plain, states[0]
			o.update(&u)
			u.p, u.states = sealed, states[1]
			balanced{o}.update(&u)
		}
		for i, v := range plain.Data {
			if want := float32(float64(v) * factor(i)); ok[i] && sealed.Data[i] != want {
				t.Fatalf("element %d: %g, want %g", i, sealed.Data[i], want)
			}
		}
	})
}

// TestEquilibrate: rows and columns have a root mean square of 1 in the
// coordinates found, whatever the scale, and zeros do no harm.
func TestEquilibrate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows, cols := rapid.IntRange(3, 12).Draw(t, "rows"), rapid.IntRange(3, 12).Draw(t, "cols")
		p := &Param{Shape: []int{rows, cols}}
		w := make([]float32, rows*cols)
		normal(w, rapid.Uint64().Draw(t, "seed"), "w", 1)
		for i := range w {
			w[i] += float32(math.Copysign(0.5, float64(w[i]))) // no element decides alone
		}
		zero := rapid.IntRange(-1, rows-1).Draw(t, "zero row")
		for i := range rows {
			f := math.Exp2(float64(rapid.IntRange(-60, 60).Draw(t, "power")))
			if i == zero {
				f = 0
			}
			for j := range cols {
				w[i*cols+j] *= float32(f)
			}
		}
		c := equilibrate(p, w)
		for i := range rows {
			sum := 0.0
			r, cs := c.row(i)
			if !(r > 0) || math.IsInf(r, 0) {
				t.Fatalf("row %d has the factor %v", i, r)
			}
			for j := range cols {
				x := float64(w[i*cols+j]) / (r * cs[j])
				sum += x * x
			}
			// A row of zeros counts in the columns' means, so that others hold more.
			if got := math.Sqrt(sum / float64(cols)); zero < 0 && math.Abs(got-1) > 1e-3 {
				t.Fatalf("row %d has a root mean square of %v", i, got)
			}
		}
	})
}

func TestEquilibrateVector(t *testing.T) {
	c := equilibrate(&Param{Shape: []int{4}}, []float32{-4, 0, 1, float32(math.NaN())})
	for j, want := range []float64{4, 2, 1, 2} {
		if math.Abs(c.cols[j]-want) > 1e-12 {
			t.Errorf("factor %d is %v, want %v", j, c.cols[j], want)
		}
	}
	c = equilibrate(&Param{Shape: []int{2, 2}}, make([]float32, 4))
	if r, cols := c.row(1); r != 1 || cols[0] != 1 {
		t.Errorf("a matrix of zeros has factors %v and %v", r, cols)
	}
}

func TestScalesAreChecked(t *testing.T) {
	g, src := openModel(t, demoModel, 8)
	for _, c := range []struct {
		rows, cols []float32
		want       string
	}{
		{[]float32{1}, nil, "128 are needed"},
		{nil, make([]float32, 128), "positive"},
		{nil, []float32{float32(math.Inf(1))}, "are needed"},
	} {
		e, err := New(context.Background(), g, src, Options{Batch: 1, Trainable: Trainable{Kind: Embeddings}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = NewTrainer(e, TrainOptions{Optimizer: Optimizer{Method: Pair}, Scales: func(string) (rows, cols []float32) { return c.rows, c.cols }})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, %v: %v, want %q", c.rows, c.cols, err, c.want)
		}
	}
}
