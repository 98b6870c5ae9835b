//go:build interop

package interop_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/demo/text"
	"github.com/neuroseal/neuroseal/manifest"
)

// ggufRow is what a runtime made of one sealed GGUF.
type ggufRow struct {
	Runtime    string  `json:"runtime"`
	Sealed     string  `json:"sealed"`
	Identical  bool    `json:"identical"`
	Difference float64 `json:"largest_difference"`
	Largest    float64 `json:"largest"`
	Same       bool    `json:"same_tokens"`
	Rerun      float64 `json:"rerun"`
	Error      string  `json:"error"`

	model, format, profile string
	coverage               float64
	narrowed               bool // sealed with options that keep still what the runtime rounds to fp16
}

// ggufSeals are pairs of an original and its seal, to be run.
type ggufSeals struct {
	t       *testing.T
	s       *shared
	args    []string
	rows    map[string]ggufRow // by the sealed file
	refused []ggufRow
}

// add seals a file; what a profile refuses is kept with the reason. options are
// more of lock's.
func (g *ggufSeals) add(model, format, profile, src string, options ...string) {
	g.t.Helper()
	out := filepath.Join(g.t.TempDir(), fmt.Sprintf("%s-%s-%s%d.gguf", model, format, profile, len(options)))
	r := ggufRow{model: model, format: format, profile: strings.Join(append([]string{profile}, options...), " "), narrowed: len(options) > 0}
	_, err := output(exec.CommandContext(g.t.Context(), g.s.command,
		append([]string{"lock", src, out, "--profile", profile, "--key-file", g.s.key, "-q"}, options...)...))
	if err != nil {
		_, why, _ := strings.Cut(err.Error(), "error: ")
		why, _, _ = strings.Cut(why, "\n")
		if profile == "portable" {
			g.t.Fatalf("%s %s: %v", model, format, err)
		}
		r.Error = why
		g.refused = append(g.refused, r)
		return
	}
	data, err := os.ReadFile(out + ".neuroseal.json")
	if err != nil {
		g.t.Fatal(err)
	}
	m, err := manifest.Parse(data)
	if err != nil {
		g.t.Fatal(err)
	}
	r.coverage = m.Coverage
	g.rows[out] = r
	g.args = append(g.args, src, out)
}

// run asks the runtimes that an interpreter has.
func (g *ggufSeals) run(python string) []ggufRow {
	g.t.Helper()
	cmd := exec.CommandContext(g.t.Context(), python, append([]string{"gguf_runtimes.py"}, g.args...)...)
	cmd.Env = append(os.Environ(), "OMP_NUM_THREADS=1", "PYTHONDONTWRITEBYTECODE=1") // threads that wait for each other are slow beside others' work
	data, err := output(cmd)
	var rows []ggufRow
	for _, line := range bytes.Split(bytes.TrimSpace(data), []byte("\n")) {
		var r ggufRow
		if jerr := json.Unmarshal(line, &r); jerr != nil {
			g.t.Fatalf("%v in %q: %v", jerr, line, err)
		}
		was := g.rows[r.Sealed]
		r.model, r.format, r.profile, r.coverage, r.narrowed = was.model, was.format, was.profile, was.coverage, was.narrowed
		rows = append(rows, r)
	}
	if len(rows) == 0 || len(rows)%len(g.rows) != 0 {
		g.t.Errorf("%d results for %d files", len(rows), len(g.rows))
	}
	return rows
}

// tolerance is by how much logits may differ, relative to the largest: not at
// all, but for F16 weights, since llama.cpp rounds what they are multiplied by to
// fp16, and the seal keeps other bits of what lies below its normal range.
func (r ggufRow) tolerance() float64 {
	if r.format == "F16" && !r.narrowed {
		return 1e-3
	}
	return 0
}

func (g *ggufSeals) judge(rows []ggufRow) {
	g.t.Helper()
	for _, r := range rows {
		g.t.Logf("%s, %s %s %s: identical %v, %g of %g, rerun %g", r.Runtime, r.model, r.format, r.profile, r.Identical, r.Difference, r.Largest, r.Rerun)
		if r.Error != "" || !r.Same || r.Difference > r.tolerance()*r.Largest {
			g.t.Errorf("%+v", r)
		}
	}
}

// TestGGUFRuntimes: transformers, which dequantises a GGUF, gives the same
// logits for the file and for its seal.
func TestGGUFRuntimes(t *testing.T) {
	s := needPython(t)
	if _, err := s.runPython("-c", "import gguf"); err != nil {
		t.Skip("gguf is not installed: ", err)
	}
	dir := t.TempDir()
	kinds := []string{"F16", "Q8_0", "Q4_0", "Q5_1"}
	args := []string{"gguf_models.py", filepath.Join("..", "internal", "demo"), dir}
	for _, k := range kinds {
		args = append(args, "model:"+k)
	}
	if _, err := s.runPython(args...); err != nil {
		t.Fatal(err)
	}
	g := &ggufSeals{t: t, s: s, rows: map[string]ggufRow{}}
	for _, k := range kinds {
		g.add("demo", k, "portable", filepath.Join(dir, "model-"+k+".gguf"))
	}
	rows := g.run(s.python)
	g.judge(rows)
	for _, r := range rows {
		if !r.Identical && strings.HasPrefix(r.Runtime, "transformers") {
			t.Errorf("%s: other logits in %s", r.format, r.Runtime)
		}
	}
	writeRuntimes(t, "gguf-transformers", ggufTable(rows))
}

// ggufFormats are what llama.cpp's quantiser makes of a small model; those of
// blocks of 256 need its widths to be multiples of that.
var (
	ggufFormats = []string{"F32", "BF16", "F16", "Q8_0", "Q4_0"}
	ggufWide    = append(ggufFormats, "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "IQ3_S", "IQ4_NL", "IQ4_XS", "MXFP4", "TQ1_0", "TQ2_0")
	// ggufImportant need an importance matrix. IQ2_S is mostly IQ2_XS; IQ2_M and IQ3_XXS have the type IQ2_S.
	ggufImportant = []string{"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS"}
)

// TestLlamaCpp: llama.cpp itself gives the same tokens and logits for files that
// its own quantiser wrote and for their seals. Building llama-cpp-python takes a
// quarter of an hour, so it is only used where there is one.
func TestLlamaCpp(t *testing.T) {
	s := needPython(t)
	python := os.Getenv("NEUROSEAL_LLAMA_PYTHON")
	if python == "" {
		python = s.python
	}
	if out, err := exec.Command(python, "-c", "import llama_cpp").CombinedOutput(); err != nil {
		t.Skipf("%s has no llama-cpp-python (%v: %.200s); NEUROSEAL_LLAMA_PYTHON names an interpreter that has", python, err, out)
	}
	dir := t.TempDir()
	corpus := filepath.Join(dir, "text")
	if err := os.WriteFile(corpus, text.Generate("tales", 1, 2_000_000), 0o666); err != nil {
		t.Fatal(err)
	}
	specimens := filepath.Join("..", "arena", "specimen", "models")
	run := func(python string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), python, args...)
		cmd.Env = append(os.Environ(), "OMP_NUM_THREADS=1", "PYTHONDONTWRITEBYTECODE=1")
		if _, err := output(cmd); err != nil {
			t.Fatal(err)
		}
	}
	run(s.python, "gguf_train.py", corpus, filepath.Join(dir, "wide"), "300")
	run(s.python, "gguf_models.py", dir, dir, "wide")
	run(s.python, "gguf_models.py", specimens, dir, "llama-tied", "qwen3", "mixtral")
	g := &ggufSeals{t: t, s: s, rows: map[string]ggufRow{}}
	for _, model := range []string{"wide", "llama-tied", "qwen3", "mixtral"} {
		formats, made := ggufFormats, filepath.Join(dir, "quantised-"+model)
		if model == "wide" {
			formats = ggufWide
		}
		file := filepath.Join(dir, model+".gguf")
		run(python, append([]string{"gguf_quantise.py", file, made}, formats...)...)
		if model == "wide" {
			run(python, append([]string{"gguf_quantise.py", "--importance", filepath.Join(dir, model, "importance.json"), file, made}, ggufImportant...)...)
			formats = slices.Concat(formats, ggufImportant)
		}
		for _, f := range formats {
			g.add(model, f, "portable", filepath.Join(made, f+".gguf"))
			if f == "F16" && model != "llama-tied" { // a tied head's input moves with the residual stream
				g.add(model, f, "portable", filepath.Join(made, f+".gguf"), "--include", "residual")
			}
			if model == "wide" {
				g.add(model, f, "strong", filepath.Join(made, f+".gguf"))
				g.add(model, f, "max", filepath.Join(made, f+".gguf"))
			}
		}
	}
	rows := g.run(python)
	g.judge(rows)
	for _, r := range g.refused {
		if f := r.format; f == "F32" || f == "BF16" {
			t.Errorf("%s %s is refused: %s", f, r.profile, r.Error)
		}
	}
	writeRuntimes(t, "gguf-llama.cpp", ggufTable(append(rows, g.refused...)))
}

// why is what refuses a row, without the profile's name.
func (r ggufRow) why() string {
	if name, why, ok := strings.Cut(r.Error, ": "); ok && strings.HasPrefix(name, "profile ") {
		return why
	}
	return r.Error
}

// ggufTable is a table of docs/runtimes.md.
func ggufTable(rows []ggufRow) string {
	var b strings.Builder
	b.WriteString("| Runtime | Model | Format | Profile | Coverage | Logits | Greedy tokens | Two runs of the original |\n|---|---|---|---|---|---|---|---|\n")
	for i, r := range rows {
		if r.Runtime == "" {
			if i+1 < len(rows) && rows[i+1].model == r.model && rows[i+1].format == r.format && rows[i+1].why() == r.why() {
				rows[i+1].profile = r.profile + ", " + rows[i+1].profile // one row says it
				continue
			}
			fmt.Fprintf(&b, "| | %s | %s | %s | refused: %s | | | |\n", r.model, r.format, r.profile, cell(r.why()))
			continue
		}
		tokens, rerun := "the same", "identical"
		if !r.Same {
			tokens = "others"
		}
		if r.Rerun != 0 {
			rerun = fmt.Sprintf("differ by %.2g", r.Rerun)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %.1f%% | %s | %s | %s |\n", r.Runtime, r.model, r.format, r.profile, 100*r.coverage,
			likeness(r.Identical, r.Difference, r.Largest), tokens, rerun)
	}
	return b.String()
}
