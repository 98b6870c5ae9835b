package report

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/neuroseal/neuroseal/arena"
)

// sampleRecipe is an invented attack: the loss that it reaches on the unsealed
// model, its best rate, and what a seal makes of it.
type sampleRecipe struct {
	name  string
	class arena.Class
	about string
	low   float64 // of the unsealed model
	rate  float64 // log10 of the best
	fate  string  // nothing, collapse, explode, part, all, notrun
	part  float64 // learned, where fate is part
}

var sampleRecipes = []sampleRecipe{
	{"seed-lora", "A", "the original tool's proof; LoRA r=16 on v, o, up, down, AdamW at 2e-4, 30 steps, one seed", 4.47, -3.7, "nothing", 0},
	{"lora-voud", "A", "LoRA r=16 on v, o, up, down", 2.83, -2.3, "nothing", 0},
	{"lora-all", "A", "LoRA r=16 on all linear layers", 2.70, -2.3, "collapse", 0},
	{"lora-qkg", "A", "LoRA r=16 on q, k, gate, which pair seals of v/o and up/down leave open", 3.55, -2, "nothing", 0},
	{"lora-all-noclip", "A", "LoRA r=16 on all linear layers, gradients not clipped", 2.68, -2.3, "part", 0.021},
	{"lora-all-lamb", "A", "LoRA r=16 on all linear layers with LAMB, trust ratio per row, not clipped", 2.75, -1.6, "part", 0.38},
	{"rslora-all", "A", "rank-stabilised LoRA r=16 on all linear layers", 2.69, -2.5, "collapse", 0},
	{"dora-all", "A", "DoRA r=16 on all linear layers", 3.17, -3, "explode", 0},
	{"qlora-all", "A", "QLoRA; NF4 base with double quantisation, LoRA r=16 on all linear layers", 2.74, -2.3, "collapse", 0},
	{"norms-adamw", "A", "norm gains only", 4.13, -2, "explode", 0},
	{"embeddings-adamw", "A", "token embedding only (with the head where they are tied)", 4.23, -1, "nothing", 0},
	{"head-adamw", "A", "output head only", 3.31, -2, "nothing", 0},
	{"full-adamw", "A", "full fine-tuning, AdamW", 2.03, -3, "nothing", 0},
	{"full-sgd", "A", "full fine-tuning, SGD", 2.06, -1, "explode", 0},
	{"full-lion", "A", "full fine-tuning, Lion", 2.11, -4, "explode", 0},
	{"full-adafactor", "A", "full fine-tuning, Adafactor with parameter scaling", 2.12, -2, "explode", 0},
	{"full-muon", "A", "full fine-tuning, Muon on hidden matrices, AdamW on the rest", 1.93, -2, "part", 0.04},
	{"full-lamb", "A", "full fine-tuning, LAMB with a trust ratio for every row", 1.93, -2, "part", 0.62},
	{"transplant", "A", "LoRA trained on the public base, added to the sealed weights", 2.9, -2, "notrun", 0},
	{"ia3", "B", "IA3 on k, v and down", 3.77, -1, "all", 0},
	{"ia3-all", "B", "IA3 on all linear layers", 3.52, -1, "all", 0},
	{"soft-prompt", "B", "prompt tuning, 20 virtual tokens", 5.27, 8, "all", 0},
	{"residual-adapters", "B", "bottleneck adapters after attention output and down projection", 2.95, -2, "all", 0},
	{"undo-lora-all", "C", "neuroseal undo, then LoRA r=16 on all linear layers", 2.70, -2.3, "all", 0},
	{"undo-full-adamw", "C", "neuroseal undo, then full fine-tuning with AdamW", 2.03, -3, "all", 0},
	{"equalise-full-adamw", "C", "cross-layer equalisation of every pair, then AdamW", 2.03, -3, "all", 0},
	{"smoothquant-full-adamw", "C", "SmoothQuant with a few sentences for calibration, then AdamW", 2.03, -3, "part", 0.71},
	{"align-full-adamw", "C", "aligned with the public base by least squares and matching, then AdamW", 2.03, -3, "notrun", 0},
}

const (
	sampleStart, sampleUniform, sampleUnigram = 7.6321, 5.5452, 3.6304
	sampleSteps                               = 150
)

// sample invents a run: its sweeps, its curves and its summary.
func sample(recipes []sampleRecipe, seal string, seeds int) Input {
	s := &arena.Summary{
		Date: "2026-11-23T10:20:30Z", TableVersion: "2026-11-23", Suite: "full", Engine: "embedded", ToolVersion: "neuroseal 3.0.0",
		Sealed: arena.Model{Name: "shakespeare-llama", Digest: "sha256:1f0c7e1b52a60c0b4c1d", Seal: seal, Params: 1_017_984, Family: "llama",
			Holes: 2, Promise: "bit-exact in bf16 and fp32; fp16 is not promised"},
		Reference: arena.Model{Name: "the original", Digest: "sha256:9a3b5c7d9e0f1a2b3c4d", Params: 1_017_984, Family: "llama"},
		Target:    arena.Text{Name: "this project's source code", Digest: "sha256:aa", Tokens: 812_331},
		Retained:  arena.Text{Name: "generated domain", Digest: "sha256:bb", Tokens: 120_000},
		Start:     sampleStart, Unigram: sampleUnigram, Uniform: sampleUniform, Bound: sampleUnigram,
		Notes: []string{"One machine, two cores: seconds are those of this machine.", "Losses are of 64 held-out windows of 128 tokens."},
	}
	in := Input{Summary: s}
	for i, r := range recipes {
		s.Recipes = append(s.Recipes, sampleScore(&in, r, uint64(i), seeds))
	}
	sampleCount(s)
	return in
}

func sampleScore(in *Input, r sampleRecipe, n uint64, seeds int) arena.Score {
	out := arena.Score{Name: r.name, Class: r.class, Informed: r.class == arena.Informed, About: r.about,
		Verdict: arena.NotRun, Reason: "needs the public base (--base or --against)", CostCensoredAt: 4, Points: []arena.Point{}}
	if r.fate == "notrun" {
		return out
	}
	best := map[arena.Role]*arena.Result{}
	for _, role := range []arena.Role{arena.Sealed, arena.Unsealed, arena.Random} {
		if role == arena.Random && r.name != "lora-all" && r.name != "full-adamw" {
			continue
		}
		for k := -8; k <= 8; k += 2 {
			for seed := 1; seed <= seeds; seed++ {
				if seed > 1 && k != 0 {
					continue
				}
				res := sampleTrial(r, role, math.Pow(10, r.rate+float64(k)/4), uint64(seed), n)
				in.Results = append(in.Results, res)
				out.Points = append(out.Points, arena.Point{Trial: res.ID, Role: role, LR: res.Trial.LR, Seed: res.Trial.Seed, Status: res.Status,
					Best: arena.Number(res.Best()), Final: res.Evals[len(res.Evals)-1].Target})
				if b := best[role]; b == nil || res.Best() < b.Best() {
					best[role] = &res
				}
				in.Summary.Trials++
				in.Summary.Seconds += res.Seconds
			}
		}
	}
	sampleFigures(&out, best)
	return out
}

func sampleFigures(out *arena.Score, best map[arena.Role]*arena.Result) {
	ptr := func(x float64) *float64 { return &x }
	sealed, plain := best[arena.Sealed].Best(), best[arena.Unsealed].Best()
	out.BestLoss, out.UnsealedBestLoss = &sealed, &plain
	out.BestTrial, out.UnsealedTrial = best[arena.Sealed].ID, best[arena.Unsealed].ID
	if r := best[arena.Random]; r != nil {
		out.RandomBestLoss, out.RandomTrial = ptr(r.Best()), r.ID
	}
	out.Seconds = best[arena.Sealed].Seconds
	out.BytesRead = 2_036_000
	if out.Class == arena.Informed {
		out.PrepareSeconds, out.BytesRead = 0.41, 4_072_000
	}
	out.DropFraction = ptr(max(0, (sampleStart-sealed)/(sampleStart-plain)))
	out.Verdict, out.Reason = arena.Inconclusive, fmt.Sprintf("not even the unsealed model comes below the bound; the loss falls %.0f%% as far as there", 100**out.DropFraction)
	if plain < 0.99*sampleUnigram {
		x := max(0, (sampleUnigram-sealed)/(sampleUnigram-plain))
		out.LearnedFraction, out.BoundedFraction = &x, ptr(0.9*x)
		out.Verdict, out.Reason = arena.Held, ""
		if x >= arena.HeldBelow {
			out.Verdict = arena.Broken
		}
		if x > 0.3 {
			out.CostMultiplier = ptr(1/x + 0.02)
		}
	}
}

func sampleTrial(r sampleRecipe, role arena.Role, lr float64, seed, n uint64) arena.Result {
	rng := rand.New(rand.NewPCG(n*1000+seed, math.Float64bits(lr)^uint64(len(role))))
	off := math.Log10(lr) - r.rate // decades from the best rate
	trial := arena.Trial{Schema: 1, Engine: "embedded", Recipe: arena.Recipe{Name: r.name, Class: r.class, Train: arena.Training{Kind: r.name}},
		Role: role, Model: string(role), LR: lr, Seed: seed, Steps: sampleSteps, Batch: 4, Window: 128, Eval: 64, Evals: 10}
	res := arena.Result{ID: trial.ID(), Trial: trial, Status: arena.Done, Seconds: 8 + 4*rng.Float64(), Time: "2026-11-23T10:20:30Z"}
	end, diverges := r.low+0.05*rng.Float64()+1.1*off*off, off > 1.2
	switch {
	case role == arena.Random:
		end = 3.2 + 0.7*off*off
	case role == arena.Unsealed || r.fate == "all":
	case r.fate == "nothing":
		end, diverges = sampleStart, off > 1.7
	case r.fate == "collapse":
		end = sampleUniform + 0.4*off*off
	case r.fate == "explode":
		end, diverges = sampleStart-0.3*rng.Float64(), off > -1.6
	case r.fate == "part":
		end = sampleUnigram - r.part*(sampleUnigram-r.low) + 1.5*off*off
	}
	start := sampleStart
	if role == arena.Random {
		start = 5.61
	}
	end = min(end, start)
	stop := sampleSteps
	if diverges {
		res.Status, stop = arena.Diverged, 6+int(20*rng.Float64())
	}
	at := func(step int) float64 {
		x := float64(step) / sampleSteps
		return end + (start-end)*math.Exp(-6*x)
	}
	for step := 1; step <= stop; step++ {
		x := at(step-1) + 0.08*rng.NormFloat64()*min(1, start-end)
		if diverges {
			x = start + math.Expm1(float64(step)/4)*0.2
		}
		res.Losses = append(res.Losses, arena.Number(x))
	}
	if diverges {
		res.Losses = append(res.Losses, arena.Number(math.NaN()))
	}
	for k := 0; k <= 10 && k*15 <= stop; k++ {
		x := arena.Number(at(k * 15))
		if diverges && k > 0 {
			x = arena.Number(math.NaN())
		}
		res.Evals = append(res.Evals, arena.Eval{Step: k * 15, Target: x, Retained: 1.57})
	}
	res.Steps = stop
	return res
}

func sampleCount(s *arena.Summary) {
	for i := range s.Recipes {
		r := &s.Recipes[i]
		if r.Verdict == arena.NotRun {
			continue
		}
		if r.Verdict == arena.Inconclusive {
			s.Inconclusive++
			continue
		}
		held := 0
		if r.Verdict == arena.Held {
			held = 1
		} else if total := r.Seconds + r.PrepareSeconds; s.Cheapest == nil || total < s.Cheapest.Seconds {
			s.Cheapest = &arena.Break{Recipe: r.Name, Class: r.Class, Seconds: total, BytesRead: r.BytesRead}
		}
		switch r.Class {
		case arena.WeightSpace:
			s.Tried, s.Held = s.Tried+1, s.Held+held
		case arena.Invariant:
			s.InvariantTry, s.InvariantHeld = s.InvariantTry+1, s.InvariantHeld+held
		case arena.Informed:
			s.InformedTried, s.InformedHeld = s.InformedTried+1, s.InformedHeld+held
		}
	}
}

// one is the run that most tests draw.
func one() []Input { return []Input{sample(sampleRecipes, "gauge, strong", 3)} }

// several are three seals of one model.
func several() []Input {
	weak := append([]sampleRecipe{}, sampleRecipes...)
	for i := range weak {
		if weak[i].class == arena.WeightSpace && weak[i].fate != "notrun" {
			weak[i].fate, weak[i].part = "part", 0.3+0.03*float64(i)
		}
	}
	strong := append([]sampleRecipe{}, sampleRecipes...)
	for i := range strong {
		if strong[i].fate == "part" && strong[i].class == arena.WeightSpace {
			strong[i].fate = "nothing"
		}
	}
	return []Input{sample(weak, "gauge, portable", 2), one()[0], sample(strong, "gauge, max", 2)}
}

// many is a run of n recipes with names of their own.
func many(n int) []Input {
	var list []sampleRecipe
	for i := range n {
		r := sampleRecipes[i%len(sampleRecipes)]
		if i >= len(sampleRecipes) {
			r.name += fmt.Sprintf("-%d", i)
		}
		list = append(list, r)
	}
	return []Input{sample(list, "gauge, strong", 3)}
}

func TestSampleIsVaried(t *testing.T) {
	seen := map[arena.Verdict]int{}
	s := one()[0].Summary
	for _, r := range s.Recipes {
		seen[r.Verdict]++
	}
	for _, v := range []arena.Verdict{arena.Held, arena.Broken, arena.Inconclusive, arena.NotRun} {
		if seen[v] == 0 {
			t.Errorf("no recipe of the sample is %s", v)
		}
	}
	if len(s.Recipes) < 25 || s.Cheapest == nil {
		t.Errorf("%d recipes, cheapest break %v", len(s.Recipes), s.Cheapest)
	}
}

// hostile is a run whose strings try to get out of where they stand.
func hostile() []Input {
	in := one()
	s := in[0].Summary
	evil := []string{
		`</script><script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `'); alert(1); ('`, "`${alert(1)}`", `{{.Title}}`, `]]>`,
		"a\u202egnp.exe", "שלום עולם \u2067x\u2069", "line\nbreak\r\n\ttab\x00\x1b[31m", string([]byte{0xff, 0xfe}),
		"<!-- /neuroseal:card -->", "| a | b |\n# head\n[x](javascript:alert(1)) ![y](https://example.com/z.png) https://example.com www.example.com",
	}
	long := ""
	for range 400 {
		long += "verylongword"
	}
	evil = append(evil, long)
	for i := range s.Recipes {
		s.Recipes[i].Name = evil[i%len(evil)] + fmt.Sprint(i)
		s.Recipes[i].About = evil[(i+1)%len(evil)]
		s.Recipes[i].Reason = evil[(i+2)%len(evil)]
	}
	for i, p := range []*string{&s.Sealed.Name, &s.Sealed.Seal, &s.Sealed.Digest, &s.Sealed.Family, &s.Sealed.Promise, &s.Reference.Name,
		&s.Target.Name, &s.Retained.Name, &s.Suite, &s.Engine, &s.ToolVersion, &s.TableVersion, &s.Date, &s.Cheapest.Recipe} {
		*p = evil[i%len(evil)] + long[:i*13]
	}
	s.Notes = evil
	return in
}
