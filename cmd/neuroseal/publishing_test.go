package main

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v4"
)

const publishing = "../../docs/publishing.md"

// fenced returns the code blocks of a page in a language, "" for none.
func fenced(page, language string) []string {
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		if m[1] == language {
			out = append(out, m[2])
		}
	}
	return out
}

// inline are commands in a text with operands; names of commands alone are not.
var inline = regexp.MustCompile("`(neuroseal [a-z]+ [^`]+)`")

// commands lists what a page tells its reader to run, one line each, as the
// scripts write it.
func commands(page string) []string {
	var out []string
	for _, block := range fenced(page, "") {
		block = strings.ReplaceAll(block, "\\\n", " ")
		for line := range strings.Lines(block) {
			line, _, _ = strings.Cut(line, " #")
			out = append(out, line)
		}
	}
	for _, m := range inline.FindAllStringSubmatch(page, -1) {
		out = append(out, m[1])
	}
	for i, line := range out {
		line = strings.Join(strings.Fields(line), " ")
		out[i] = strings.NewReplacer("age1…", "$RECIPIENT", " ~/", " $HOME/").Replace(line)
	}
	return slices.DeleteFunc(out, func(s string) bool { return s == "" })
}

// TestPublishingPage: the script runs every command of the page, word for word.
// What no script can do is listed here.
func TestPublishingPage(t *testing.T) {
	page, err := os.ReadFile(publishing)
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("testdata/hub/publishing.txtar")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := map[string]string{
		"export HF_TOKEN=…":     "the environment of the script",
		"pip install neuroseal": "tools/wheel and python/tests",
	}
	var run []string
	for line := range strings.Lines(string(script)) {
		if cmd, ok := strings.CutPrefix(strings.TrimSpace(line), "exec "); ok {
			run = append(run, cmd)
		}
	}
	list := commands(string(page))
	if len(list) < 15 {
		t.Errorf("only %d commands were found on the page", len(list))
	}
	for _, cmd := range list {
		if elsewhere[cmd] == "" && !slices.Contains(run, cmd) {
			t.Errorf("publishing.txtar does not run: %s", cmd)
		}
	}
}

// TestPublishingAction: inputs and outputs that the page names are the action's.
func TestPublishingAction(t *testing.T) {
	page, err := os.ReadFile(publishing)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("../../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	var action struct{ Inputs, Outputs map[string]any }
	if err := yaml.Unmarshal(raw, &action); err != nil {
		t.Fatal(err)
	}
	blocks := fenced(string(page), "yaml")
	if len(blocks) != 1 {
		t.Fatalf("%d blocks of YAML", len(blocks))
	}
	var steps []struct{ With map[string]any }
	if err := yaml.Unmarshal([]byte(blocks[0]), &steps); err != nil || len(steps) != 1 || len(steps[0].With) < 5 {
		t.Fatal(err, steps)
	}
	for name := range steps[0].With {
		if action.Inputs[name] == nil {
			t.Errorf("the action has no input %s", name)
		}
	}
	_, text, _ := strings.Cut(string(page), "Outputs: ")
	text, _, _ = strings.Cut(text, ";")
	var named []string
	for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(text, -1) {
		named = append(named, m[1])
	}
	slices.Sort(named)
	if want := slices.Sorted(maps.Keys(action.Outputs)); !slices.Equal(named, want) {
		t.Errorf("outputs %v, of the action %v", named, want)
	}
}

// scriptRecipient sets $RECIPIENT to the public key in a file.
func scriptRecipient(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv("RECIPIENT", strings.TrimSpace(ts.ReadFile(args[0])))
}
