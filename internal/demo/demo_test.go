package demo

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/demo/text"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// record is the part of train.json that can be checked without training.
type record struct {
	Text struct {
		Command string
		Bytes   int
		SHA256  string
	}
	Heldout float64                         `json:"heldout_nats_per_byte"`
	Unigram float64                         `json:"unigram_nats_per_byte"`
	Samples []struct{ Prompt, Text string } `json:"greedy_samples"`
	SHA256  map[string]string
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := fs.ReadFile(Files(), name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func readRecord(t *testing.T) record {
	t.Helper()
	var r record
	if err := json.Unmarshal(read(t, "train.json"), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func TestFiles(t *testing.T) {
	var got []string
	var size int64
	err := fs.WalkDir(Files(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		got, size = append(got, path), size+info.Size()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := slices.Sorted(slices.Values(names)); !slices.Equal(got, want) {
		t.Errorf("embedded are %q, Write writes %q", got, want)
	}
	if size > 2_000_000 {
		t.Errorf("%d bytes are embedded, more than 2 MB", size)
	}
}

func TestRecordNamesTheseFiles(t *testing.T) {
	r := readRecord(t)
	for _, name := range []string{"config.json", "generation_config.json", "model.safetensors"} {
		if got := digest(read(t, name)); got != r.SHA256[name] {
			t.Errorf("%s has SHA-256 %s, train.json says %s", name, got, r.SHA256[name])
		}
	}
	for _, s := range r.Samples {
		if !strings.HasPrefix(s.Text, s.Prompt) || len(s.Text) == len(s.Prompt) {
			t.Errorf("the sample %q does not continue its prompt %q", s.Text, s.Prompt)
		}
	}
}

// The model can be made again only while its text can.
func TestRecordNamesThisText(t *testing.T) {
	r := readRecord(t)
	var domain string
	var seed uint64
	var n int
	const command = "go run ./internal/demo/gentext -domain %s -seed %d -bytes %d"
	if _, err := fmt.Sscanf(r.Text.Command, command, &domain, &seed, &n); err != nil {
		t.Fatalf("reading %q: %v", r.Text.Command, err)
	}
	if got := digest(text.Generate(domain, seed, n)); got != r.Text.SHA256 || n != r.Text.Bytes {
		t.Errorf("%d bytes of text have SHA-256 %s, train.json says %d bytes and %s", n, got, r.Text.Bytes, r.Text.SHA256)
	}
}

func TestModelHasLearned(t *testing.T) {
	if r := readRecord(t); r.Heldout <= 0 || r.Heldout > r.Unigram/4 {
		t.Errorf("held-out loss is %v nats/byte, that of the unigram model %v", r.Heldout, r.Unigram)
	}
}

// The shapes are the ones that other parts of the project rely on.
func TestTensors(t *testing.T) {
	data := read(t, "model.safetensors")
	var header map[string]json.RawMessage
	end := 8 + binary.LittleEndian.Uint64(data)
	if err := json.Unmarshal(data[8:end], &header); err != nil {
		t.Fatal(err)
	}
	delete(header, "__metadata__")
	if len(header) != 3+4*9 {
		t.Errorf("%d tensors, want 39", len(header))
	}
	for name, shape := range map[string][]int{
		"model.embed_tokens.weight":              {128, 128},
		"model.layers.0.self_attn.q_proj.weight": {128, 128},
		"model.layers.1.self_attn.k_proj.weight": {64, 128},
		"model.layers.2.mlp.up_proj.weight":      {384, 128},
		"model.layers.3.mlp.down_proj.weight":    {128, 384},
		"model.norm.weight":                      {128},
		"lm_head.weight":                         {128, 128},
	} {
		var tensor struct {
			Dtype string
			Shape []int
		}
		if err := json.Unmarshal(header[name], &tensor); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if tensor.Dtype != "BF16" || !slices.Equal(tensor.Shape, shape) {
			t.Errorf("%s is %s %v, want BF16 %v", name, tensor.Dtype, tensor.Shape, shape)
		}
	}
}

func TestWrite(t *testing.T) {
	existing := t.TempDir()
	for _, dir := range []string{existing, filepath.Join(existing, "a", "new", "one")} {
		// The second case makes the first folder non-empty, so order matters.
		if err := Write(dir); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != len(names) {
			t.Errorf("%d files written, want %d", len(entries), len(names))
		}
		for _, name := range names {
			got, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if digest(got) != digest(read(t, name)) {
				t.Errorf("%s was not written as it is embedded", name)
			}
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	full, file := t.TempDir(), filepath.Join(t.TempDir(), "file")
	mine := filepath.Join(full, "mine")
	for _, path := range []string{mine, file} {
		if err := os.WriteFile(path, []byte("keep"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{full, file} {
		err := Write(dir)
		if fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
			t.Errorf("Write(%s) = %v, want a usage error with a hint", dir, err)
		}
	}
	for _, path := range []string{mine, file} {
		if got, err := os.ReadFile(path); err != nil || string(got) != "keep" {
			t.Errorf("%s is now %q, %v", path, got, err)
		}
	}
	if entries, err := os.ReadDir(full); err != nil || len(entries) != 1 {
		t.Errorf("the refused folder holds %v, %v", entries, err)
	}
}
