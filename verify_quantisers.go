package neuroseal

import (
	"context"
	"sync"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/quant"
	"github.com/neuroseal/neuroseal/seal"
)

// QuantiserRow says what becomes of a sealed checkpoint's matrices in a
// quantiser, compared with the original's.
type QuantiserRow struct {
	Quantiser string `json:"quantiser"`
	Promised  bool   `json:"promised"` // by the seal's profile
	Blocks    int64  `json:"blocks"`
	Codes     int64  `json:"other_codes"`  // blocks with other codes
	Scales    int64  `json:"other_scales"` // blocks whose scales differ by something else than a power of two
}

// quantisers quantises every matrix of both checkpoints and compares the codes.
func (v *verifier) quantisers(ctx context.Context) error {
	if v.o.Against == "" && v.o.Key == nil {
		return fault.New(fault.Usage, "comparing quantisers needs the original").WithHint("give --against ORIGINAL, or the key")
	}
	if v.man.Permute != nil {
		v.res.Notes = append(v.res.Notes, "quantisers not compared: the weights are permuted, in whole blocks")
		return nil
	}
	orig, err := v.original(arch.Options{Tokens: verifyTokens, AllowUnsealed: true})
	if err != nil {
		return err
	}
	defer orig.ck.Close()
	all := quant.Quantisers()
	total := make([]quant.Difference, len(all))
	var mu sync.Mutex
	want := func(t checkpoint.Tensor) bool {
		return len(t.Shape) == 2 && t.DType.Scalable() && t.Shape[1]%32 == 0 && orig.net.Graph.Weights()[t.Name] != 0
	}
	var bytes int64
	for _, t := range v.ck.Tensors() {
		if want(t) {
			bytes += t.Size
		}
	}
	v.o.Progress.Stage("quantising", bytes)
	err = v.ck.Each(ctx, 0, want, func(t checkpoint.Tensor, start int64, buf []byte) error {
		was := make([]byte, len(buf))
		if err := orig.readStored(t.Name, was, offsetOf(t, start)); err != nil {
			return err
		}
		n := len(buf) / (t.DType.Bits() / 8)
		a, b := make([]float32, n), make([]float32, n)
		dtype.ToFloat32(t.DType, a, was)
		dtype.ToFloat32(t.DType, b, buf)
		for i, q := range all {
			if t.Shape[1]%q.Block != 0 || start%int64(q.Block) != 0 {
				continue // a matrix that this quantiser leaves alone, or the middle of a huge row
			}
			d := q.Compare(a, b)
			mu.Lock()
			total[i].Add(d)
			mu.Unlock()
		}
		v.o.Progress.Add(int64(len(buf)))
		return nil
	})
	if err != nil {
		return err
	}
	for i, q := range all {
		r := QuantiserRow{q.Name, v.promises(q), total[i].Blocks, total[i].Codes, total[i].Scales}
		v.res.Quantisers = append(v.res.Quantisers, r)
		if r.Promised && r.Codes+r.Scales > 0 {
			v.mismatch("", "", "%s finds other codes in %d and other scales in %d of %d blocks", q.Name, r.Codes, r.Scales, r.Blocks)
		}
	}
	return nil
}

// promises reports whether the profile promises a quantiser: portable in growth
// form all of blocks up to its own, the others those with fp32 scales.
func (v *verifier) promises(q quant.Quantiser) bool {
	switch seal.Profile(v.man.Profile) {
	case seal.Portable:
		return q.Scale == dtype.F32 || len(v.man.Promise.Quantisers) > 1
	case seal.Strong:
		return q.Scale == dtype.F32
	}
	return false
}
