package hub

import (
	"context"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// TestLocate: a quantisation means the file that llama.cpp would load, or the
// first part of it; where it means none or several, they are listed.
func TestLocate(t *testing.T) {
	w := newWorld(t, nil)
	gguf := []byte("GGUF")
	w.AddRepo("ann/g", RepoPublic, map[string][]byte{
		"m-Q4_K_M.gguf": gguf, "m-Q4_K_S.gguf": gguf, "m.Q8_0.gguf": gguf, "BF16/m-BF16-00001-of-00002.gguf": gguf, "BF16/m-BF16-00002-of-00002.gguf": gguf,
		"mmproj-Q8_0.gguf": gguf, "imatrix.gguf": gguf, "a-IQ2.gguf": gguf, "b-IQ2.gguf": gguf, "README.md": []byte("Q4_0"),
	})
	w.AddRepo("ann/one", RepoPublic, map[string][]byte{"m-Q4_0.gguf": gguf, "mmproj-m-f16.gguf": gguf})
	w.AddRepo("ann/st", RepoPublic, model())
	ctx := context.Background()
	for quant, want := range map[string]string{"Q4_K_M": "m-Q4_K_M.gguf", "q4_k_s": "m-Q4_K_S.gguf", "Q8_0": "m.Q8_0.gguf", "BF16": "BF16/m-BF16-00001-of-00002.gguf", "": ""} {
		ref, err := w.c.Locate(ctx, Ref{ID: "ann/g", Quant: quant})
		if err != nil || ref.Path != want || ref.Quant != "" {
			t.Errorf("%s: %+v, %v", quant, ref, err)
		}
	}
	for _, c := range []struct {
		ref        Ref
		kind       fault.Kind
		text, hint string
	}{
		{Ref{ID: "ann/g", Quant: "Q4_K"}, fault.General, "no GGUF Q4_K: BF16/m-BF16-00001-of-00002.gguf (0.0 MiB), a-IQ2.gguf", "hf://ann/g/"},
		{Ref{ID: "ann/g", Quant: "IQ2"}, fault.General, "several GGUF IQ2: a-IQ2.gguf (0.0 MiB), b-IQ2.gguf (0.0 MiB)", "hf://ann/g/a-IQ2.gguf"},
		{Ref{ID: "ann/g", Quant: ".*"}, fault.General, "no GGUF .*", ""},
		{Ref{ID: "ann/st", Quant: "Q4_0"}, fault.Unsupported, "no GGUF", "ann/st"},
		{Ref{ID: "ann/none", Quant: "Q4_0"}, fault.General, "no model ann/none", ""},
	} {
		_, err := w.c.Locate(ctx, c.ref)
		if fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) || !strings.Contains(fault.HintOf(err), c.hint) {
			t.Errorf("%v: %v, hint %s", c.ref, err, fault.HintOf(err))
		}
	}
	for id, want := range map[string][2]string{
		"ann/g":   {"but 6 in GGUF: BF16/m-BF16-00001-of-00002.gguf", "ann/g:Q4_K_M"},
		"ann/one": {"but 1 in GGUF: m-Q4_0.gguf (0.0 MiB)", "name the file: hf://ann/one/m-Q4_0.gguf"},
	} {
		_, _, err := w.c.Look(ctx, Ref{ID: id}, ResolveOptions{})
		if fault.KindOf(err) != fault.Unsupported || !strings.Contains(err.Error(), want[0]) || !strings.Contains(fault.HintOf(err), want[1]) {
			t.Errorf("%s: %v, hint %s", id, err, fault.HintOf(err))
		}
	}
}
