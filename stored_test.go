package neuroseal

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/probe"
	"github.com/neuroseal/neuroseal/seal"
)

// refusedFixtures are quantised in a way that leaves no room for any factor.
var refusedFixtures = map[string]bool{"nf4-double": true}

// TestQuantised seals quantised checkpoints by every profile: only scales and
// what is not quantised change, the networks compute the same, and unlocking
// brings the bytes back.
func TestQuantised(t *testing.T) {
	dirs, err := filepath.Glob("quant/testdata/*/model.safetensors")
	if err != nil || len(dirs) < 4 {
		t.Fatalf("fixtures: %d found, %v", len(dirs), err)
	}
	s := schema(t)
	for i, d := range dirs {
		src := filepath.Dir(d)
		t.Run(filepath.Base(src), func(t *testing.T) {
			t.Parallel()
			for j, p := range []seal.Profile{seal.Portable, seal.Strong, seal.Max} {
				o := LockOptions{Source: src, Output: filepath.Join(t.TempDir(), "out"), Profile: p, Key: keys.SealKey{byte(i), byte(j), 7}}
				if refusedFixtures[filepath.Base(src)] {
					if _, err := Lock(context.Background(), o); fault.KindOf(err) != fault.Unsupported {
						t.Errorf("sealed: %v", err)
					}
					return
				}
				slot, err := keys.WrapPassphrase(o.Key, "open", 1)
				if err != nil {
					t.Fatal(err)
				}
				o.Slots = []keys.Slot{slot}
				fixture(t, s, o)
				keptCodes(t, o)
			}
		})
	}
}

// keptCodes demands that nothing but scales and plain weights has changed, and
// that a good part of the quantised weights is covered.
func keptCodes(t *testing.T, o LockOptions) {
	t.Helper()
	a, b := opened(t, o.Source), opened(t, o.Output)
	defer a.ck.Close()
	defer b.ck.Close()
	scales := map[string]bool{}
	for _, n := range a.quant.Names() {
		for _, s := range a.quant.Weight(n).Scales {
			scales[s.Tensor] = true
		}
		if in := a.quant.Weight(n).Input; in != "" {
			scales[in] = true
		}
	}
	changed := 0
	for _, x := range a.ck.Tensors() {
		p, q := make([]byte, x.Size), make([]byte, x.Size)
		y, _ := b.ck.Tensor(x.Name)
		if a.ck.ReadAt(x, p, 0) != nil || b.ck.ReadAt(y, q, 0) != nil {
			t.Fatal("cannot read " + x.Name)
		}
		if string(p) == string(q) {
			continue
		}
		if scales[x.Name] {
			changed++
		} else if a.net.Graph.Weights()[x.Name] == 0 && x.Name != "model.embed_tokens.weight" || a.quant.Weight(x.Name) != nil {
			t.Errorf("%s has changed", x.Name)
		}
	}
	man, err := readManifest(o.Output)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s %s: %d of %d scales changed, coverage %.3f", filepath.Base(o.Source), o.Profile, changed, len(scales), man.Coverage)
	// NVFP4's own tools leave no room upwards in its scales, and portable grows;
	// with stored scales of the activations too, inputs must stay.
	name := filepath.Base(o.Source)
	if none := name == "nvfp4-w4a4" || (name == "nvfp4" || name == "ct-nvfp4") && o.Profile == seal.Portable; (changed == 0) != none {
		t.Errorf("%s: %d scales have changed", o.Profile, changed)
	}
	if _, err := os.Stat(filepath.Join(o.Output, manifest.Name)); err != nil {
		t.Error(err)
	}
}

func opened(t *testing.T, path string) *model {
	t.Helper()
	m, err := openModel(path, arch.Options{Tokens: 1})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestGrowing: where a runtime finds the scales of activations itself, no factor
// makes these smaller.
func TestGrowing(t *testing.T) {
	for _, name := range []string{"fp8", "ct-w8a8", "ct-fp8-channel"} {
		for _, p := range []seal.Profile{seal.Portable, seal.Strong, seal.Max} {
			o := LockOptions{Source: filepath.Join("quant", "testdata", name), Output: filepath.Join(t.TempDir(), "out"), Profile: p, DryRun: true}
			res, err := Lock(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			plan, err := seal.Decode(res.Manifest)
			if err != nil {
				t.Fatal(err)
			}
			m := opened(t, o.Source)
			defer m.ck.Close()
			sol, err := m.solve()
			if err != nil {
				t.Fatal(err)
			}
			factors, _ := movesOf(sol, m.growing())
			if len(factors) == 0 {
				t.Fatalf("%s: nothing moves an input", name)
			}
			for _, f := range factors {
				lo, hi := plan.Groups[f.Group].Span()
				if min(f.Coef*lo, f.Coef*hi) < 0 {
					t.Errorf("%s %s: group %s moves an input by 2^%d", name, p, plan.Groups[f.Group].ID, min(f.Coef*lo, f.Coef*hi))
				}
			}
		}
	}
}

// TestUndoQuantised: re-balancing works on scales as on weights, and what it
// makes computes what the original does.
func TestUndoQuantised(t *testing.T) {
	for i, name := range []string{"nf4", "gptq-order", "mlx", "fp8", "mxfp4", "nvfp4-room", "int8"} {
		t.Run(name, func(t *testing.T) {
			ctx, src := context.Background(), filepath.Join("quant", "testdata", name)
			sealed, even := filepath.Join(t.TempDir(), "sealed"), filepath.Join(t.TempDir(), "even")
			if _, err := Lock(ctx, LockOptions{Source: src, Output: sealed, Profile: seal.Strong, Key: keys.SealKey{byte(i), 9}}); err != nil {
				t.Fatal(err)
			}
			if in, err := Inspect(ctx, InspectOptions{Path: sealed, Detect: true}); err != nil || !in.Detection.Sealed || in.Quantised == nil {
				t.Errorf("sealed: %+v, %v", in, err)
			}
			if _, err := Undo(ctx, UndoOptions{Source: sealed, Output: even}); err != nil {
				t.Fatal(err)
			}
			if in, err := Inspect(ctx, InspectOptions{Path: even, Detect: true}); err != nil || in.Detection.Sealed {
				t.Errorf("re-balanced: %+v, %v", in.Detection, err)
			}
			a, b := opened(t, src), opened(t, even)
			defer a.ck.Close()
			defer b.ck.Close()
			r, err := probe.Compare(ctx, a.side(), b.side(), probe.Options{Tokens: a.tokens(), Precision: probe.BF16})
			if err != nil || !r.Equal {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// TestQuantisedRefused: what cannot be kept exact is refused, by name.
func TestQuantisedRefused(t *testing.T) {
	ctx := context.Background()
	lock := func(o LockOptions) error {
		o.Output = filepath.Join(t.TempDir(), "out")
		_, err := Lock(ctx, o)
		return err
	}
	nf4, double := filepath.Join("quant", "testdata", "nf4"), filepath.Join("quant", "testdata", "nf4-double")
	if err := lock(LockOptions{Source: nf4, Method: seal.Static}); fault.KindOf(err) != fault.Usage {
		t.Errorf("static: %v", err)
	}
	if err := lock(LockOptions{Source: nf4, Permute: true}); fault.KindOf(err) != fault.Usage {
		t.Errorf("permutations: %v", err)
	}
	_, err := LockPart(ctx, LockOptions{Source: double, Unnest: true, Output: filepath.Join(t.TempDir(), "out")}, Part{1, 1})
	if fault.KindOf(err) != fault.Usage {
		t.Errorf("parts: %v", err)
	}
	src := t.TempDir()
	conf, err := os.ReadFile(filepath.Join(nf4, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	weights, err := os.ReadFile(filepath.Join(nf4, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	conf = bytes.Replace(conf, []byte(`"bitsandbytes"`), []byte(`"torchao"`), 1)
	for name, b := range map[string][]byte{"config.json": conf, "model.safetensors": weights} {
		if err := os.WriteFile(filepath.Join(src, name), b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := lock(LockOptions{Source: src}); fault.KindOf(err) != fault.Unsupported || !strings.Contains(err.Error(), "torchao") {
		t.Errorf("torchao: %v", err)
	}
	if err := lock(LockOptions{Source: src, AllowUnsealed: true}); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("torchao, allowed: %v", err)
	}
}
