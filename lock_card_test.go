package neuroseal

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/modelcard"
)

// TestModelCard: whatever stands in a model card, sealing adds to it, the
// manifest fits the schema, and unlocking restores every byte.
func TestModelCard(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789abcdef"), modelcard.MaxSize/16)
	section := "Sealed with NeuroSeal"
	for name, c := range map[string]struct {
		files  map[string]string // beside the model
		notice string
		left   bool // the card stays as it is
	}{
		"none":             {},
		"empty":            {files: map[string]string{"README.md": ""}},
		"usual":            {files: map[string]string{"README.md": "---\nlicense: mit\n---\n# M\n"}},
		"windows":          {files: map[string]string{"README.md": "\ufeff---\r\ntags: [a]\r\n---\r\n# M"}},
		"not UTF-8":        {files: map[string]string{"README.md": "---\nlicense: mit\n---\nM\xfcller\x00\n"}, notice: "not UTF-8"},
		"broken":           {files: map[string]string{"README.md": "---\na: [\n---\n"}, notice: "not valid YAML"},
		"largest":          {files: map[string]string{"README.md": string(long)}},
		"too long":         {files: map[string]string{"README.md": string(long) + "x"}, notice: "too long", left: true},
		"other case":       {files: map[string]string{"readme.md": "# M\n"}, notice: "readme.md", left: true},
		"folder":           {files: map[string]string{"README.md/x": "# M\n"}, notice: "README.md/x", left: true},
		"sealed before":    {files: map[string]string{"README.md": "# M\n\n" + modelcard.SealBegin + "\nold\n" + modelcard.SealEnd + "\nrest\n"}},
		"measured before":  {files: map[string]string{"README.md": "# M\n\n" + modelcard.ArenaBegin + "\nold\n" + modelcard.ArenaEnd + "\n"}},
		"split characters": {files: map[string]string{"README.md": "# M\n" + modelcard.SealBegin + "\né\n" + modelcard.SealEnd + "\nè"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			src, dst, back := filepath.Join(dir, "src"), filepath.Join(dir, "dst"), filepath.Join(dir, "back")
			if err := os.CopyFS(src, os.DirFS("arch/testdata/llama")); err != nil {
				t.Fatal(err)
			}
			for f, text := range c.files {
				p := filepath.Join(src, filepath.FromSlash(f))
				err := os.MkdirAll(filepath.Dir(p), 0o777)
				if err == nil {
					err = os.WriteFile(p, []byte(text), 0o666)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			var notices []string
			o := LockOptions{Source: src, Output: dst, Key: keys.SealKey{1}, CardSection: []byte("measured"), Notice: func(s string) { notices = append(notices, s) }}
			if _, err := Lock(context.Background(), o); err != nil {
				t.Fatal(err)
			}
			if all := strings.Join(notices, "\n"); !strings.Contains(all, c.notice) || (c.notice == "") != (all == "") {
				t.Errorf("notices %q", all)
			}
			card, err := os.ReadFile(filepath.Join(dst, modelcard.Name))
			if c.left != !strings.Contains(string(card), section) || !c.left && (err != nil || strings.Count(string(card), section) != 1 || strings.Count(string(card), "measured") != 1) {
				t.Errorf("the card: %v, %.300q", err, card)
			}
			data, err := os.ReadFile(filepath.Join(dst, manifest.Name))
			if err != nil {
				t.Fatal(err)
			}
			validate(t, schema(t), data)
			if len(data) > 1<<20 {
				t.Errorf("the manifest has %d bytes", len(data))
			}
			v, err := Verify(context.Background(), VerifyOptions{Sealed: dst, Against: src})
			if err != nil || !v.OK {
				t.Errorf("%+v, %v", v, err)
			}
			if _, err := Unlock(context.Background(), UnlockOptions{Source: dst, Output: back, Key: fixedKey(o.Key)}); err != nil {
				t.Fatal(err)
			}
			sameFolder(t, src, back)
		})
	}
}

// TestModelCardFile: a model file on its own gets no card.
func TestModelCardFile(t *testing.T) {
	dir := t.TempDir()
	o := LockOptions{Source: "testdata/gguf/demo-Q4_0.gguf", Output: filepath.Join(dir, "sealed.gguf"), Key: keys.SealKey{2}}
	if _, err := Lock(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestUndoneCard: a model that is no longer sealed does not say that it is.
func TestUndoneCard(t *testing.T) {
	const text = "---\nlicense: mit\n---\n# M\n"
	for _, before := range []string{text, ""} {
		dir := t.TempDir()
		src, dst, out := filepath.Join(dir, "src"), filepath.Join(dir, "dst"), filepath.Join(dir, "out")
		err := os.CopyFS(src, os.DirFS("arch/testdata/llama"))
		if err == nil && before != "" {
			err = os.WriteFile(filepath.Join(src, modelcard.Name), []byte(before), 0o666)
		}
		if err == nil {
			_, err = Lock(context.Background(), LockOptions{Source: src, Output: dst, Key: keys.SealKey{1}})
		}
		if err == nil {
			_, err = Undo(context.Background(), UndoOptions{Source: dst, Output: out})
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(out, modelcard.Name)); string(got) != before || (err != nil) != (before == "") {
			t.Errorf("the card became %q (%v)", got, err)
		}
	}
}
