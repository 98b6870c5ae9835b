//go:build interop

package interop_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

// cards are model cards as authors write them, and the metadata that the hub's
// client must find in them once they are sealed; nil: none, as before.
var cards = map[string]struct {
	text string
	want map[string]any
}{
	"none":     {"", map[string]any{"tags": []any{"neuroseal", "sealed"}, "base_model": "ann/tiny", "base_model_relation": "finetune"}},
	"plain":    {"# M\n", map[string]any{"tags": []any{"neuroseal", "sealed"}, "base_model": "ann/tiny", "base_model_relation": "finetune"}},
	"usual":    {"---\nlicense: mit\nlibrary_name: transformers\ntags:\n- a\n---\n# M\n", map[string]any{"license": "mit", "library_name": "transformers", "tags": []any{"a", "neuroseal", "sealed"}, "base_model": "ann/tiny"}},
	"brackets": {"---\ntags: [a, 'b]'] # c\nbase_model: x/y\n---\n# M\n", map[string]any{"tags": []any{"a", "b]", "neuroseal", "sealed"}, "base_model": "x/y"}},
	"windows":  {"---\r\nlicense: mit\r\n---\r\n# M", map[string]any{"license": "mit", "tags": []any{"neuroseal", "sealed"}}},
	"literal":  {"---\nmodel_name: |+\n  a\n\n---\n# M\n\n---\n", map[string]any{"model_name": "a\n\n", "tags": []any{"neuroseal", "sealed"}}},
	"empty":    {"---\n---\n# M\n", map[string]any{"tags": []any{"neuroseal", "sealed"}}},
	"unclosed": {"---\nlicense: mit\n# M\n", map[string]any{}},
	"a text":   {"Title\n---\nlicense: [\n---\n", map[string]any{"tags": []any{"neuroseal", "sealed"}}},
}

// TestCards: huggingface_hub reads the model cards of sealed folders.
func TestCards(t *testing.T) {
	s := needPython(t)
	work := t.TempDir()
	var paths []string
	names := slices.Sorted(maps.Keys(cards))
	for _, name := range names {
		src, dst := filepath.Join(work, name), filepath.Join(work, name+"-sealed")
		if err := os.CopyFS(src, os.DirFS("../arch/testdata/llama")); err != nil {
			t.Fatal(err)
		}
		conf, err := os.ReadFile(filepath.Join(src, "config.json"))
		if err == nil {
			conf = bytes.Replace(conf, []byte("{"), []byte(`{"_name_or_path": "ann/tiny",`), 1)
			err = os.WriteFile(filepath.Join(src, "config.json"), conf, 0o666)
		}
		if c := cards[name]; err == nil && c.text != "" {
			err = os.WriteFile(filepath.Join(src, "README.md"), []byte(c.text), 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(s.command, "lock", src, dst).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		paths = append(paths, filepath.Join(dst, "README.md"))
	}
	jobs, _ := json.Marshal(paths)
	cmd := exec.Command(s.python, "cards.py")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(jobs), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	for i := 0; ; i++ {
		var got struct {
			Path, Error      string
			Metadata, Record map[string]any
			Text             bool
		}
		if err := dec.Decode(&got); err == io.EOF {
			if i != len(names) {
				t.Errorf("%d cards were read", i)
			}
			return
		} else if err != nil {
			t.Fatal(err)
		}
		name := names[i]
		if got.Error != "" || !got.Text || len(got.Record["original_digest"].(string)) != 71 || got.Record["profile"] != "portable" {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		for k, v := range cards[name].want {
			if !reflect.DeepEqual(got.Metadata[k], v) {
				t.Errorf("%s: %s is %v, want %v", name, k, got.Metadata[k], v)
			}
		}
	}
}
