package trace_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
	"github.com/neuroseal/neuroseal/trace"
	"github.com/neuroseal/neuroseal/trace/tracetest"
)

const demo = "../internal/demo/model"

// sealedCopy is a model's copy for one of many partners, all of whom are
// registered.
type sealedCopy struct {
	dir      string
	registry *trace.Registry
}

const leaker = 7

func label(i int) string { return fmt.Sprint("partner ", i) }

func keyOf(i int) keys.SealKey { return keys.SealKey{byte(i), 1, 2, 3} }

// lock seals a model for the leaker and registers so many others.
func lock(t *testing.T, model string, o neuroseal.LockOptions, partners int) sealedCopy {
	t.Helper()
	work := t.TempDir()
	o.Source, o.Output, o.Key, o.NoCard = model, filepath.Join(work, "copy"), keyOf(leaker), true
	res, err := neuroseal.Lock(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := trace.OpenRegistry(filepath.Join(work, "registry"), true)
	if err != nil {
		t.Fatal(err)
	}
	for i := range partners {
		m := *res.Manifest // entries differ in their keys only
		m.SealID = fmt.Sprintf("%016x", i)
		m.Sign(keyOf(i))
		if _, err := r.Add(label(i), keyOf(i), nil, &m, time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	return sealedCopy{o.Output, r}
}

func (c sealedCopy) trace(t *testing.T, leaked, original string) *trace.Result {
	t.Helper()
	r, err := trace.Trace(context.Background(), trace.Options{Leaked: leaked, Original: original, Registry: c.registry})
	if err != nil {
		t.Fatal(err, fault.HintOf(err))
	}
	return r
}

// names demands that the leaker and nobody else is named.
func (c sealedCopy) names(t *testing.T, what, leaked string, originals ...string) {
	t.Helper()
	for _, original := range originals {
		r := c.trace(t, leaked, original)
		if r.Verdict != trace.Found || len(r.Matches) != 1 || r.Matches[0].Label != label(leaker) {
			t.Errorf("%s, original %q: %s, %+v, next %+v", what, original, r.Verdict, r.Matches, r.Next)
		} else if m := r.Matches[0]; m.P > trace.DefaultAlpha || r.Next.P < 1 {
			t.Errorf("%s, original %q: %+v, next %+v", what, original, m, r.Next)
		}
	}
}

func (c sealedCopy) namesNobody(t *testing.T, what, leaked string, originals ...string) {
	t.Helper()
	for _, original := range originals {
		if r := c.trace(t, leaked, original); r.Verdict != trace.None || len(r.Matches) != 0 || r.Next.P < 1 {
			t.Errorf("%s, original %q: %s, %+v, next %+v", what, original, r.Verdict, r.Matches, r.Next)
		}
	}
}

// noise adds what a fine-tuning might: a share of each matrix's typical size.
func noise(m *tracetest.Model, share float64) {
	random := rand.New(rand.NewPCG(1, 1))
	for _, x := range m.Tensors {
		for i, v := range x.Data {
			x.Data[i] = v * float32(1+share*random.NormFloat64())
		}
	}
}

// TestChanged: the right one of 100 is named after what others do to a copy.
func TestChanged(t *testing.T) {
	for p, partners := range map[seal.Profile]int{seal.Portable: 100, seal.Max: 2 + leaker} {
		t.Run(string(p), func(t *testing.T) {
			c := lock(t, demo, neuroseal.LockOptions{Profile: p}, partners)
			c.names(t, "as it was", c.dir, "", demo)
			change := func(what string, f func(m *tracetest.Model), write func(m *tracetest.Model, dir string) error) {
				t.Helper()
				m, err := tracetest.Load(c.dir)
				if err != nil {
					t.Fatal(err)
				}
				f(m)
				dir := filepath.Join(t.TempDir(), "changed")
				if err := write(m, dir); err != nil {
					t.Fatal(err)
				}
				c.names(t, what, dir, "")
			}
			plain := (*tracetest.Model).Write
			change("fp16, noise", func(m *tracetest.Model) { noise(m, 0.5); m.As(dtype.F16) }, plain)
			change("pruned", func(m *tracetest.Model) { m.Prune(0.3, true, 0) }, plain)
			change("NF4, noise, pruned", func(m *tracetest.Model) { noise(m, 0.3); m.Prune(0.3, false, 1) }, (*tracetest.Model).WriteNF4)
			c.namesNobody(t, "the original", demo, "", demo)
			undone := filepath.Join(t.TempDir(), "undone")
			if _, err := neuroseal.Undo(context.Background(), neuroseal.UndoOptions{Source: c.dir, Output: undone}); err != nil {
				t.Fatal(err)
			}
			c.namesNobody(t, "undone", undone, demo)
		})
	}
}

// TestPermuted: elements that changed places are looked for where the key says.
func TestPermuted(t *testing.T) {
	for _, m := range []string{demo, "../arch/testdata/mixtral"} {
		c := lock(t, m, neuroseal.LockOptions{Profile: seal.Max, Permute: true, Signs: true}, 1+leaker)
		c.names(t, m, c.dir, "", m)
		c.namesNobody(t, m, m, "", m)
	}
}

// TestFamilies: whatever a plan looks like, its copy is told.
func TestFamilies(t *testing.T) {
	for _, f := range []string{"gpt2", "deepseek_v2", "gemma2", "gpt_oss", "mamba", "phi3"} {
		dir := filepath.Join("..", "arch", "testdata", f)
		if _, err := os.Stat(dir); err != nil {
			t.Fatal(err)
		}
		c := lock(t, dir, neuroseal.LockOptions{Profile: seal.Strong}, 1+leaker)
		c.names(t, f, c.dir, dir)
		if r := c.trace(t, dir, dir); len(r.Matches) > 0 {
			t.Errorf("%s: the original is taken for the copy of %+v", f, r.Matches)
		}
	}
}

// TestConverted: copies of every family that GGUF has are told after they were
// converted, with the converter's names, orders and layouts, and nothing else is.
func TestConverted(t *testing.T) {
	files, err := filepath.Glob("../arch/testdata/gguf/*.gguf")
	if err != nil || len(files) < 25 {
		t.Fatalf("%d fixtures, %v", len(files), err)
	}
	// Some fixtures are too small for the usual certainty.
	few := map[string]bool{"llama-mqa": true, "falcon7b": true, "falcon40b": true, "gemma3": true, "olmo2": true, "starcoder2": true}
	for i, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".gguf")
		if strings.Contains(name, "-rope-") {
			continue // the same weights
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub := filepath.Join("..", "arch", "testdata", name)
			c := lock(t, hub, neuroseal.LockOptions{Profile: seal.Strong}, 2+leaker)
			m, err := tracetest.Load(c.dir)
			if err != nil {
				t.Fatal(err)
			}
			leaked := filepath.Join(t.TempDir(), "leaked.gguf")
			left, err := m.WriteGGUF(file, leaked)
			if err != nil || 2*left > len(m.Tensors) {
				t.Fatalf("%d of %d weights are stored otherwise, %v", left, len(m.Tensors), err)
			}
			o := trace.Options{Leaked: leaked, Original: hub, Registry: c.registry}
			if few[name] {
				o.Alpha = 0.05
			}
			r, err := trace.Trace(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Matches) != 1 || r.Matches[0].Label != label(leaker) || r.Matches[0].Agreeing != r.Matches[0].Classes {
				t.Errorf("%s: %+v, next %+v", r.Verdict, r.Matches, r.Next)
			}
			if r := c.trace(t, file, hub); len(r.Matches) > 0 {
				t.Errorf("the original is taken for the copy of %+v", r.Matches)
			}
			other := files[(i+len(files)/2)%len(files)]
			r, err = trace.Trace(context.Background(), trace.Options{Leaked: other, Registry: c.registry})
			if err == nil && len(r.Matches) > 0 || err != nil && fault.KindOf(err) != fault.Unsupported {
				t.Errorf("%s: %+v, %v", other, r, err)
			}
		})
	}
}

// TestFewFactors: what cannot be told is not guessed.
func TestFewFactors(t *testing.T) {
	c := lock(t, demo, neuroseal.LockOptions{Profile: seal.Portable, Include: []string{"vo"}}, 100)
	r := c.trace(t, c.dir, demo)
	if r.Verdict != trace.Impossible || len(r.Matches) != 0 || r.AtBest < 1e-4 {
		t.Errorf("%+v", r)
	}
}

// TestNotNumbers: a model that a training has destroyed.
func TestNotNumbers(t *testing.T) {
	c := lock(t, demo, neuroseal.LockOptions{Profile: seal.Portable}, 3)
	m, err := tracetest.Load(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range m.Tensors {
		for i := range x.Data {
			x.Data[i] = float32(i%2) * float32(math.NaN())
		}
	}
	dir := filepath.Join(t.TempDir(), "lost")
	if err := m.Write(dir); err != nil {
		t.Fatal(err)
	}
	if r := c.trace(t, dir, demo); r.Verdict != trace.Impossible || r.AtBest != 1 {
		t.Errorf("%+v", r)
	}
}

// TestQ4K reads a GGUF with llama.cpp's names and order of rotary pairs.
func TestQ4K(t *testing.T) {
	wide := filepath.Join(t.TempDir(), "wide")
	if err := tracetest.RandomLlama(wide); err != nil {
		t.Fatal(err)
	}
	for _, p := range []seal.Profile{seal.Portable} {
		c := lock(t, wide, neuroseal.LockOptions{Profile: p}, 100)
		m, err := tracetest.Load(c.dir)
		if err != nil {
			t.Fatal(err)
		}
		noise(m, 0.2)
		file := filepath.Join(t.TempDir(), "leaked.gguf")
		if err := m.WriteQ4K(file); err != nil {
			t.Fatal(err)
		}
		c.names(t, "Q4_K", file, "", wide)
		// Without the order of the pairs, queries and keys would tell nothing.
		r := c.trace(t, file, wide)
		if m := r.Matches[0]; m.Agreeing < m.Classes*9/10 {
			t.Errorf("profile %s: %d of %d agree", p, m.Agreeing, m.Classes)
		}
	}
}

// TestRegisterFirst: an entry is there before its copy is, and its error leaves
// no copy.
func TestRegisterFirst(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "copy")
	refused := errors.New("refused")
	for _, want := range []error{refused, nil} {
		called := 0
		_, err := neuroseal.Lock(context.Background(), neuroseal.LockOptions{
			Source: demo, Output: dst, Key: keyOf(1), NoCard: true,
			Register: func(m *manifest.Manifest) error {
				called++
				if _, err := os.Stat(dst); err == nil || m.SealID == "" || m.Verify(keyOf(1)) != nil {
					t.Errorf("registered too late, or incomplete: %v, %q", err, m.SealID)
				}
				return want
			},
		})
		_, serr := os.Stat(dst)
		if !errors.Is(err, want) || called != 1 || (serr == nil) != (want == nil) {
			t.Errorf("%v, %d calls, %v", err, called, serr)
		}
	}
}

// BenchmarkTrace compares a trace with reading the checkpoint.
func BenchmarkTrace(b *testing.B) {
	work := b.TempDir()
	dst := filepath.Join(work, "copy")
	res, err := neuroseal.Lock(context.Background(), neuroseal.LockOptions{Source: demo, Output: dst, Key: keyOf(leaker), NoCard: true})
	if err != nil {
		b.Fatal(err)
	}
	r, _, err := trace.OpenRegistry(filepath.Join(work, "registry"), true)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := r.Add("a", keyOf(leaker), nil, res.Manifest, time.Unix(0, 0)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := trace.Trace(context.Background(), trace.Options{Leaked: dst, Registry: r}); err != nil {
			b.Fatal(err)
		}
	}
}
