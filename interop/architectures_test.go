//go:build interop

package interop_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
)

// architecture is one family as architectures.py lists it.
type architecture struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	FreeDims int    `json:"free_dims"` // known from elsewhere; 0: nobody said

	Sources map[string]*sourced // by "builder" and ".pt2"; where there is one
	Differs string              // how the groups of the two differ
}

// sourced is what became of a family by one source of its graph.
type sourced struct {
	inspected
	Refused string
	Exact   map[string]string // by element type: "yes", or what is wrong
	Bad     []string          // what must not be
}

// inspected is what inspect --json says of an unsealed model.
type inspected struct {
	FreeDims int     `json:"free_dims"`
	Residual bool    `json:"residual_gauge"`
	Coverage float64 `json:"coverage"`
	Groups   []struct {
		ID      string `json:"id"`
		Kind    string `json:"kind"`
		Classes int    `json:"classes"`
	} `json:"groups"`
	Holes []struct {
		Tensor string `json:"tensor"`
		Why    string `json:"why"`
	} `json:"holes"`
}

// precisions are the element types in which a family is sealed, and how.
var precisions = []struct{ dtype, profile string }{{"fp32", "max"}, {"bf16", "max"}, {"fp16", "portable"}}

// halfRounding is what rounding in fp16 may change, of the largest output: the
// distance of two neighbours is 2^-10.
const halfRounding = 1.0 / 1024

var graphSources = []string{"builder", ".pt2"}

// everyDay are the families without a builder that are tried whenever the suite
// runs; those whose free dimensions are known are, too.
var everyDay = []string{"albert", "deberta-v2", "mt5", "switch_transformers", "swin", "convnext", "resnet",
	"wav2vec2", "blip", "llava", "codegen", "recurrent_gemma", "xglm"}

// notInTransformers are model types that only code beside a checkpoint runs.
var notInTransformers = map[string]string{"minicpm": "transformers has no class for it; its fixture is compared with the forward pass of its publisher's code"}

// otherGroups says where builder and exported graph may differ, and why.
var otherGroups = map[string]string{
	"gpt2": "the same groups under other names: the exported graph multiplies by the matrix [in, out] as it stands, so that a group is named after its second axis",
}

// TestArchitectures seals families by their builders and by the graphs that
// pt2/export.py exports, and lets transformers compare. ARCHITECTURES says
// which: "all", or names; without it, everyDay and those that are known.
// ARCHITECTURES_REPORT names a page whose table is written anew.
func TestArchitectures(t *testing.T) {
	s := needPython(t)
	rows := s.architectures(t)
	dir := filepath.Join(s.work, "architectures")
	if kept := os.Getenv("ARCHITECTURES_MODELS"); kept != "" {
		dir = kept
	}
	var jobs [2][]exactness
	err := s.twice(func(half int) error {
		args := []string{"architectures.py", "make", dir}
		for i, a := range rows {
			if _, err := os.Stat(filepath.Join(dir, a.Name)); i%2 == half && err != nil {
				args = append(args, a.Name)
			}
		}
		if len(args) > 3 {
			if _, err := s.runPython(args...); err != nil {
				return err
			}
		}
		for i, a := range rows {
			if i%2 == half {
				jobs[half] = append(jobs[half], s.sealBySources(a, filepath.Join(dir, a.Name))...)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.twice(func(half int) error { return s.exactness(jobs[half], half) }); err != nil {
		t.Fatal(err)
	}
	for _, a := range rows {
		t.Run(a.Name, func(t *testing.T) { a.judge(t) })
	}
	if page := os.Getenv("ARCHITECTURES_REPORT"); page != "" {
		if err := s.writeArchitectures(page, rows); err != nil {
			t.Error(err)
		}
	}
}

// architectures lists the families to be tried; every builder has one.
func (s *shared) architectures(t *testing.T) []*architecture {
	t.Helper()
	out, err := s.runPython("architectures.py", "list")
	if err != nil {
		t.Fatal(err)
	}
	wanted := strings.Fields(os.Getenv("ARCHITECTURES"))
	all := slices.Equal(wanted, []string{"all"})
	var rows []*architecture
	missing := arch.Types()
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		a := &architecture{Sources: map[string]*sourced{}}
		if err := dec.Decode(a); err != nil {
			t.Fatal(err)
		}
		missing = slices.DeleteFunc(missing, func(m string) bool { return m == a.Type })
		if len(wanted) == 0 && (a.FreeDims > 0 || slices.Contains(everyDay, a.Name)) || all || slices.Contains(wanted, a.Name) {
			rows = append(rows, a)
		}
	}
	for _, m := range missing {
		if (all || len(wanted) == 0) && notInTransformers[m] == "" {
			t.Errorf("%s has a builder and no row", m)
		}
	}
	return rows
}

// exactness is one comparison by architectures.py.
type exactness struct {
	Original       string  `json:"original"`
	Sealed         string  `json:"sealed"`
	Dtype          string  `json:"dtype"`
	Equal          bool    `json:"equal"`
	Finite         bool    `json:"finite"`
	OriginalFinite bool    `json:"original_finite"`
	Difference     float64 `json:"difference"`
	Values         int     `json:"values"`
	Error          string  `json:"error"`
	OriginalError  string  `json:"original_error"`

	Profile string `json:"-"`
	of      *sourced
}

// sealBySources seals, unlocks and inspects one family, and returns what is to
// be compared.
func (s *shared) sealBySources(a *architecture, dir string) []exactness {
	var jobs []exactness
	for _, from := range graphSources {
		src := &sourced{Exact: map[string]string{}}
		graph := []string{"--graph", filepath.Join(dir, "model.pt2")}
		if from == "builder" {
			if graph = nil; !slices.Contains(arch.Types(), a.Type) {
				continue
			}
		}
		a.Sources[from] = src
		if broken, err := os.ReadFile(filepath.Join(dir, "broken.txt")); err == nil {
			src.Bad = append(src.Bad, strings.TrimSpace(string(broken)))
			continue
		}
		if why, err := os.ReadFile(filepath.Join(dir, "refused.txt")); err == nil && from == ".pt2" {
			src.Refused = strings.TrimSpace(string(why))
			continue
		}
		jobs = append(jobs, s.sealBy(src, dir, filepath.Join(s.work, "by", a.Name, from), graph)...)
	}
	a.compareGroups()
	return jobs
}

// sealBy seals every copy of one family by one graph.
func (s *shared) sealBy(src *sourced, dir, work string, graph []string) []exactness {
	out, err := s.attempt(append([]string{"inspect", filepath.Join(dir, "fp32"), "--profile", "max", "--json"}, graph...)...)
	if err != nil {
		src.Refused = err.Error()
		return nil
	}
	if err := json.Unmarshal(out, &src.inspected); err != nil {
		src.Bad = append(src.Bad, err.Error())
		return nil
	}
	var jobs []exactness
	for _, p := range precisions {
		job := exactness{Original: filepath.Join(dir, p.dtype), Sealed: filepath.Join(work, p.dtype), Dtype: p.dtype, Profile: p.profile, of: src}
		err := s.roundTrip(job, graph)
		if err != nil && p.profile != "portable" && strings.Contains(err.Error(), noRoom) {
			job.Profile = "portable"
			err = s.roundTrip(job, graph)
		}
		switch {
		case err == nil:
			jobs = append(jobs, job)
		case strings.Contains(err.Error(), "(exit 14)"):
			src.Exact[p.dtype], src.Refused = "refused", err.Error()
		default:
			src.Exact[p.dtype] = err.Error()
			src.Bad = append(src.Bad, p.dtype+": "+err.Error())
		}
	}
	return jobs
}

// folders are those that a path starts with.
var folders = regexp.MustCompile(`(/[^\s:]+)+/`)

// attempt runs the command; its error is what it says, in one line.
func (s *shared) attempt(args ...string) ([]byte, error) {
	cmd := exec.Command(s.command, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		line, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		_, what, found := strings.Cut(line, "error: ")
		if !found {
			what = line
		}
		var said struct{ Message string } // with --json
		if json.Unmarshal([]byte(line), &said) == nil {
			what = said.Message
		}
		what = folders.ReplaceAllString(what, "")
		return nil, fmt.Errorf("%s (exit %d)", what, cmd.ProcessState.ExitCode())
	}
	return stdout.Bytes(), nil
}

// noRoom is what lock says where a profile's bounds leave nothing to move.
// Those of max are rigorous, those of portable measured: where max has no bound,
// as behind the stored variances of a batch norm, portable may have room.
const noRoom = "finds no room for any factor"

// roundTrip seals and unlocks, and demands that the seal changed the weights
// and that unlocking brought every byte back.
func (s *shared) roundTrip(j exactness, graph []string) error {
	const weights = "model.safetensors"
	back := j.Sealed + "-back"
	defer os.RemoveAll(back)
	if err := os.MkdirAll(filepath.Dir(back), 0o777); err != nil {
		return err
	}
	if _, err := s.attempt(append([]string{"lock", j.Original, j.Sealed, "--profile", j.Profile, "--key-file", s.key, "-q"}, graph...)...); err != nil {
		return err
	}
	if _, err := s.attempt("unlock", j.Sealed, back, "--key-file", s.key, "-q"); err != nil {
		return err
	}
	files, err := os.ReadDir(j.Original)
	if err != nil {
		return err
	}
	for _, f := range files {
		if same, err := equalFiles(filepath.Join(j.Original, f.Name()), filepath.Join(back, f.Name())); !same || err != nil {
			return fmt.Errorf("unlock does not restore %s: %w", f.Name(), cmp.Or(err, errDiffers))
		}
	}
	if same, err := equalFiles(filepath.Join(j.Original, weights), filepath.Join(j.Sealed, weights)); same || err != nil {
		return fmt.Errorf("the seal left all weights as they were: %w", cmp.Or(err, errSame))
	}
	return nil
}

var errDiffers, errSame = errors.New("other bytes"), errors.New("the same bytes")

func equalFiles(a, b string) (bool, error) {
	x, err1 := os.ReadFile(a)
	y, err2 := os.ReadFile(b)
	return bytes.Equal(x, y), errors.Join(err1, err2)
}

// compareGroups describes how the groups of the two sources differ, but for
// the residual stream, whose epsilon an exported graph holds as a number.
func (a *architecture) compareGroups() {
	b, p := a.Sources["builder"], a.Sources[".pt2"]
	if b == nil || p == nil || b.Refused != "" || p.Refused != "" {
		return
	}
	classes := func(x *sourced) map[string]int {
		m := map[string]int{}
		for _, g := range x.Groups {
			if g.Kind != "residual" {
				m[g.ID] = g.Classes
			}
		}
		return m
	}
	mine, theirs := classes(b), classes(p)
	var only []string
	for _, id := range slices.Sorted(maps.Keys(mine)) {
		if mine[id] != theirs[id] {
			only = append(only, fmt.Sprintf("%s: %d by the builder, %d by .pt2", id, mine[id], theirs[id]))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(theirs)) {
		if _, both := mine[id]; !both {
			only = append(only, fmt.Sprintf("%s: %d by .pt2 alone", id, theirs[id]))
		}
	}
	a.Differs = strings.Join(only, "; ")
}

// exactness lets transformers compare and files the verdicts.
func (s *shared) exactness(jobs []exactness, half int) error {
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	for _, j := range jobs {
		if err := enc.Encode(map[string]string{"original": j.Original, "sealed": j.Sealed, "dtype": j.Dtype}); err != nil {
			return err
		}
	}
	file := filepath.Join(s.work, fmt.Sprintf("architectures-%d.jsonl", half))
	if err := os.WriteFile(file, lines.Bytes(), 0o666); err != nil {
		return err
	}
	out, err := s.runPython("architectures.py", "compare", file)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	for i := range jobs {
		if err := dec.Decode(&jobs[i]); err != nil {
			return fmt.Errorf("comparison %d of %d: %w", i, len(jobs), err)
		}
		jobs[i].file()
	}
	return nil
}

// file turns a verdict into a cell of the table, and into what must not be.
func (e *exactness) file() {
	cell, bad := "yes", true
	if e.Dtype != "fp16" && e.Profile == "portable" {
		cell = "yes, portable"
	}
	switch {
	case e.OriginalError != "":
		cell, bad = "the original does not run", e.Dtype == "fp32"
	case e.Error != "":
		cell = e.Error
	case e.Values == 0:
		cell = "no answer"
	case !e.OriginalFinite:
		cell, bad = "the original overflows", e.Dtype != "fp16"
	case !e.Finite:
		cell = "not finite"
	case !e.Equal:
		// Below 2^-14 fp16 has fewer bits: what a seal moves across rounds otherwise.
		cell, bad = fmt.Sprintf("differs by %.0e", e.Difference), e.Dtype != "fp16" || e.Difference > halfRounding
	default:
		bad = false
	}
	e.of.Exact[e.Dtype] = cell
	if bad {
		e.of.Bad = append(e.of.Bad, e.Dtype+": "+cell)
	}
}

// judge fails where a row says what must not be.
func (a *architecture) judge(t *testing.T) {
	for from, src := range a.Sources {
		for _, b := range src.Bad {
			t.Errorf("%s: %s", from, b)
		}
		if (a.FreeDims > 0 || from == "builder") && src.Refused != "" {
			t.Errorf("%s: refused: %s", from, src.Refused)
		}
		if a.FreeDims > 0 && src.Refused == "" && src.FreeDims != a.FreeDims {
			t.Errorf("%s: %d free dimensions, known are %d", from, src.FreeDims, a.FreeDims)
		}
	}
	if a.Differs != "" && otherGroups[a.Name] == "" {
		t.Errorf("groups: %s", a.Differs)
	}
}
