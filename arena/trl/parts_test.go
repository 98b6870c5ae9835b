//go:build unix

package trl

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/arena"
)

func itoa(n int) string { return strconv.Itoa(n) }

// TestResult: a result that is not this trial's is refused.
func TestResult(t *testing.T) {
	trial := task(t).Trial
	good := goodResult(trial)
	if _, err := parseResult([]byte(good), trial); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string][2]string{
		"status":        {`"status":"done"`, `"status":"fine"`},
		"no reason":     {`"status":"done"`, `"status":"impossible"`},
		"steps":         {`"steps":4,"tokens"`, `"steps":3,"tokens"`},
		"losses":        {`[2.5,2.5,2.5,2.5]`, `[2.5]`},
		"evaluations":   {`{"step":2,"target":2,"retained":1},`, ``},
		"wrong step":    {`{"step":2,`, `{"step":3,`},
		"negative time": {`"seconds":1.5`, `"seconds":-1`},
		"text":          {`{"id"`, `x{"id"`},
		"no number":     {`"target":2`, `"target":"NaN"`},
	} {
		bad := strings.Replace(good, edit[0], edit[1], 1)
		if bad == good {
			t.Fatalf("%s: %s is not in %s", name, edit[0], good)
		}
		if r, err := parseResult([]byte(bad), trial); err == nil {
			t.Errorf("%s: taken as %+v", name, r)
		}
	}
	// Diverged runs are short, and their losses have no numbers.
	short := `{"status":"diverged","steps":2,"losses":[3.5,null],"evals":[{"step":0,"target":2,"retained":1}]}`
	r, err := parseResult([]byte(short), trial)
	if err != nil || r.Losses[1].Finite() || r.Best() != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

// FuzzResult: no result file makes the engine panic, and what is taken is sound.
func FuzzResult(f *testing.F) {
	trial := arena.Trial{Steps: 4, Batch: 1, Window: 8, Eval: 1, Evals: 2}
	f.Add([]byte(goodResult(trial)))
	f.Add([]byte(`{"status":"impossible","reason":"x"}`))
	f.Add([]byte(`{"status":"diverged","steps":1,"losses":[null],"evals":[{"step":0,"target":null,"retained":null}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := parseResult(raw, trial)
		if err != nil {
			return
		}
		if r.ID != trial.ID() || len(r.Losses) > trial.Steps || r.Status == arena.Impossible && r.Reason == "" {
			t.Errorf("%+v", r)
		}
	})
}

func TestPlan(t *testing.T) {
	t.Setenv("CUDA_VISIBLE_DEVICES", "3,5")
	gpus := func(n int) (out []gpu) {
		for range n {
			out = append(out, gpu{"x", 80 << 30})
		}
		return
	}
	for _, c := range []struct {
		gpus, batch int
		need        int64
		replicas    int
		want        launch
	}{
		{0, 4, 1 << 30, 0, launch{replicas: 1}},
		{1, 4, 1 << 30, 0, launch{replicas: 1}},
		{2, 4, 1 << 30, 0, launch{replicas: 2}},
		{3, 4, 1 << 30, 0, launch{replicas: 2}},
		{8, 4, 1 << 30, 0, launch{replicas: 4}},
		{2, 1, 1 << 30, 0, launch{replicas: 1, visible: "3"}}, // DataParallel would need both
		{2, 4, 100 << 30, 0, launch{replicas: 1}},             // split over both
		{0, 4, 1 << 30, 2, launch{replicas: 2}},
	} {
		if got := plan(gpus(c.gpus), c.batch, c.need, c.replicas); got != c.want {
			t.Errorf("%d GPUs, batch %d, %d bytes: %+v, expected %+v", c.gpus, c.batch, c.need, got, c.want)
		}
	}
}

func TestMemory(t *testing.T) {
	e, x := fake(t, "good"), task(t)
	base, err := e.Memory(t.Context(), x)
	if err != nil || base < interpreterBytes || base > interpreterBytes+64<<20 {
		t.Fatalf("%d bytes for the demo model, %v", base, err)
	}
	full := x
	full.Trial.Recipe.Train = arena.Training{Kind: "full"}
	sgd := full
	sgd.Trial.Recipe.Optimizer.Method = "sgd"
	long := x
	long.Trial.Window *= 8
	small := x
	small.Trial.Recipe.Base = "nf4"
	for name, pair := range map[string][2]arena.Task{
		"full over LoRA": {x, full}, "AdamW over SGD": {sgd, full}, "long windows": {x, long}, "fp32 over NF4": {small, x},
	} {
		less, _ := e.Memory(t.Context(), pair[0])
		more, err := e.Memory(t.Context(), pair[1])
		if err != nil || less >= more {
			t.Errorf("%s: %d and %d bytes, %v", name, less, more, err)
		}
	}
}

func TestLines(t *testing.T) {
	var got []string
	w := &lineWriter{f: func(b []byte) { got = append(got, string(b)) }}
	long := strings.Repeat("y", lineLimit+1)
	for _, part := range []string{"a\nb", "c\n", "", long, "z\nd\n"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if want := []string{"a", "bc", "d"}; !slices.Equal(got, want) {
		t.Errorf("lines %q, expected %q", got, want)
	}
	var log bytes.Buffer
	last := &tail{to: &log}
	for range 5 {
		_, _ = last.Write([]byte(strings.Repeat("x", tailLimit/2) + "end"))
	}
	if len(last.text()) != tailLimit || !strings.HasSuffix(last.text(), "xend") || log.Len() != 5*(tailLimit/2+3) {
		t.Errorf("kept %d bytes, logged %d", len(last.text()), log.Len())
	}
}
