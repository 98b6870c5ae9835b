package informed

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"testing"

	neuroseal "github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/gauge"
)

// tolerance of preparations with real-valued factors: the largest difference
// of a logit, over the largest logit. Each weight is rounded to float32 a few
// times; sealed and unsealed logits are of order one.
const tolerance = 2e-5

// TestPreparations: on every family and profile, every preparation keeps the
// function, and takes the pairs that it names to where the same preparation
// takes those of the unsealed model; undo and align bit for bit.
func TestPreparations(t *testing.T) {
	for i, name := range families {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(fixtures, name)
			base := load(t, dir)
			for j, p := range profiles {
				if testing.Short() && (i+j)%3 != 0 {
					continue
				}
				victim := locked(t, dir, neuroseal.LockOptions{Profile: p})
				if d := difference(t, base, victim); d != 0 {
					t.Fatalf("%s: the seal changes the function by %g", p, d)
				}
				for _, info := range Preparations() {
					t.Run(string(p)+"/"+info.Name, func(t *testing.T) {
						prepared(t, info, victim, base)
						evened(t, info, victim, base, neuroseal.LockOptions{Source: dir, Profile: p})
					})
				}
			}
		})
	}
}

func prepared(t *testing.T, info Info, victim, base *Model) {
	ctx := context.Background()
	before := victim.Clone()
	out, cost, err := Prepare(ctx, info.Name, victim, base)
	if err != nil {
		t.Fatal(err)
	}
	sameTensors(t, before, victim) // the input stays
	want := tolerance
	if info.Exact {
		want = 0
	}
	if d := difference(t, base, out); !(d <= want) {
		t.Errorf("the function changes by %g", d)
	}
	wantRead := victim.BytesRead()
	if info.NeedsBase {
		wantRead += base.BytesRead()
	}
	if cost.BytesRead < wantRead || info.Name != "undo" && cost.BytesRead != wantRead || cost.Seconds <= 0 {
		t.Errorf("cost %+v, files hold %d", cost, wantRead)
	}
	if info.Name == "align" {
		sameTensors(t, base, out)
	}
}

// evened demands that the pairs are as even as those of the unsealed model after
// the same. A preparation that leaves some kinds of pairs alone is tried on a
// seal of the others: the rows of a matrix that is still sealed drown what its
// columns measure.
func evened(t *testing.T, info Info, victim, base *Model, o neuroseal.LockOptions) {
	if len(info.Kinds) < 5 {
		have := spreads(t, base)
		for _, k := range info.Kinds {
			if have[k].Classes > 0 {
				o.Include = append(o.Include, string(k))
			}
		}
		if len(o.Include) == 0 {
			return
		}
		victim = locked(t, o.Source, o)
	}
	var both [2]*Model
	for i, m := range []*Model{victim, base} {
		var err error
		if both[i], _, err = Prepare(context.Background(), info.Name, m, base); err != nil {
			t.Fatal(err)
		}
	}
	compareSpread(t, info, both[0], both[1])
}

// compareSpread compares two models' pairs. Undo works with powers of two: half
// a step each way.
func compareSpread(t *testing.T, info Info, out, ref *Model) {
	slack := 0.02
	if info.Name == "undo" {
		slack = 1
	}
	a, b := spreads(t, out), spreads(t, ref)
	for _, k := range info.Kinds {
		if k == gauge.Residual {
			if e, f := epsilonOf(out), epsilonOf(ref); !(math.Abs(e-f) <= 1e-6*f) {
				t.Errorf("epsilon %g, from the unsealed model %g", e, f)
			}
			continue
		}
		if math.Abs(a[k].Mean-b[k].Mean) > slack || a[k].Std > b[k].Std+slack {
			t.Errorf("%s pairs: mean %.3f, spread %.3f; from the unsealed model %.3f, %.3f", k, a[k].Mean, a[k].Std, b[k].Mean, b[k].Std)
		}
	}
}

func spreads(t *testing.T, m *Model) map[gauge.Kind]Spread {
	t.Helper()
	all, err := Imbalance(m)
	if err != nil {
		t.Fatal(err)
	}
	out := map[gauge.Kind]Spread{}
	for _, s := range all {
		out[s.Kind] = s
	}
	return out
}

func epsilonOf(m *Model) float64 {
	v, _ := m.number("rms_norm_eps")
	return v
}

// TestSealIsSeen: the measure does show the seal, and the preparations that
// even out nothing of a kind leave it.
func TestSealIsSeen(t *testing.T) {
	dir := filepath.Join(fixtures, "llama")
	base, victim := spreads(t, load(t, dir)), spreads(t, locked(t, dir, neuroseal.LockOptions{Profile: "max"}))
	for _, k := range []gauge.Kind{gauge.Norm, gauge.QK, gauge.VO, gauge.FFN} {
		a, b := victim[k], base[k]
		if a.Classes == 0 || a.Classes != b.Classes || math.Abs(a.Mean-b.Mean)+math.Abs(a.Std-b.Std) < 1 {
			t.Errorf("%s: sealed %+v, unsealed %+v", k, a, b)
		}
	}
}

// TestFoldedGains: every gain that linear maps alone read is one afterwards
// (zero where one is added to it).
func TestFoldedGains(t *testing.T) {
	for name, want := range map[string]int{"llama": 5, "llama-tied": 4, "gemma": 4, "gemma2": 4, "qwen3": 5, "mixtral": 5, "phi3": 5} {
		m := load(t, filepath.Join(fixtures, name))
		g, err := m.gauge()
		if err != nil {
			t.Fatal(err)
		}
		all := norms(g.net.Graph)
		out, _, err := Prepare(context.Background(), "fold-norms", m, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != want {
			t.Errorf("%s: %d gains folded, want %d", name, len(all), want)
		}
		for _, n := range all {
			x, _ := out.Tensor(n.gain)
			if slices.ContainsFunc(x.Data, func(v float32) bool { return v != 1-n.plus }) {
				t.Errorf("%s: %s is %v", name, n.gain, x.Data)
			}
		}
	}
}

// TestRealFactors: the original tool's seals, with one factor for all and with
// one per layer, come off too.
func TestRealFactors(t *testing.T) {
	for _, method := range []neuroseal.LockOptions{{Method: "static"}, {Method: "dynamic"}} {
		base, victim := load(t, demoModel), locked(t, demoModel, method)
		a, al, err := Align(context.Background(), victim, base)
		if err != nil || al.PowersOfTwo {
			t.Fatal(err, al)
		}
		if d := difference(t, base, a); !(d <= 5e-3) { // bf16 weights, rounded by the seal
			t.Errorf("%s: aligned, the function differs by %g", method.Method, d)
		}
		if s := spreads(t, victim); math.Abs(s[gauge.VO].Mean) < 4 {
			t.Errorf("%s: sealed pairs %+v", method.Method, s)
		}
		ref := spreads(t, base)
		if s := spreads(t, a); math.Abs(s[gauge.VO].Mean-ref[gauge.VO].Mean) > 0.05 || math.Abs(s[gauge.FFN].Mean-ref[gauge.FFN].Mean) > 0.05 {
			t.Errorf("%s: aligned pairs %+v", method.Method, s)
		}
	}
}
