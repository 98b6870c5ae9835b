package train

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	neuroseal "github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/seal"
)

// TestGaugeInvariance says exactly which training a seal cannot touch. What
// multiplies activations (IA3) learns on a sealed model what it learns on the
// original. Virtual tokens live in the residual stream: they do so too while a
// seal leaves the stream's scale alone, and with the residual gauge 2ⁿ only if
// the learning rate is multiplied, and Adam's eps divided, by 2ⁿ. LoRA, which adds
// to weights, does not.
func TestGaugeInvariance(t *testing.T) {
	whole, n := lockDemo(t)
	still, none := lockDemo(t, "residual")
	if n < 1 || none != 0 {
		t.Fatalf("residual gauges 2^%g and 2^%g", n, none)
	}
	ia3 := Trainable{Kind: IA3, Modules: ia3Modules, FeedForward: []string{"down_proj"}}
	ia3All := Trainable{Kind: IA3, Modules: []string{AllLinear}}
	prompt := Trainable{Kind: SoftPrompt, Virtual: 6}
	lora := Trainable{Kind: LoRA, Modules: someModules, Rank: 8, Alpha: 16}
	plain := func(lr float64) TrainOptions { return TrainOptions{LR: lr} }
	scaled := TrainOptions{LR: 3e-2 * math.Exp2(n), Optimizer: Optimizer{Eps: 1e-8 * math.Exp2(-n)}}
	for _, c := range []struct {
		name      string
		dir       string
		what      Trainable
		how       TrainOptions
		sealed    TrainOptions
		invariant bool
	}{
		{"ia3", whole, ia3, plain(1e-2), plain(1e-2), true},
		{"ia3 on all linear", whole, ia3All, plain(1e-2), plain(1e-2), true},
		{"soft prompt, no residual gauge", still, prompt, plain(3e-2), plain(3e-2), true},
		{"soft prompt, residual gauge", whole, prompt, plain(3e-2), plain(3e-2), false},
		{"soft prompt, residual gauge, rate scaled", whole, prompt, plain(3e-2), scaled, true},
		{"lora", whole, lora, plain(2e-3), plain(2e-3), false},
		{"lora, no residual gauge", still, lora, plain(2e-3), plain(2e-3), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			const steps = 8
			o := Options{Trainable: c.what, Workers: 2}
			a, b := curve(t, demoModel, steps, o, c.how), curve(t, c.dir, steps, o, c.sealed)
			if d := math.Abs(a[0]-b[0]) / a[0]; !(d <= 1e-6) {
				t.Fatalf("the seal changes the function: loss %v, sealed %v", a[0], b[0])
			}
			worst := 0.0
			for i := range a {
				if d := math.Abs(a[i]-b[i]) / a[i]; !(d <= worst) {
					worst = d
				}
			}
			t.Logf("largest relative difference %.2g; last loss %.4f, sealed %.4f", worst, a[steps-1], b[steps-1])
			if (worst < 1e-5) != c.invariant {
				t.Errorf("trajectories differ by %.2g: invariant should be %v", worst, c.invariant)
			}
		})
	}
}

// lockDemo seals the demo model and returns the residual gauge's exponent.
func lockDemo(t *testing.T, exclude ...string) (dir string, n float64) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "sealed")
	if _, err := neuroseal.Lock(context.Background(), neuroseal.LockOptions{
		Source: demoModel, Output: dir, Method: seal.Gauge, Profile: seal.Strong, Exclude: exclude, Key: keys.SealKey{1, 2, 3},
	}); err != nil {
		t.Fatal(err)
	}
	return dir, math.Log2(epsilon(t, dir)/epsilon(t, demoModel)) / 2
}

func epsilon(t *testing.T, dir string) float64 {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Eps float64 `json:"rms_norm_eps"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	return c.Eps
}
