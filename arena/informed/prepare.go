package informed

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	neuroseal "github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Cost is what a preparation took.
type Cost struct {
	Seconds   float64 `json:"seconds"`
	BytesRead int64   `json:"bytes_read"` // of files: the victim's, and the base's where it is used
}

// Info describes a preparation.
type Info struct {
	Name      string
	Does      string
	Source    string       // paper or tool
	NeedsBase bool         // the public base must be at hand
	Kinds     []gauge.Kind // the pairs that it evens out
	Exact     bool         // the function stays the same bit for bit, else to float32 rounding
}

// preparation is one way to transform a victim; it does not change its input.
type preparation struct {
	Info
	run func(ctx context.Context, m, base *Model) (*Model, error)
}

func preparations() []preparation {
	all := []gauge.Kind{gauge.Norm, gauge.QK, gauge.VO, gauge.FFN, gauge.Residual}
	return []preparation{
		{Info{Name: "undo", Does: "folds gains and evens out pairs by powers of two, resets the epsilon",
			Source: "neuroseal undo", Kinds: all, Exact: true}, nil},
		{Info{Name: "fold-norms", Does: "multiplies norm gains into the linear maps that read them",
			Source: "fuse_layer_norms of QuaRot (arXiv 2404.00456) and SliceGPT (2401.15024)", Kinds: []gauge.Kind{gauge.Norm}}, foldOnly},
		{Info{Name: "equalise", Does: "gives both sides of every pair the same range per channel, folds gains, resets the epsilon",
			Source: "cross-layer equalisation, arXiv 1906.04721; torch.ao.quantization", Kinds: all}, equalise},
		{Info{Name: "smoothquant", Does: "shares the range of activations and weights per channel, alpha 0.5, calibrated on a run",
			Source: "arXiv 2211.10438; mappings of llm-compressor", Kinds: []gauge.Kind{gauge.Norm, gauge.VO, gauge.FFN}}, smoothquant},
		{Info{Name: "svd", Does: "decomposes V·O head by head and balances all other pairs, folds gains, resets the epsilon",
			Source: "singular value canonicalisation of the products that attention and MLP compute", Kinds: all}, canonicalise},
		{Info{Name: "align", Does: "recovers factors, signs and permutations against the public base",
			Source: "least squares and Hungarian matching, arXiv 2606.30360", Kinds: all, NeedsBase: true, Exact: true}, alignOnly},
	}
}

// Preparations lists the preparations. None needs a key.
func Preparations() []Info {
	var out []Info
	for _, p := range preparations() {
		out = append(out, p.Info)
	}
	return out
}

// Prepare transforms a victim before it is trained and returns the result; m
// stays as it is. base is the public base, for preparations that need it. A
// preparation that does not apply to the network gives fault.Unsupported.
func Prepare(ctx context.Context, name string, m, base *Model) (*Model, Cost, error) {
	began := time.Now()
	all := preparations()
	i := slices.IndexFunc(all, func(p preparation) bool { return p.Name == name })
	if i < 0 {
		return nil, Cost{}, fault.New(fault.Usage, "unknown preparation %q", name).WithHint("known: undo, fold-norms, equalise, smoothquant, svd, align")
	}
	p := all[i]
	if p.NeedsBase && base == nil {
		return nil, Cost{}, fault.New(fault.Usage, "preparation %s needs the public base", name)
	}
	if ctx.Err() != nil {
		return nil, Cost{}, fault.Wrap(fault.Interrupted, ctx.Err(), "%s", name)
	}
	c := Cost{BytesRead: m.read}
	if p.NeedsBase {
		c.BytesRead += base.read
	}
	var out *Model
	var err error
	if p.run == nil {
		out, c.BytesRead, err = undo(ctx, m)
	} else {
		out, err = p.run(ctx, m, base)
	}
	if err == nil {
		err = out.finite(name)
	}
	if err != nil {
		return nil, Cost{}, fault.Wrap(fault.KindOf(err), err, "preparation %s", name)
	}
	c.Seconds = time.Since(began).Seconds()
	return out, c, nil
}

// undo runs the tool's own undo on a temporary copy, and returns what it read.
func undo(ctx context.Context, m *Model) (*Model, int64, error) {
	tmp, err := os.MkdirTemp("", "neuroseal-undo")
	if err != nil {
		return nil, 0, fault.Wrap(fault.General, err, "making a temporary folder")
	}
	defer os.RemoveAll(tmp)
	in, out := filepath.Join(tmp, "in"), filepath.Join(tmp, "out")
	if err := m.Save(ctx, in); err != nil {
		return nil, 0, err
	}
	res, err := neuroseal.Undo(ctx, neuroseal.UndoOptions{Source: in, Output: out, AllowUnsealed: true})
	if err != nil {
		return nil, 0, err
	}
	u, err := Load(ctx, out)
	if err != nil {
		return nil, 0, err
	}
	u.beside = m.beside // those of the copy are gone soon
	return u, res.BytesRead, nil
}

// finite refuses weights that left float32's range.
func (m *Model) finite(name string) error {
	for _, t := range m.tensors {
		for i, v := range t.Data {
			if math.IsInf(float64(v), 0) {
				return fault.New(fault.Unsupported, "tensor %s: element %d leaves float32's range", t.Name, i).
					WithHint("the victim holds infinities, or factors that only another preparation than %s can take back", name)
			}
		}
	}
	return nil
}
