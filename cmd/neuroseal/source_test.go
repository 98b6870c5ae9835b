package main

import (
	"path"
	"slices"
	"testing"
)

// TestCompanions: what is downloaded with one file of a repository.
func TestCompanions(t *testing.T) {
	for file, want := range map[string]struct{ in, out []string }{
		"":           {nil, []string{"x"}},
		"a.gguf":     {[]string{"a.gguf.neuroseal.json", "neuroseal_config.json"}, []string{"b.gguf", "a.gguf_data"}},
		"sub/a.onnx": {[]string{"sub/a.onnx_data", "sub/a.onnx.data", "sub/neuroseal_config.json"}, []string{"a.onnx_data", "neuroseal_config.json"}},
		"q/m-00002-of-00003.gguf": {[]string{"q/m-00001-of-00003.gguf", "q/m-00003-of-00003.gguf"},
			[]string{"q/m-00001-of-00004.gguf", "q/n-00001-of-00003.gguf", "m-00001-of-00003.gguf"}},
	} {
		matches := func(name string) bool {
			return slices.ContainsFunc(companions(file), func(p string) bool { ok, err := path.Match(p, name); return ok && err == nil })
		}
		for _, name := range want.in {
			if !matches(name) {
				t.Errorf("%s without %s", file, name)
			}
		}
		for _, name := range want.out {
			if matches(name) {
				t.Errorf("%s with %s", file, name)
			}
		}
	}
}
