package arch

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/gguf"
)

// ggufKeys reads a GGUF file's metadata and remembers which keys of the
// architecture were read, as config does for a config.json.
type ggufKeys struct {
	f    *gguf.File
	arch string
	used map[string]bool
	errs []string
}

func (k *ggufKeys) failf(format string, args ...any) {
	k.errs = append(k.errs, fmt.Sprintf(format, args...))
}

// number reads a number; a list must have the same one throughout.
func (k *ggufKeys) number(key string, def float64) float64 {
	key = k.arch + "." + key
	k.used[key] = true
	kv, ok := k.f.Get(key)
	if !ok {
		return def
	}
	if kv.Type != gguf.Array {
		v, ok := k.f.Number(key)
		if !ok || math.IsNaN(v) || math.IsInf(v, 0) {
			k.failf("metadata key %s is no number", key)
			return def
		}
		return v
	}
	var first any
	err := k.f.Elements(kv, func(i uint64, v any) error {
		if i > 0 && v != first {
			return fmt.Errorf("metadata key %s differs from layer to layer", key)
		}
		first = v
		return nil
	})
	v, ok := decimal(first)
	if err != nil || !ok {
		k.failf("metadata key %s: layers of different sizes are not supported", key)
		return def
	}
	return v
}

// decimal is a metadata value as a number.
func decimal(v any) (float64, bool) {
	switch x := v.(type) {
	case uint32:
		return float64(x), true
	case int32:
		return float64(x), true
	case uint64:
		return float64(x), true
	case int64:
		return float64(x), true
	case float32:
		return float64(x), true
	}
	return 0, false
}

// count reads a size.
func (k *ggufKeys) count(key string, def int) int {
	v := k.number(key, float64(def))
	if v < 0 || v > dimLimit || v != math.Trunc(v) {
		k.failf("metadata key %s.%s is %v; it must be between 0 and %d", k.arch, key, v, dimLimit)
		return def
	}
	return int(v)
}

// size is count of what every file of the architecture has.
func (k *ggufKeys) size(key string) int {
	if !k.has(key) {
		k.failf("metadata key %s.%s is missing", k.arch, key)
	}
	n := k.count(key, 1)
	if n < 1 {
		k.failf("metadata key %s.%s is 0", k.arch, key)
		return 1
	}
	return n
}

func (k *ggufKeys) has(key string) bool {
	_, ok := k.f.Get(k.arch + "." + key)
	return ok
}

func (k *ggufKeys) boolean(key string, def bool) bool {
	d := 0.0
	if def {
		d = 1
	}
	return k.number(key, d) != 0
}

func (k *ggufKeys) text(key, def string) string {
	key = k.arch + "." + key
	k.used[key] = true
	kv, ok := k.f.Get(key)
	if !ok {
		return def
	}
	s, ok := kv.Value.(string)
	if !ok {
		k.failf("metadata key %s is no text", key)
	}
	return s
}

// ignore passes keys that do not change the function.
func (k *ggufKeys) ignore(keys ...string) {
	for _, key := range keys {
		k.used[k.arch+"."+key] = true
	}
}

// floats reads a tensor's worth of numbers beside the metadata; nil when the
// model has no such tensor.
func (g *ggufModel) floats(name string) []float64 {
	t, ok := g.m.Tensor(name)
	if !ok {
		return nil
	}
	g.views.kept = append(g.views.kept, name)
	x, err := g.m.Floats(t.Name)
	if err != nil {
		g.failf("%v", err)
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

// namespaces are beginnings of keys that do not change the function.
var namespaces = []string{"general.", "tokenizer.", "split.", "quantize.", "imatrix.", "neuroseal."}

// unknown returns the keys that nobody read.
func (k *ggufKeys) unknown() []string {
	var out []string
	for _, kv := range k.f.Metadata {
		inert := slices.ContainsFunc(namespaces, func(p string) bool { return strings.HasPrefix(kv.Key, p) })
		if !inert && !k.used[kv.Key] {
			out = append(out, kv.Key)
		}
	}
	return out
}
