package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/manifest"
)

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{fmt.Errorf("x: %w", fault.New(fault.NoSpace, "y")), 15},
		{fault.New(fault.Interrupted, "x"), 130},
		{fmt.Errorf("x: %w", context.Canceled), 130},
		{fault.Wrap(fault.General, context.Canceled, "x"), 130},
		{withHint(manifest.Legacy{Method: "static"}), 14},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}

// TestHelp: every command has a description, examples and its exit codes, all
// of them documented.
func TestHelp(t *testing.T) {
	started := false
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || c.Long == "" || c.Example == "" {
			t.Errorf("%s: description or example missing", c.CommandPath())
		}
		for _, line := range strings.Split(strings.TrimRight(exitText(c), "\n"), "\n") {
			if len(strings.Fields(line)) < 2 {
				t.Errorf("%s: exit code without a meaning: %q", c.CommandPath(), line)
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(ui.New(os.Stdout, os.Stderr), &started))
}

func TestJoinLegacyStatic(t *testing.T) {
	for in, want := range map[string]string{
		"unlock a b --legacy-static 100": "unlock a b --legacy-static=100",
		"unlock --legacy-static 1e2 a b": "unlock --legacy-static=1e2 a b",
		"unlock --legacy-static a b":     "unlock --legacy-static a b",
		"unlock a b --legacy-static":     "unlock a b --legacy-static",
		"unlock --legacy-static=3 5 6":   "unlock --legacy-static=3 5 6",
		"unlock -- --legacy-static 100":  "unlock -- --legacy-static 100",
	} {
		if got := joinLegacyStatic(strings.Fields(in)); !reflect.DeepEqual(got, strings.Fields(want)) {
			t.Errorf("%s: %v", in, got)
		}
	}
}

func TestKeyBeside(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile("model.safetensors", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"out": "out.key", "out/": "out.key", "./a/b/": filepath.Join("a", "b") + ".key",
		".": here + ".key", "model.safetensors": here + ".key", "..": filepath.Dir(here) + ".key",
	} {
		if got := keyBeside(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestInside(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		path, dir string
		want      bool
	}{
		{"a/key", "a", true}, {"a/b/c/key", "a/b", true}, {"a.key", "a", false}, {"a", "a", true}, {"ab/key", "a", false}, {"a/../key", "a", false},
	} {
		if got, err := inside(filepath.Join(dir, c.path), filepath.Join(dir, c.dir)); err != nil || got != c.want {
			t.Errorf("%s in %s: %v %v", c.path, c.dir, got, err)
		}
	}
}

func TestFold(t *testing.T) {
	lines := [][2]string{
		{"model.layers.0.mlp.up", "goes into x in model.layers.0.mlp"},
		{"model.norm", "fixed at 1.5 of 2"},
		{"model.layers.11.mlp.up", "goes into x in model.layers.11.mlp"},
		{"model.layers.2.experts.3.up", "why 0"},
	}
	want := []folded{
		{"model.layers.*.mlp.up", "goes into x in model.layers.*.mlp", 2},
		{"model.norm", "fixed at 1.5 of 2", 1},
		{"model.layers.*.experts.*.up", "why 0", 1},
	}
	if got := fold(lines, false); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if got := fold(lines, true); len(got) != len(lines) || got[0].what != lines[0][0] {
		t.Errorf("all: %+v", got)
	}
}

func TestKinds(t *testing.T) {
	rows := []neuroseal.GroupRow{
		{ID: "a", Kind: "vo", Classes: 64, Factors: 1}, {ID: "b", Kind: "ffn", Classes: 384, Factors: 3}, {ID: "c", Kind: "vo", Classes: 64, Factors: 1},
	}
	plan := []manifest.Group{
		{ID: "a", Classes: 1, Offsets: []int{0}, Lo: 2, Hi: 3}, {ID: "b", Classes: 3, Offsets: []int{0}}, {ID: "c", Classes: 1, Offsets: []int{-4, 4}},
	}
	want := []kindRow{{"vo", 2, 128, 2, 2, -4, 4}, {"ffn", 1, 384, 0, 0, 0, 0}}
	if got := kinds(rows, plan); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	var b strings.Builder
	writeKinds(&b, want, true)
	if !strings.Contains(b.String(), "no room") || !strings.Contains(b.String(), "-4 … 4") {
		t.Error(b.String())
	}
}

func TestSourceDate(t *testing.T) {
	for text, ok := range map[string]bool{"": true, "0": true, "1700000000": true, "-1": false, "now": false, "99999999999999": false} {
		t.Setenv("SOURCE_DATE_EPOCH", text)
		if _, err := sourceDate(); (err == nil) != ok || !ok && fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", text, err)
		}
	}
}
