package informed

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Transplant adds what a public fine-tune (donor) changed in the public base to
// the victim: m + (donor - base), tensor by tensor. It helps the attacker only
// if the victim stands in the base's gauge.
func Transplant(m, base, donor *Model) (*Model, error) {
	if err := alike(m, base, "base"); err != nil {
		return nil, err
	}
	if err := alike(m, donor, "donor"); err != nil {
		return nil, err
	}
	out := m.Clone()
	for _, t := range out.tensors {
		b, d := base.byName[t.Name].Data, donor.byName[t.Name].Data
		for i := range t.Data {
			t.Data[i] += d[i] - b[i]
		}
	}
	out.read += base.read + donor.read
	return out, nil
}

// The merging methods, as mergekit 0.1.5 computes them.
const (
	TaskArithmetic = "task_arithmetic" // arXiv 2212.04089
	TIES           = "ties"            // arXiv 2306.01708
	DARELinear     = "dare_linear"     // arXiv 2311.03099
	DARETIES       = "dare_ties"
)

// MergeOptions are the parameters of a merge. The first entry of Weights and
// Densities is the victim's, the others are the donors'; a list that is empty
// stands for ones, one of length 1 for the same in all.
type MergeOptions struct {
	Weights   []float64
	Densities []float64 // share of each task vector's elements that is kept
	Lambda    float64   // factor on the merged task vector; 0: 1
	Seed      uint64    // of DARE's masks
	// Normalize overrides the method's own choice of dividing by the sum of
	// weights (TIES does, the others do not).
	Normalize *bool
}

// mergeMethod says what a method does with the task vectors.
type mergeMethod struct {
	sparsify  func(o *MergeOptions, name string, k int, density float64, delta []float32)
	consensus bool // elements against the majority's sign are left out
	normalize bool
}

var mergeMethods = map[string]mergeMethod{
	TaskArithmetic: {},
	TIES:           {sparsify: trim, consensus: true, normalize: true},
	DARELinear:     {sparsify: drop},
	DARETIES:       {sparsify: drop, consensus: true},
}

// Merge merges the victim with public fine-tunes of the same base: the victim
// and every donor is one task vector, its difference from the base.
func Merge(ctx context.Context, method string, m, base *Model, donors []*Model, o MergeOptions) (*Model, error) {
	how, ok := mergeMethods[method]
	if !ok {
		return nil, fault.New(fault.Usage, "unknown merging method %q", method).
			WithHint("known: %s, %s, %s, %s", TaskArithmetic, TIES, DARELinear, DARETIES)
	}
	if err := alike(m, base, "base"); err != nil {
		return nil, err
	}
	out := m.Clone()
	out.read += base.read
	models := []*Model{m}
	for i, d := range donors {
		if err := alike(m, d, fmt.Sprintf("donor %d", i+1)); err != nil {
			return nil, err
		}
		models = append(models, d)
		out.read += d.read
	}
	if err := o.defaults(len(models)); err != nil {
		return nil, err
	}
	if o.Normalize != nil {
		how.normalize = *o.Normalize
	}
	for _, t := range out.tensors {
		if ctx.Err() != nil {
			return nil, fault.Wrap(fault.Interrupted, ctx.Err(), "merging")
		}
		if t.Data == nil {
			continue
		}
		b := base.byName[t.Name].Data
		deltas := make([][]float32, len(models))
		for k, x := range models {
			deltas[k] = make([]float32, len(b))
			for i, v := range x.byName[t.Name].Data {
				deltas[k][i] = v - b[i]
			}
			if how.sparsify != nil && o.Densities[k] < 1 {
				how.sparsify(&o, t.Name, k, o.Densities[k], deltas[k])
			}
		}
		how.mix(t.Data, b, deltas, &o)
	}
	return out, nil
}

func (o *MergeOptions) defaults(n int) error {
	fill := func(what string, x *[]float64, low float64) error {
		*x = slices.Clone(*x)
		if len(*x) == 0 {
			*x = []float64{1}
		}
		if len(*x) == 1 {
			*x = slices.Repeat(*x, n)
		}
		if len(*x) != n {
			return fault.New(fault.Usage, "merging %d models: %d %s", n, len(*x), what)
		}
		for _, v := range *x {
			if math.IsNaN(v) || math.IsInf(v, 0) || v < low {
				return fault.New(fault.Usage, "merging: %g among the %s", v, what)
			}
		}
		return nil
	}
	if o.Lambda == 0 {
		o.Lambda = 1
	}
	if err := fill("weights", &o.Weights, math.Inf(-1)); err != nil {
		return err
	}
	return fill("densities", &o.Densities, 0)
}

// mix adds the weighted task vectors to the base.
func (m mergeMethod) mix(dst, base []float32, deltas [][]float32, o *MergeOptions) {
	for i := range dst {
		sum, divisor, total := float32(0), float32(0), float32(0)
		for k, d := range deltas {
			total += d[i] * float32(o.Weights[k])
		}
		for k, d := range deltas {
			w := float32(o.Weights[k])
			if x := d[i] * w; !m.consensus || x != 0 && (x > 0) == (total >= 0) {
				sum, divisor = sum+x, divisor+w
			}
		}
		if m.consensus && divisor == 0 || !m.consensus && math.Abs(float64(divisor)) < 1e-8 {
			divisor = 1
		}
		if m.normalize {
			sum /= divisor
		}
		dst[i] = base[i] + sum*float32(o.Lambda)
	}
}

// trim keeps the largest elements of a task vector (TIES).
func trim(_ *MergeOptions, _ string, _ int, density float64, delta []float32) {
	keep := max(1, int(density*float64(len(delta))))
	if density <= 0 || len(delta) == 0 {
		keep = 0
	}
	order := make([]int, len(delta))
	for i := range order {
		order[i] = i
	}
	size := func(i int) float64 { return math.Abs(float64(delta[i])) }
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(size(j), size(i)) })
	for _, i := range order[keep:] {
		delta[i] = 0
	}
}

// drop keeps elements at random (DARE) and, as mergekit does, scales what is
// left to the sum of sizes that there was. The paper divides by the density,
// which is the same on average.
func drop(o *MergeOptions, name string, k int, density float64, delta []float32) {
	before, after := 0.0, 0.0
	at := maskStart(o.Seed, name, k)
	for i, v := range delta {
		before += math.Abs(float64(v))
		if uniform(at+uint64(i)) >= density {
			delta[i] = 0
		}
		after += math.Abs(float64(delta[i]))
	}
	if before < 1e-7 || after < 1e-7 {
		return
	}
	scale := float32(before / after)
	for i := range delta {
		delta[i] *= scale
	}
}

// maskStart is where the counter of a mask begins: the FNV-1a hash of
// "name#model" plus the seed's share, so that any language can draw the same.
func maskStart(seed uint64, name string, k int) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s#%d", name, k)
	return h.Sum64() + seed*0x9E3779B97F4A7C15
}

// uniform is SplitMix64 of a counter as a value of [0, 1) with 24 random bits.
func uniform(x uint64) float64 {
	x += 0x9E3779B97F4A7C15
	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
	x = (x ^ (x >> 27)) * 0x94D049BB133111EB
	return float64((x^(x>>31))>>40) / (1 << 24)
}
