package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/safetensors"
)

// put writes a file below dir.
func put(t testing.TB, dir, rel string, content []byte) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(rel))
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// counting returns n bytes that tell positions apart.
func counting(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7) + byte(i>>8) + seed
	}
	return b
}

func tensor(name string, d dtype.DType, shape ...int) safetensors.Tensor {
	n := d.Bits()
	for _, s := range shape {
		n *= s
	}
	return safetensors.Tensor{
		TensorInfo: safetensors.TensorInfo{Name: name, DType: d, Shape: shape},
		Data:       counting(n/8, name[len(name)-1]),
	}
}

func shardFile(t testing.TB, tensors ...safetensors.Tensor) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := safetensors.Write(&b, map[string]string{"format": "pt"}, tensors); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func indexFile(t testing.TB, weightMap map[string]string) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"metadata": map[string]any{"total_size": 0}, "weight_map": weightMap})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	shard1 = "model-00001-of-00002.safetensors"
	shard2 = "model-00002-of-00002.safetensors"
)

// makeFolder writes a checkpoint of two shards and some other files. The first
// shard has more than one chunk, and tensors that begin at odd offsets.
func makeFolder(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	put(t, dir, shard1, shardFile(t,
		tensor("a.big", dtype.BF16, 700, 1000), tensor("a.norm", dtype.F32, 3), tensor("a.scalar", dtype.F16),
		tensor("a.empty", dtype.F32, 0, 4), tensor("a.odd", dtype.U8, 3), tensor("a.six", dtype.F6E2M3, 4, 300001),
		tensor("a.four", dtype.F4, 2, 5)))
	put(t, dir, shard2, shardFile(t, tensor("b.w", dtype.F64, 10, 10), tensor("b.v", dtype.I8, 999)))
	put(t, dir, indexName, indexFile(t, map[string]string{"a.big": shard1, "a.norm": shard1, "a.scalar": shard1, "a.empty": shard1,
		"a.odd": shard1, "a.six": shard1, "a.four": shard1, "b.w": shard2, "b.v": shard2}))
	put(t, dir, "config.json", []byte(`{"model_type":"llama"}`))
	put(t, dir, "tokenizer.json", []byte(`{}`))
	put(t, dir, "sub/empty.txt", nil)
	return dir
}

// digests returns the SHA-256 of every file below dir, nil if it is missing.
func digests(t testing.TB, dir string) map[string]string {
	t.Helper()
	if _, err := os.Lstat(dir); err != nil {
		return nil
	}
	m := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		m[filepath.ToSlash(rel)] = hexSum(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func hexSum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func open(t testing.TB, path string) *Checkpoint {
	t.Helper()
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
