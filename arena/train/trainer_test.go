package train

import (
	"context"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// TestClip has the values that torch.nn.utils.clip_grad_norm_ gives in float32.
func TestClip(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range []struct {
		name   string
		in     []float32
		bound  float32
		norm   float32
		expect []float32
	}{
		{"below", []float32{0.3, 0.4}, 1, 0.5, []float32{0.3, 0.4}},
		{"above", []float32{3, 4}, 1, 5, []float32{3 / 5.000001, 4 / 5.000001}},
		{"overflow of squares", []float32{1e25, -1e25}, 1, inf, []float32{0, 0}},
		{"underflow of squares", []float32{3e-30, 3e-30}, 1, 0, []float32{3e-30, 3e-30}},
		{"infinite", []float32{inf, 1}, 1, inf, []float32{nan, 0}},
		{"NaN", []float32{nan, 1}, 1, nan, []float32{nan, nan}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := &Param{Grad: slices.Clone(c.in[:1])}, &Param{Grad: slices.Clone(c.in[1:])}
			if got := clip([]*Param{a, b}, c.bound, 1); !alike(got, c.norm) {
				t.Errorf("norm %g, want %g", got, c.norm)
			}
			for i, v := range []float32{a.Grad[0], b.Grad[0]} {
				if !alike(v, c.expect[i]) {
					t.Errorf("gradient %d is %g, want %g", i, v, c.expect[i])
				}
			}
		})
	}
}

func alike(a, b float32) bool {
	return a == b || a != a && b != b || math.Abs(float64(a-b)) <= 1e-6*math.Abs(float64(b))
}

func TestSchedules(t *testing.T) {
	for _, c := range []struct {
		s            Schedule
		step, warmup int
		want         float64
	}{
		{Constant, 0, 0, 1}, {Constant, 50, 0, 1}, {Constant, 0, 4, 0}, {Constant, 2, 4, 0.5}, {Constant, 4, 4, 1},
		{Linear, 4, 4, 1}, {Linear, 12, 4, 0.5}, {Linear, 20, 4, 0}, {Linear, 30, 4, 0},
		{Cosine, 4, 4, 1}, {Cosine, 12, 4, 0.5}, {Cosine, 20, 4, 0},
	} {
		if got := c.s.factor(c.step, c.warmup, 20); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s at step %d after %d: %g, want %g", c.s, c.step, c.warmup, got, c.want)
		}
	}
}

func TestUnknownMethods(t *testing.T) {
	g, src := openModel(t, demoModel, 8)
	e, err := New(context.Background(), g, src, Options{Batch: 1, Trainable: Trainable{Kind: Norms}})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []TrainOptions{{Optimizer: Optimizer{Method: "adam"}}, {Schedule: "step"}} {
		if _, err := NewTrainer(e, o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

// TestBF16: weights, gradients and states hold nothing that bfloat16 cannot, and
// training still learns.
func TestBF16(t *testing.T) {
	g, src := openModel(t, demoModel, curveTokens)
	for _, to := range allMethods() {
		m := to.Optimizer.Method
		if m == RowCol {
			to.LR = 1e-2 // of a weight's size
		}
		e, err := New(context.Background(), g, src, Options{Batch: curveBatch, Workers: 2, BF16: true, Trainable: Trainable{Kind: Full}})
		if err != nil {
			t.Fatal(err)
		}
		tr, err := NewTrainer(e, to)
		if err != nil {
			t.Fatal(err)
		}
		var losses []float64
		for i := range 6 {
			r, err := tr.Step(curveData(i))
			if err != nil {
				t.Fatal(err)
			}
			losses = append(losses, r.Loss)
		}
		if !(losses[5] < losses[0]) {
			t.Errorf("%s: losses %v", m, losses)
		}
		for i, p := range e.Params() {
			all := [][]float32{p.Data, p.Grad}
			for _, s := range tr.states[i] {
				all = append(all, s)
			}
			for _, x := range all {
				y := slices.Clone(x)
				dtype.RoundBF16(y)
				if !slices.Equal(x, y) {
					t.Fatalf("%s: %s holds values beyond bfloat16", m, p.Name)
				}
			}
		}
	}
}

// TestDivergenceIsNoError: a rate that destroys the model is in the result.
func TestDivergenceIsNoError(t *testing.T) {
	losses := curve(t, demoModel, 6, Options{Trainable: Trainable{Kind: Full}}, TrainOptions{LR: 1e30, Optimizer: Optimizer{Method: SGD}})
	if last := losses[5]; !math.IsNaN(last) && !math.IsInf(last, 0) && last < losses[0] {
		t.Errorf("losses %v", losses)
	}
}

// allMethods are the optimizers, with what they need to run.
func allMethods() []TrainOptions {
	var out []TrainOptions
	for _, m := range []Method{AdamW, SGD, Lion, Adafactor, Muon, LAMB, Shampoo, RowCol, Pair} {
		out = append(out, TrainOptions{LR: 1e-3, Optimizer: Optimizer{Method: m, Momentum: 0.9},
			Scales: func(string) (rows, cols []float32) { return nil, nil }})
	}
	return out
}

// TestEstimate: what is predicted is what is taken.
func TestEstimate(t *testing.T) {
	g, src := openModel(t, demoModel, curveTokens)
	for _, c := range []Trainable{{Kind: Full}, {Kind: LoRA, Modules: someModules, Rank: 8, Alpha: 16}} {
		for _, to := range allMethods() {
			o := Options{Batch: curveBatch, Trainable: c}
			want, err := Estimate(g, o, to)
			if err != nil {
				t.Fatal(err)
			}
			e, err := New(context.Background(), g, src, o)
			if err != nil {
				t.Fatal(err)
			}
			tr, err := NewTrainer(e, to)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 2 {
				if _, err := tr.Step(curveData(i)); err != nil {
					t.Fatal(err)
				}
			}
			got := tr.Memory()
			if got != want || got.Total() == 0 || tr.StateBytes() != want.States {
				t.Errorf("%s, %s: estimated %+v, taken %+v", c.Kind, to.Optimizer.Method, want, got)
			}
			if to.Optimizer.Method == AdamW && want.States != 2*want.Gradients {
				t.Errorf("%s: states %d, gradients %d", c.Kind, want.States, want.Gradients)
			}
		}
	}
}

// TestEstimateOfLargeBatches: a prediction takes no memory of the size that it
// predicts, and sizes that cannot be counted are refused.
func TestEstimateOfLargeBatches(t *testing.T) {
	g, _ := openModel(t, demoModel, curveTokens)
	o := Options{Batch: curveBatch, Trainable: Trainable{Kind: Full}}
	small, err := Estimate(g, o, TrainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const more = 1 << 16
	o.Batch *= more
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	large, err := Estimate(g, o, TrainOptions{})
	runtime.ReadMemStats(&after)
	if err != nil || large.Buffers < small.Buffers*more/4 || large.Weights != small.Weights {
		t.Errorf("%+v, and with a batch %d times as large %+v (%v)", small, more, large, err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 32<<20 {
		t.Errorf("predicting takes %d bytes", took)
	}
	for _, batch := range []int{1 << 40, math.MaxInt} {
		o.Batch = batch
		if _, err := Estimate(g, o, TrainOptions{}); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "sequences of 64 tokens") {
			t.Errorf("batch %d: %v", batch, err)
		}
	}
	o = Options{Batch: 1, Trainable: Trainable{Kind: LoRA, Modules: someModules, Rank: math.MaxInt / 64, Alpha: 1}}
	if _, err := Estimate(g, o, TrainOptions{}); fault.KindOf(err) != fault.Usage {
		t.Errorf("rank %d: %v", o.Trainable.Rank, err)
	}
}

// TestEstimateIsTheHeap: the memory in use after some steps is what was predicted.
func TestEstimateIsTheHeap(t *testing.T) {
	g, src := openModel(t, demoModel, curveTokens)
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what a pool held goes with the second
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for _, m := range []Method{AdamW, Muon, Shampoo, RowCol} {
		o, to := Options{Batch: curveBatch, Trainable: Trainable{Kind: Full}}, TrainOptions{LR: 1e-3, Optimizer: Optimizer{Method: m}}
		want, err := Estimate(g, o, to)
		if err != nil {
			t.Fatal(err)
		}
		before := heap()
		e, err := New(context.Background(), g, src, o)
		if err != nil {
			t.Fatal(err)
		}
		tr, err := NewTrainer(e, to)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 6 {
			if _, err := tr.Step(curveData(i)); err != nil {
				t.Fatal(err)
			}
		}
		got := heap() - before
		runtime.KeepAlive(tr)
		const overhead = 1 << 20 // instructions, closures, maps
		t.Logf("%s: %d bytes predicted, %d in use", m, want.Total(), got)
		if got > want.Total()+overhead || got < want.Total()-overhead {
			t.Errorf("%s: %d bytes in use, predicted %d: %+v", m, got, want.Total(), want)
		}
	}
}
