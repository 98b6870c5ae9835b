package arena

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// landscape is an engine that trains nothing: the loss after training is a
// parabola in the logarithm of the learning rate, with its own optimum for each
// model, and beyond some rate it diverges.
type landscape struct {
	mu         sync.Mutex
	ran, ended []Trial
	stop       int // after so many trials, cancel
	kill       context.CancelFunc
	need       int64
}

func (l *landscape) Name() string { return EmbeddedEngine }
func (l *landscape) Check(_ context.Context, t Task) error {
	if t.Trial.Recipe.Train.Kind == "head" {
		return fault.New(fault.Unsupported, "no head here")
	}
	return nil
}
func (l *landscape) Memory(context.Context, Task) (int64, error) { return l.need, nil }

const (
	startLoss = 4.0
	unigram   = 3.0
)

func (l *landscape) Run(ctx context.Context, t Task, _ func(int, float64)) (*Result, error) {
	l.mu.Lock()
	l.ran = append(l.ran, t.Trial)
	if l.stop > 0 && len(l.ran) >= l.stop {
		l.kill()
	}
	l.mu.Unlock()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	r := NewResult(t.Trial)
	x := math.Log10(t.Trial.LR)
	best, floor := -3.3, 1.0
	if t.Trial.Role == Sealed && len(t.Trial.Recipe.Prepare) == 0 {
		best, floor = 2.6, 2.5 // far beyond the sweep's end, and worse
	}
	loss := min(startLoss, floor+0.5*(x-best)*(x-best))
	if x > best+1.2 {
		r.Status = Diverged
		loss = math.Inf(1)
	}
	for _, n := range t.Trial.EvalSteps() {
		part := float64(n) / float64(t.Trial.Steps)
		r.Evals = append(r.Evals, Eval{Step: n, Target: Number(startLoss + part*(loss-startLoss)), Retained: Number(1 + part)})
	}
	r.Evals[0].Target = startLoss
	r.Losses = []Number{startLoss, Number(loss)}
	l.mu.Lock()
	l.ended = append(l.ended, t.Trial)
	l.mu.Unlock()
	return r, nil
}

func landscapeMeta() *Meta {
	lora := Recipe{Name: "plain", Class: WeightSpace, Train: Training{Kind: "full"}, Optimizer: Optimizer{Method: "adamw"}, Rates: Rates{From: -5, To: -2}}
	undo := lora
	undo.Name, undo.Class, undo.Prepare = "undo-plain", Informed, []string{"undo"}
	head := lora
	head.Name, head.Train.Kind = "head", "head"
	away := lora
	away.Name, away.Engines = "elsewhere", []string{TRLEngine}
	return &Meta{Engine: EmbeddedEngine, Recipes: []Recipe{lora, undo, head, away}, TableVersion: "1",
		Suite:  Suite{Name: "s", Steps: 10, Batch: 1, Window: 8, Eval: 1, Evals: 5, Seeds: 2, Refine: 2, Extend: 8},
		Sealed: Model{Digest: "s"}, Reference: Model{Digest: "u"}, Target: Text{Digest: "t"}, Retained: Text{Digest: "r"},
		Vocabulary: 100, Unigram: unigram}
}

func somePaths(context.Context, Trial) (Paths, error) { return Paths{}, nil }

// TestRun: the sweep follows the optimum out of its first range, scores come
// out right, and an interrupted run goes on where it stopped.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	m := landscapeMeta()
	var all []Trial
	for round := 0; ; round++ {
		if round > 200 {
			t.Fatal("the run never ends")
		}
		s, err := OpenStore(dir)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		l := &landscape{stop: 4, kill: cancel}
		err = Run(ctx, m, s, somePaths, Local(l, 2, 0, nil), nil)
		cancel()
		all = append(all, l.ended...)
		if err == nil {
			checkSummary(t, Summarize(m, s.Get))
			s.Close()
			break
		}
		if fault.KindOf(err) != fault.Interrupted {
			t.Fatal(err)
		}
		s.Close()
	}
	// What was finished is on record, and was not run again.
	finished, err := ReadResults(dir)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, x := range all {
		seen[x.ID()]++
		if seen[x.ID()] > 1 {
			t.Errorf("trial %s ran to its end %d times", x.ID(), seen[x.ID()])
		}
	}
	trained := 0
	for _, r := range finished {
		if r.Status != Impossible {
			trained++
		}
	}
	if trained != len(seen) {
		t.Errorf("%d trials ran, %d are on record", len(seen), trained)
	}
}

func checkSummary(t *testing.T, s *Summary) {
	t.Helper()
	byName := map[string]Score{}
	for _, r := range s.Recipes {
		byName[r.Name] = r
	}
	plain := byName["plain"]
	if plain.LearnedFraction == nil {
		t.Fatalf("%+v", plain)
	}
	// Half-decade steps, refined twice: within an eighth of a decade and so of
	// the optimum's value.
	want := (unigram - 2.5) / (unigram - 1.0)
	if math.Abs(*plain.LearnedFraction-want) > 0.02 || plain.Verdict != Broken {
		t.Errorf("learned fraction %v, want %v; %s", *plain.LearnedFraction, want, plain.Verdict)
	}
	if plain.CostMultiplier != nil {
		t.Errorf("a sealed model that never comes there costs %v", *plain.CostMultiplier)
	}
	undo := byName["undo-plain"]
	if undo.LearnedFraction == nil || math.Abs(*undo.LearnedFraction-1) > 0.02 || undo.CostMultiplier == nil || *undo.CostMultiplier != 1 {
		t.Errorf("undo: %+v", undo)
	}
	if byName["head"].Verdict != NotRun || byName["head"].Reason != "no head here" || byName["elsewhere"].Verdict != NotRun {
		t.Errorf("not run: %+v, %+v", byName["head"], byName["elsewhere"])
	}
	if s.Tried != 1 || s.Held != 0 || s.InformedTried != 1 || s.InformedHeld != 0 || s.Start != startLoss || s.Bound != unigram || s.Cheapest == nil {
		t.Errorf("summary %+v", s)
	}
}

// TestIdentity: what changes the outcome changes the ID, what does not does not.
func TestIdentity(t *testing.T) {
	m := landscapeMeta()
	base := m.trial(m.Recipes[0], Sealed, point{rate: -24, seed: 1})
	same := base
	same.Recipe.Name, same.Recipe.About, same.Recipe.Class = "other", "other", Informed
	if same.ID() != base.ID() {
		t.Error("a name changes the identity")
	}
	for name, change := range map[string]func(*Trial){
		"lr": func(t *Trial) { t.LR *= 1.01 }, "seed": func(t *Trial) { t.Seed++ }, "model": func(t *Trial) { t.Model = "x" },
		"text": func(t *Trial) { t.Target = "x" }, "steps": func(t *Trial) { t.Steps++ }, "engine": func(t *Trial) { t.Engine = "x" },
		"prepare": func(t *Trial) { t.Recipe.Prepare = []string{"undo"} }, "clip": func(t *Trial) { t.Recipe.Clip = 1 },
		"options": func(t *Trial) { t.Recipe.Train.Options = map[string]any{"a": 1} },
	} {
		x := base
		change(&x)
		if x.ID() == base.ID() {
			t.Errorf("%s does not change the identity", name)
		}
	}
	raw, err := json.Marshal(base)
	if err != nil {
		t.Fatal(err)
	}
	var back Trial
	if err := json.Unmarshal(raw, &back); err != nil || back.ID() != base.ID() {
		t.Errorf("after JSON %s, was %s (%v)", back.ID(), base.ID(), err)
	}
}

func TestStoreTornLine(t *testing.T) {
	dir := t.TempDir()
	m := landscapeMeta()
	s, err := OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore(dir); fault.KindOf(err) != fault.Usage {
		t.Fatalf("a second process: %v", err)
	}
	one := NewResult(m.trial(m.Recipes[0], Sealed, point{rate: -24, seed: 1}))
	one.Losses = []Number{Number(math.NaN()), 1.5}
	two := NewResult(m.trial(m.Recipes[0], Sealed, point{rate: -16, seed: 1}))
	for _, r := range []*Result{one, one, two} {
		if err := s.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	path := filepath.Join(dir, trialsFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw[:len(raw)-10], 0o666); err != nil {
		t.Fatal(err)
	}
	if s, err = OpenStore(dir); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got := s.Get(one.ID)
	if s.Get(two.ID) != nil || got == nil || got.Losses[0].Finite() || got.Losses[1] != 1.5 {
		t.Fatalf("after a torn line: %+v", got)
	}
	if err := s.Append(two); err != nil {
		t.Fatal(err)
	}
	if back, err := ReadResults(dir); err != nil || len(back) != 2 {
		t.Fatalf("%d results, %v", len(back), err)
	}
	edited := strings.Replace(string(raw), `"lr":0.001`, `"lr":0.002`, 1)
	if edited == string(raw) {
		t.Fatal("the learning rate is written in another way")
	}
	if err := os.WriteFile(path, []byte(edited), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadResults(dir); fault.KindOf(err) != fault.Mismatch || !strings.Contains(err.Error(), "line 1") {
		t.Fatalf("an edited line: %v", err)
	}
}

func TestMemoryIsPredicted(t *testing.T) {
	l := &landscape{need: 1 << 30}
	m := landscapeMeta()
	tasks := []Task{{Trial: m.trial(m.Recipes[0], Sealed, point{rate: -24, seed: 1})}}
	err := Local(l, 2, 1<<29, nil)(context.Background(), tasks, func(*Result) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "1024 MB") || len(l.ran) > 0 {
		t.Fatalf("%v; %d trials ran", err, len(l.ran))
	}
	full := errors.New("disk full")
	if err := Local(l, 2, 0, nil)(context.Background(), tasks, func(*Result) error { return full }); !errors.Is(err, full) {
		t.Fatalf("%v", err)
	}
}

func TestDivergence(t *testing.T) {
	d := NewDivergence(2, 100)
	for _, loss := range []float64{2, 50, 50, 2, 50, 50} {
		if d.Step(loss) {
			t.Fatalf("gave up at %v", loss)
		}
	}
	if !d.Step(math.Inf(1)) || !NewDivergence(2, 100).Step(math.NaN()) {
		t.Fatal("does not give up")
	}
}
