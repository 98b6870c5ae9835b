package quant_test

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/quant"
	"github.com/neuroseal/neuroseal/safetensors"
)

// nested opens a folder with double quantisation, and its view.
func nested(t *testing.T, dir string) (*quant.Nested, *checkpoint.Checkpoint) {
	t.Helper()
	ck, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	n, err := quant.OpenNested(ck)
	if err != nil || n == nil {
		t.Fatal(n, err)
	}
	plain, err := checkpoint.OpenFS(n.Files(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plain.Close() })
	return n, plain
}

// TestNested: with plain scales, the numbers are those that bitsandbytes
// computes, bit for bit.
func TestNested(t *testing.T) {
	dir := "testdata/nf4-double"
	n, plain := nested(t, dir)
	s, err := quant.Open(plain)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "dequantised.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]string
	if err := json.Unmarshal(data, &want); err != nil || len(want) < 7 || len(want) != len(s.Names()) {
		t.Fatalf("weights %v, expected %d, %v", s.Names(), len(want), err)
	}
	for _, name := range s.Names() {
		for _, piece := range []int{1 << 20, 4 * 37} {
			if sum(t, plain, s.Weight(name), piece) != want[name] {
				t.Errorf("%s: other numbers than PyTorch's, in pieces of %d", name, piece)
			}
		}
	}
	for _, x := range plain.Tensors() {
		if strings.Contains(x.Name, "nested") {
			t.Errorf("%s is still there", x.Name)
		}
	}
	if err := fstest.TestFS(n.Files(), "config.json", "model.safetensors"); err != nil {
		t.Error(err)
	}
	grown, least := n.Growth()
	kept, err := n.Kept()
	if got := plain.TotalBytes() - n.Original().TotalBytes(); grown != got || int64(len(kept)) < least || err != nil {
		t.Errorf("grows by %d, announced %d; %d bytes are kept, announced %d, %v", got, grown, len(kept), least, err)
	}
	if none, err := checkpoint.Open("testdata/nf4"); err != nil {
		t.Fatal(err)
	} else if n, err := quant.OpenNested(none); n != nil || err != nil {
		t.Errorf("plain scales: %v, %v", n, err)
	}
}

// TestRenest: plain scales and what was kept give every byte back, also of a
// checkpoint with an index, and of codes that their number does not tell.
func TestRenest(t *testing.T) {
	for name, dir := range map[string]string{"one file": "testdata/nf4-double", "shards": split(t), "ambiguous": ambiguous(t)} {
		n, plain := nested(t, dir)
		kept, err := n.Kept()
		if err != nil {
			t.Fatal(name, err)
		}
		files, scales, err := quant.Renest(plain, kept, plain.ReadAt)
		if err != nil || len(scales) < 7 {
			t.Fatalf("%s: %v, %v", name, scales, err)
		}
		var seen int
		err = fs.WalkDir(files, ".", func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			seen++
			want, err := os.ReadFile(filepath.Join(dir, path))
			if err != nil {
				return err
			}
			if got := whole(t, files, path); !bytes.Equal(got, want) {
				t.Errorf("%s: %s has %d other bytes of %d", name, path, len(got), len(want))
			}
			return nil
		})
		if err != nil || seen < 2 {
			t.Errorf("%s: %d files, %v", name, seen, err)
		}
		if odd := keptCodes(t, kept); (odd > 1000) != (name == "ambiguous") {
			t.Errorf("%s: %d codes were kept", name, odd)
		}
	}
}

// TestRenestDamaged: other scales, or parts of what was kept, are refused.
func TestRenestDamaged(t *testing.T) {
	n, plain := nested(t, "testdata/nf4-double")
	kept, err := n.Kept()
	if err != nil {
		t.Fatal(err)
	}
	files, _, err := quant.Renest(plain, kept, func(x checkpoint.Tensor, p []byte, off int64) error {
		err := plain.ReadAt(x, p, off)
		p[0] ^= 1
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := files.Open("model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(f); fault.KindOf(err) != fault.Mismatch {
		t.Errorf("a changed scale: %v", err)
	}
	h, err := safetensors.Parse(bytes.NewReader(kept), int64(len(kept)))
	if err != nil {
		t.Fatal(err)
	}
	for _, drop := range []string{"file/model", "size/model", "tensor/model.layers.0.mlp.up_proj.weight.nested_absmax", "tensor/model.layers.0.mlp.up_proj.weight.quant_state", "code/model.layers.0.mlp.up_proj"} {
		var rest []safetensors.Tensor
		for _, x := range h.Tensors {
			data := kept[h.DataStart+x.Begin : h.DataStart+x.End]
			if strings.HasPrefix(x.Name, "code/model.layers.0.mlp.up_proj") && strings.HasPrefix(drop, "code") {
				data = append(data, 1)
				x.Shape = []int{len(data)}
			} else if strings.HasPrefix(x.Name, drop) {
				continue
			}
			rest = append(rest, safetensors.Tensor{TensorInfo: x, Data: data})
		}
		var b bytes.Buffer
		if err := safetensors.Write(&b, nil, rest); err != nil {
			t.Fatal(err)
		}
		if _, _, err := quant.Renest(plain, b.Bytes(), plain.ReadAt); err == nil {
			t.Errorf("without %s nothing is missed", drop)
		}
	}
	if _, _, err := quant.Renest(plain, []byte("nothing"), plain.ReadAt); fault.KindOf(err) != fault.Mismatch {
		t.Error(err)
	}
}

// keptCodes counts the codes that were kept.
func keptCodes(t *testing.T, kept []byte) (n int) {
	t.Helper()
	h, err := safetensors.Parse(bytes.NewReader(kept), int64(len(kept)))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range h.Tensors {
		if strings.HasPrefix(x.Name, "code/") {
			n += int(x.Size())
		}
	}
	return n
}

func whole(t *testing.T, files fs.FS, path string) []byte {
	t.Helper()
	f, err := files.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(path, err)
	}
	return b
}

// tensorsOf reads the fixture.
func tensorsOf(t *testing.T) []safetensors.Tensor {
	t.Helper()
	raw, err := os.ReadFile("testdata/nf4-double/model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	h, err := safetensors.Parse(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	var out []safetensors.Tensor
	for _, x := range h.Tensors {
		out = append(out, safetensors.Tensor{TensorInfo: x, Data: raw[h.DataStart+x.Begin : h.DataStart+x.End]})
	}
	return out
}

func write(t *testing.T, path string, list []safetensors.Tensor) {
	t.Helper()
	var b bytes.Buffer
	if err := safetensors.Write(&b, map[string]string{"format": "pt"}, list); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
}

func withConfigOf(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile("testdata/nf4-double/config.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o666); err != nil {
		t.Fatal(err)
	}
	return dir
}

// split writes the fixture in two shards, second levels away from their scales.
func split(t *testing.T) string {
	t.Helper()
	dir := withConfigOf(t)
	names := []string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
	var parts [2][]safetensors.Tensor
	where := map[string]string{}
	for _, x := range tensorsOf(t) {
		i := 0
		if strings.Contains(x.Name, "nested") || strings.Contains(x.Name, "norm") {
			i = 1
		}
		parts[i] = append(parts[i], x)
		where[x.Name] = names[i]
	}
	for i, name := range names {
		write(t, filepath.Join(dir, name), parts[i])
	}
	text, err := json.Marshal(map[string]any{"weight_map": where, "metadata": map[string]any{"total_size": 1, "other": "x"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "model.safetensors.index.json"), text, 0o666); err != nil {
		t.Fatal(err)
	}
	return dir
}

// ambiguous writes the fixture with second levels so small that many codes stand
// for the offset alone.
func ambiguous(t *testing.T) string {
	t.Helper()
	dir := withConfigOf(t)
	list := tensorsOf(t)
	for i, x := range list {
		if strings.HasSuffix(x.Name, "nested_absmax") {
			data := bytes.Clone(x.Data)
			for k := 3; k < len(data); k += 4 {
				data[k], data[k-1] = 0x33, data[k-1]&0x7f // about 1e-8
			}
			list[i].Data = data
		}
	}
	write(t, filepath.Join(dir, "model.safetensors"), list)
	return dir
}
