package neuroseal

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

func solve(t testing.TB, m *model) *gauge.Solution {
	t.Helper()
	sol, err := gauge.Solve(m.net.Graph)
	if err != nil {
		t.Fatal(err)
	}
	return sol
}

// hostile returns a manifest around some groups and tensors.
func hostile(groups, tensors string) []byte {
	return []byte(`{"sealed":true,"method":"gauge","schema":1,"files":[],"groups":[` + groups + `],"tensors":[` + tensors + `]}`)
}

// FuzzPlan: whatever a manifest says, decoding it neither panics nor takes
// memory out of proportion, and a plan that is accepted can be applied.
func FuzzPlan(f *testing.F) {
	g := `{"id":"a","kind":"ffn","classes":4,"offsets":[0,3],"lo":-2,"hi":2}`
	f.Add(hostile(g, `{"name":"w","shape":[4,3],"terms":[{"axes":[0],"segments":[[0,4,0,0,1,1]]},{"axes":[1],"segments":[[0,3,0,0,2,-1]]}]}`))
	f.Add(hostile(g, `{"name":"w","shape":[2,3],"terms":[{"axes":[1],"segments":[[0,3,0,0,1,1]]},{"axes":[0,1],"segments":[[0,6,0,0,2,1]]}]}`))
	f.Add(hostile(g, `{"name":"w","shape":[2,3],"terms":[{"axes":[],"segments":[[0,1,0,0,1,8]]}]}`))
	f.Add(hostile(g, `{"name":"w","shape":[4294967296,4294967296],"terms":[{"axes":[0,1],"segments":[[0,9223372036854775807,0,0,1,1]]}]}`))
	f.Add(hostile(g, `{"name":"w","shape":[2],"terms":[{"axes":[-1],"segments":[[-1,1,9,-9,0,99]]}]}`))
	f.Add(hostile(`{"id":"a","classes":9223372036854775807,"offsets":[0]},{"id":"b","classes":9223372036854775807,"offsets":[0]}`, ``))
	f.Add(hostile(`{"id":"a","classes":268435456,"offsets":[9999999],"lo":-9223372036854775808,"hi":9223372036854775807}`, ``))
	f.Add(hostile(`{"id":"a","classes":1,"offsets":[0]},{"id":"b","classes":9223372036854775807,"offsets":[0]}`, ``))
	f.Add(hostile(`{"id":"a","classes":1,"offsets":[]}`, ``))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := manifest.Parse(data)
		if err != nil {
			return
		}
		p, err := seal.Decode(m)
		if err != nil {
			return
		}
		classes := 0
		for _, g := range p.Groups {
			classes += g.Classes
		}
		if classes > 1<<12 {
			return // drawn only after the MAC has been checked
		}
		e := p.Exponents([32]byte{1})
		for g := range e {
			lo, hi := p.Groups[g].Span()
			for _, x := range e[g] {
				if int(x) < lo || int(x) > hi {
					t.Fatalf("exponent %d outside %d to %d", x, lo, hi)
				}
			}
		}
		real := seal.RealFactors(planGroups(p), seal.Static, 4, [32]byte{})
		for i := range p.Tensors {
			x := &p.Tensors[i]
			n := 1
			for _, d := range x.Shape {
				if n *= d; d > 1<<10 || n > 1<<12 {
					n = 0
					break
				}
			}
			if n == 0 {
				continue
			}
			if s := seal.NewScaler(x, dtype.F64, e, 1); s != nil {
				_ = s.Edit(0, make([]byte, 8*n))
			}
			if s := seal.NewRealScaler(x, dtype.F64, real, false); s != nil {
				_ = s.Edit(0, make([]byte, 8*n))
			}
		}
	})
}

// FuzzTopLevel: the byte ranges of a config's values are exactly the values.
func FuzzTopLevel(f *testing.F) {
	f.Add([]byte(`{"rms_norm_eps": 1e-05, "b": [1, {"rms_norm_eps": 2}], "c":"x\u0041" }`))
	f.Add([]byte("{\"a\"\t:\r\n -0.5E+3 ,\"a\":null}"))
	f.Add([]byte(`{"a":1}x`))
	f.Fuzz(func(t *testing.T, data []byte) {
		last := 0
		err := topLevel(data, func(key string, start, end int) error {
			if start < last || end <= start || end > len(data) {
				t.Fatalf("range %d to %d after %d of %d", start, end, last, len(data))
			}
			last = end
			if v := data[start:end]; !json.Valid(v) || len(bytes.TrimSpace(v)) != len(v) {
				t.Fatalf("%q is not a value", v)
			}
			return nil
		})
		if err != nil && json.Valid(data) && len(bytes.TrimSpace(data)) > 0 && bytes.TrimSpace(data)[0] == '{' {
			t.Fatalf("an object is refused: %v", err)
		}
	})
}

// FuzzPatch: a patched config says what it should, and reverts to the byte.
func FuzzPatch(f *testing.F) {
	conf, err := os.ReadFile("arch/testdata/llama/config.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(conf, 40)
	f.Add([]byte(`{"rms_norm_eps":1e-6,"x":0,"rms_norm_eps":1e-6}`), -3)
	f.Add([]byte(`{"rms_norm_eps":"1e-6"}`), 2)
	f.Add([]byte(`{"rms_norm_eps":1e308}`), 1)
	f.Add([]byte(`{"rms_norm_eps":0}`), 1)
	f.Fuzz(func(t *testing.T, conf []byte, n int) {
		n %= 200
		out, patches, err := patchEpsilons(conf, []gauge.EpsMove{{Key: "rms_norm_eps", Coef: 1}}, n)
		if err != nil {
			return
		}
		m := &manifest.Manifest{Patches: patches}
		back, ok := m.Revert("config.json", out)
		if !ok || !bytes.Equal(back, conf) {
			t.Fatalf("%q becomes %q and reverts to %q", conf, out, back)
		}
		if len(patches) == 0 && !bytes.Equal(out, conf) {
			t.Fatal("changed without a patch")
		}
		if json.Valid(conf) && !json.Valid(out) {
			t.Fatalf("%q is no JSON any more: %q", conf, out)
		}
	})
}
