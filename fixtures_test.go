package neuroseal

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/probe"
	"github.com/neuroseal/neuroseal/seal"
)

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	s, err := c.Compile("spec/manifest.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(t *testing.T, s *jsonschema.Schema, data []byte) {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(v); err != nil {
		t.Errorf("%v", err)
	}
}

// TestFixtures seals folders that transformers wrote, by every method and
// profile: bit-exact and restored to the byte by method gauge, alike by the
// real-valued ones; and the manifest follows its schema.
func TestFixtures(t *testing.T) {
	dirs, err := filepath.Glob("arch/testdata/*/model.safetensors")
	if err != nil || len(dirs) < 25 {
		t.Fatalf("fixtures: %d found, %v", len(dirs), err)
	}
	s := schema(t)
	ways := []LockOptions{
		{Profile: seal.Portable}, {Profile: seal.Strong}, {Profile: seal.Max},
		{Method: seal.Static}, {Method: seal.Dynamic},
		{Profile: seal.Strong, Signs: true}, {Profile: seal.Max, Signs: true},
	}
	for i, d := range dirs {
		src := filepath.Dir(d)
		t.Run(filepath.Base(src), func(t *testing.T) {
			t.Parallel()
			for j, o := range ways {
				if testing.Short() && (i+j)%len(ways) != 0 {
					continue
				}
				o.Source, o.Output = src, filepath.Join(t.TempDir(), "out")
				o.Key = keys.SealKey{byte(i), byte(j)}
				slot, err := keys.WrapPassphrase(o.Key, "open", 1)
				if err != nil {
					t.Fatal(err)
				}
				o.Slots = []keys.Slot{slot}
				fixture(t, s, o)
			}
		})
	}
}

func fixture(t *testing.T, s *jsonschema.Schema, o LockOptions) {
	ctx := context.Background()
	if _, err := Lock(ctx, o); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(o.Output, manifest.Name))
	if err != nil {
		t.Fatal(err)
	}
	validate(t, s, data)
	man, err := manifest.Parse(data)
	if err != nil || !bytes.Equal(man.Marshal(), data) {
		t.Errorf("manifest does not survive reading and writing: %v", err)
	}
	v, err := Verify(ctx, VerifyOptions{Sealed: o.Output, Against: o.Source, Run: true})
	if err != nil || !v.OK || !*v.DigestsOK {
		t.Fatalf("%+v, %v", v, err)
	}
	gauge := o.Method == ""
	if *v.BitExactAlgebra != gauge || gauge && !*v.BitExactForward {
		t.Errorf("method %q: %+v", o.Method, v)
	}
	if gauge && v.Forward[0].KL != 0 || v.Forward[0].KL > 1e-3 {
		t.Errorf("KL %g", v.Forward[0].KL)
	}
	back := filepath.Join(t.TempDir(), "back")
	u, err := Unlock(ctx, UnlockOptions{Source: o.Output, Output: back, Key: fixedKey(o.Key)})
	if err != nil || u.Exact != gauge {
		t.Fatalf("unlock: %+v, %v", u, err)
	}
	if gauge {
		sameFolder(t, o.Source, back)
	}
}

// TestFreeDimsAreTheNetworks: the free dimensions do not depend on how many
// tokens the graph reads, on whether all experts take part, or on names' order.
func TestFreeDimsAreTheNetworks(t *testing.T) {
	for _, name := range []string{"llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "mixtral", "qwen3_moe"} {
		want := -1
		for _, opt := range []arch.Options{{Tokens: 1}, {Tokens: 5}, {Tokens: 12}, {Tokens: 3, AllEx: true}} {
			m, err := openModel(filepath.Join("arch/testdata", name), opt)
			if err != nil {
				t.Fatal(err)
			}
			sol := solve(t, m)
			m.ck.Close()
			if want < 0 {
				want = sol.FreeDims
			}
			if sol.FreeDims != want {
				t.Errorf("%s with %+v: %d free dimensions, %d before", name, opt, sol.FreeDims, want)
			}
		}
	}
}

// TestReproducible: same input, key, options and time give the same bytes.
func TestReproducible(t *testing.T) {
	dir := t.TempDir()
	for _, out := range []string{"a", "b"} {
		o := LockOptions{Source: "arch/testdata/qwen3", Output: filepath.Join(dir, out), Profile: seal.Strong, Key: keys.SealKey{9}, Time: time.Unix(1e9, 0)}
		if _, err := Lock(context.Background(), o); err != nil {
			t.Fatal(err)
		}
	}
	sameFolder(t, filepath.Join(dir, "a"), filepath.Join(dir, "b"))
}

// TestNonFiniteWeights: NaN and infinities keep their bits in every profile and
// type, and verify can say what they do to the outputs, also in JSON.
func TestNonFiniteWeights(t *testing.T) {
	ctx := context.Background()
	first := func(string, int) int { return 0 }
	for _, d := range []dtype.DType{dtype.BF16, dtype.F16, dtype.F32} {
		c := drawTiny("llama", first)
		c.config["rms_norm_eps"] = 1e-5
		c.dtype, c.spice = d, spice{nan: true}
		src := filepath.Join(t.TempDir(), "src")
		c.write(t, src)
		for _, p := range []seal.Profile{seal.Portable, seal.Strong, seal.Max} {
			out, back := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "back")
			o := LockOptions{Source: src, Output: out, Profile: p, Key: keys.SealKey{1}}
			if _, err := Lock(ctx, o); err != nil {
				t.Fatalf("%v, %s: %v", d, p, err)
			}
			if n := nonFinite(t, src); n == 0 || n != nonFinite(t, out) {
				t.Errorf("%v, %s: %d non-finite weights, sealed %d", d, p, n, nonFinite(t, out))
			}
			v, err := Verify(ctx, VerifyOptions{Sealed: out, Against: src, Run: true})
			if err != nil || !*v.BitExactAlgebra || !*v.DigestsOK {
				t.Errorf("%v, %s: %+v, %v", d, p, v, err)
			}
			if _, err := json.Marshal(v); err != nil {
				t.Errorf("%v, %s: %v", d, p, err)
			}
			if _, err := Unlock(ctx, UnlockOptions{Source: out, Output: back, Key: fixedKey(o.Key)}); err != nil {
				t.Fatal(err)
			}
			sameFolder(t, src, back)
		}
	}
}

func nonFinite(t *testing.T, dir string) (n int64) {
	ck, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	err = ck.Each(context.Background(), 1, nil, func(x checkpoint.Tensor, _ int64, buf []byte) error {
		var s dtype.Stats
		s.Row(x.DType, buf)
		n += s.NonFinite
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestPortableGrowth: in growth form no matrix loses size, and in fp16 the
// sealed network stays finite.
func TestPortableGrowth(t *testing.T) {
	for _, name := range []string{"llama", "qwen3", "phi3", "mixtral", "mistral"} {
		src, out := filepath.Join("arch/testdata", name), filepath.Join(t.TempDir(), "out")
		if _, err := Lock(context.Background(), LockOptions{Source: src, Output: out, Key: keys.SealKey{5}}); err != nil {
			t.Fatal(err)
		}
		var sides [2]*model
		for i, p := range []string{src, out} {
			m, err := openModel(p, arch.Options{Tokens: 9})
			if err != nil {
				t.Fatal(err)
			}
			defer m.ck.Close()
			sides[i] = m
		}
		var stats [2]map[string]*dtype.Stats
		for i, m := range sides {
			found, err := m.scan(context.Background(), silent{})
			if err != nil {
				t.Fatal(err)
			}
			stats[i] = found.stats
		}
		a, b := stats[0], stats[1]
		grown := 0
		for _, n := range slices.Sorted(maps.Keys(a)) {
			x, _ := sides[0].ck.Tensor(n)
			if len(x.Shape) < 2 {
				continue
			}
			if b[n].Min < a[n].Min || b[n].SumSq < a[n].SumSq {
				t.Errorf("%s: %s shrinks", name, n)
			}
			if b[n].SumSq > a[n].SumSq {
				grown++
			}
		}
		if grown == 0 {
			t.Errorf("%s: nothing grows", name)
		}
		r, err := probe.Compare(context.Background(), sides[0].side(), sides[1].side(), probe.Options{Tokens: sides[0].tokens(), Precision: probe.FP16})
		if err != nil || !r.Finite {
			t.Errorf("%s in fp16: %+v, %v", name, r, err)
		}
	}
}

// TestSchemaHasTeeth: the schema refuses what a reader could not use.
func TestSchemaHasTeeth(t *testing.T) {
	s := schema(t)
	out := filepath.Join(t.TempDir(), "out")
	if _, err := Lock(context.Background(), LockOptions{Source: "arch/testdata/llama", Output: out}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(out, manifest.Name))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		edit func(m map[string]any)
	}{
		{"unknown key", func(m map[string]any) { m["exponents"] = []any{} }},
		{"no groups", func(m map[string]any) { delete(m, "groups") }},
		{"method", func(m map[string]any) { m["method"] = "magic" }},
		{"no profile", func(m map[string]any) { delete(m, "profile") }},
		{"no mac", func(m map[string]any) { delete(m, "mac") }},
		{"absolute path", func(m map[string]any) { m["files"].([]any)[0].(map[string]any)["path"] = "/etc/passwd" }},
		{"digest", func(m map[string]any) { m["files"].([]any)[0].(map[string]any)["sha256"] = "ABC" }},
		{"short segment", func(m map[string]any) {
			term := m["tensors"].([]any)[0].(map[string]any)["terms"].([]any)[0].(map[string]any)
			term["segments"] = []any{[]any{json.Number("0"), json.Number("1")}}
		}},
	} {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		c.edit(v.(map[string]any))
		if s.Validate(v) == nil {
			t.Errorf("%s: accepted", c.name)
		}
	}
}
