//go:build interop

package safetensors

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/dtype"
)

// python runs a program with the interpreter that NEUROSEAL_PYTHON names and
// returns what it prints.
func python(t *testing.T, program string, args ...string) string {
	t.Helper()
	exe := os.Getenv("NEUROSEAL_PYTHON")
	if exe == "" {
		exe = "python3"
	}
	if out, err := exec.Command(exe, "-c", "import torch, safetensors.torch").CombinedOutput(); err != nil {
		t.Skipf("%s has no torch and safetensors (set NEUROSEAL_PYTHON): %v %s", exe, err, out)
	}
	out, err := exec.Command(exe, append([]string{"-c", program}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

const writeAll = `
import sys, torch, safetensors.torch as st
d = {}
for i, (name, t) in enumerate(st._TYPES.items()):
    n = 8 * torch.empty(0, dtype=t).element_size()
    d["t." + name] = torch.full((n,), i & 1, dtype=torch.uint8).view(t).reshape(2, 4)
d["scalar"] = torch.tensor(1.5)
d["empty"] = torch.zeros(0, 3)
d["é\n\"/<\x7f"] = torch.arange(5)
st.save_file(d, sys.argv[1], {"format": "pt"})
`

// TestReadsAndRewritesPython: every type that Python writes is read, and Write
// gives the same bytes from the same tensors.
func TestReadsAndRewritesPython(t *testing.T) {
	path := filepath.Join(t.TempDir(), "py.safetensors")
	python(t, writeAll, path)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := parse(file)
	if err != nil {
		t.Fatal(err)
	}
	var tensors []Tensor
	for _, x := range h.Tensors {
		tensors = append(tensors, Tensor{x, file[h.DataStart+x.Begin : h.DataStart+x.End]})
	}
	var again bytes.Buffer
	if err := Write(&again, h.Metadata, tensors); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Bytes(), file) {
		t.Errorf("wrote\n%q\nPython wrote\n%q", again.Bytes()[:h.DataStart], h.Raw)
	}
}

const readAll = `
import sys, hashlib
from safetensors import deserialize
with open(sys.argv[1], "rb") as f:
    for name, t in sorted(deserialize(f.read())):
        print(name, t["dtype"], list(t["shape"]), hashlib.sha256(bytes(t["data"])).hexdigest())
`

// TestPythonReads: the reference implementation reads every type that Write
// writes.
func TestPythonReads(t *testing.T) {
	var tensors []Tensor
	var want []string
	for d := dtype.BOOL; d <= dtype.C64; d++ {
		x := Tensor{TensorInfo{Name: fmt.Sprintf("%02d", d), DType: d, Shape: []int{2, 4}}, bytes.Repeat([]byte{byte(d) & 1}, d.Bits())}
		tensors = append(tensors, x)
		sum := sha256.Sum256(x.Data)
		want = append(want, fmt.Sprintf("%s %s [2, 4] %s", x.Name, d, hex.EncodeToString(sum[:])))
	}
	path := filepath.Join(t.TempDir(), "go.safetensors")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(f, map[string]string{"format": "pt"}, tensors); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(python(t, readAll, path)); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}
