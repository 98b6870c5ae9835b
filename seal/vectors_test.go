package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"testing"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/keys"
)

var update = flag.Bool("update", false, "rewrite ../testkit/seal.json")

const vectorFile = "../testkit/seal.json"

// The published vectors of "Exponents of a group" in spec/derivation.md.
type (
	sealVectors struct {
		Spec  string       `json:"spec"`
		Seals []sealVector `json:"seals"`
	}
	sealVector struct {
		SealKey string          `json:"seal_key"` // hex
		Groups  []groupVector   `json:"groups"`
		Dynamic []dynamicVector `json:"dynamic"`
		Permute []permuteVector `json:"permute"`
	}
	groupVector struct {
		ID        string    `json:"id"`
		Classes   int       `json:"classes"`
		Offsets   []int     `json:"offsets"`
		Lo        int       `json:"lo"`
		Hi        int       `json:"hi"`
		Outliers  *Outliers `json:"outliers,omitempty"`
		Draw      int       `json:"draw,omitempty"`
		Exponents []int16   `json:"exponents"`
		Negative  []int     `json:"negative,omitempty"` // classes, of a group with signs
	}
	permuteVector struct {
		ID    string  `json:"id"`
		Count int     `json:"count"`
		Order []int32 `json:"order"` // where the unit in each place comes from
	}
	dynamicVector struct {
		Layer  int     `json:"layer"`
		Scale  float64 `json:"scale"`
		Factor float64 `json:"factor"`
	}
)

func vectors() sealVectors {
	out := sealVectors{Spec: "spec/derivation.md"}
	for _, key := range []keys.SealKey{{}, sha256.Sum256([]byte("neuroseal 1"))} {
		v := sealVector{SealKey: hex.EncodeToString(key[:])}
		for _, g := range []Group{
			{ID: "residual", Classes: 1, Offsets: []int{40}},
			{ID: "vo:model.layers.0.self_attn.v_proj", Classes: 8, Offsets: []int{50}, Lo: -8, Hi: 8},
			{ID: "norm:model.layers.0.input_layernorm", Classes: 16, Offsets: []int{-30, 30}, Lo: -8, Hi: 8},
			{ID: "ffn:model.layers.31.mlp.up_proj", Classes: 40, Offsets: []int{0}, Lo: -6, Hi: 6},
			{ID: "qk:größe/层", Classes: 5, Offsets: []int{-3, 0, 7}, Lo: 0, Hi: 0},
			{ID: "wide", Classes: 6, Offsets: []int{0}, Lo: -2000, Hi: 2000},
			{ID: "norm:outliers", Classes: 12, Offsets: []int{0}, Lo: -4, Hi: 4, Outliers: Outliers{Count: 2, Low: -38, High: 38}},
			{ID: "all outliers", Classes: 2, Offsets: []int{7}, Outliers: Outliers{Count: 1, Low: -1, High: 1}},
			{ID: "qk:größe/层#signs", Classes: 24, Offsets: []int{0}, Lo: -2, Hi: 2, Signs: true},
			{ID: "qk:größe/层#signs", Classes: 5, Offsets: []int{-3, 0, 7}, Lo: -1, Hi: 1, Signs: true, Draw: 12},
			{ID: "empty", Classes: 0, Offsets: []int{0}, Lo: -1, Hi: 1},
		} {
			gv := groupVector{g.ID, g.Classes, g.Offsets, g.Lo, g.Hi, nil, g.Draw, g.exponents(key), nil}
			if g.Signs {
				for c, neg := range g.signs(key) {
					if neg {
						gv.Negative = append(gv.Negative, c)
					}
				}
			}
			if g.Outliers.Count > 0 {
				gv.Outliers = &g.Outliers
			}
			v.Groups = append(v.Groups, gv)
		}
		for _, p := range []gauge.Permutation{{ID: "permute:model.layers.0.mlp.gate_proj#0.0.0", Count: 20}, {ID: "permute:größe", Count: 1}} {
			v.Permute = append(v.Permute, permuteVector{p.ID, p.Count, shuffle(p, key)})
		}
		for _, layer := range []int{0, 1, 31} {
			f := RealFactors([]gauge.Group{{Kind: gauge.VO, Layer: layer}}, Dynamic, 100, key)
			v.Dynamic = append(v.Dynamic, dynamicVector{layer, 100, float64(f[0])})
		}
		out.Seals = append(out.Seals, v)
	}
	return out
}

// TestVectors: the published vectors are what this package computes.
func TestVectors(t *testing.T) {
	got, err := json.MarshalIndent(vectors(), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(vectorFile, got, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; a change to any exponent needs a new version of the derivation", vectorFile)
	}
}

// TestVectorsElsewhere: the independent implementation agrees.
func TestVectorsElsewhere(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	if out, err := exec.Command(python, "../testkit/derivation.py", "../testkit/derivation.json", vectorFile).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
