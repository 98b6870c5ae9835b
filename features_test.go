package neuroseal

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/neuroseal/neuroseal/seal"
)

// TestFeaturesStay: what CLIP and SigLIP return before they divide it by its
// length does not move, unless it is asked for by name.
func TestFeaturesStay(t *testing.T) {
	for _, c := range []struct {
		fixture string
		include []string
		still   []string // their factors are 1
		moves   []string
	}{
		{"clip", nil, []string{"ffn:text_projection", "ffn:visual_projection"}, nil},
		{"clip", []string{"ffn", "norm"}, []string{"ffn:text_projection", "ffn:visual_projection"}, nil},
		{"clip", []string{"*:text_projection"}, []string{"ffn:visual_projection"}, []string{"ffn:text_projection"}},
		{"siglip", nil, []string{"ffn:text_model.head"}, nil},
	} {
		o := LockOptions{Source: filepath.Join("arch/testdata", c.fixture), DryRun: true, Profile: seal.Max, Signs: true, Include: c.include}
		res, err := Lock(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		fixed := map[string]bool{}
		plan, err := seal.Decode(res.Manifest)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range plan.Groups {
			fixed[g.ID] = g.Fixed()
		}
		for _, id := range c.still {
			if f, ok := fixed[id]; !ok || !f {
				t.Errorf("%s %v: %s: %v, %v", c.fixture, c.include, id, f, ok)
			}
		}
		for _, id := range c.moves {
			if f, ok := fixed[id]; !ok || f {
				t.Errorf("%s %v: %s: %v, %v", c.fixture, c.include, id, f, ok)
			}
		}
	}
}
