package gguf

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Extension is the end of a file's name.
const Extension = ".gguf"

// Model is a model in one file, or in several that llama.cpp's gguf-split made.
// It is immutable.
type Model struct {
	path  string
	names []string // of the files, in their order
	files []*File
	open  []*os.File
	index map[string][2]int // file and position of each tensor
}

// Is reports whether path names a GGUF file, or a folder that holds some and no
// safetensors.
func Is(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return err == nil && strings.EqualFold(filepath.Ext(path), Extension)
	}
	list, _ := os.ReadDir(path)
	has := func(ext string) bool {
		return slices.ContainsFunc(list, func(e os.DirEntry) bool { return !e.IsDir() && strings.EqualFold(filepath.Ext(e.Name()), ext) })
	}
	return has(Extension) && !has(".safetensors")
}

// splitName is how the files of a split model are called; numbers begin with 1.
var splitName = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})\.gguf$`)

// maxSplit bounds the number of a model's files.
const maxSplit = 4096

// Open opens a model: its file, any one of its files if it is split, or the
// folder that holds nothing but its files and others that are no GGUF. A file
// that is missing or of another model gives fault.Mismatch.
func Open(path string) (*Model, error) {
	names, err := fileNames(path)
	if err != nil {
		return nil, err
	}
	m := &Model{path: path, names: names, index: map[string][2]int{}}
	dir := path
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		dir = filepath.Dir(path)
	}
	for i, name := range names {
		if err := m.add(filepath.Join(dir, name), i); err != nil {
			m.Close()
			return nil, fault.Wrap(fault.KindOf(err), err, "%s", filepath.Join(dir, name))
		}
	}
	if err := m.checkSplit(); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// fileNames lists the files of the model at path.
func fileNames(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "opening model")
	}
	if !info.IsDir() {
		return siblings(filepath.Base(path))
	}
	list, err := os.ReadDir(path)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "opening model")
	}
	var names []string
	for _, e := range list {
		if strings.EqualFold(filepath.Ext(e.Name()), Extension) && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		return nil, fault.New(fault.Unsupported, "%s holds no GGUF", path)
	}
	all, err := siblings(names[0])
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if !slices.Contains(all, n) {
			return nil, fault.New(fault.Usage, "%s holds several models: %s and %s", path, names[0], n).WithHint("name one file")
		}
	}
	return all, nil
}

// siblings lists the files of the model to which a file belongs.
func siblings(base string) ([]string, error) {
	p := splitName.FindStringSubmatch(base)
	if p == nil {
		return []string{base}, nil
	}
	n, _ := strconv.Atoi(p[3])
	if n < 1 || n > maxSplit {
		return nil, fault.New(fault.Unsupported, "%s: a model in %d files", base, n)
	}
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s-%05d-of-%05d%s", p[1], i+1, n, Extension)
	}
	return out, nil
}

func (m *Model) add(file string, i int) error {
	f, err := os.Open(file)
	if os.IsNotExist(err) && i > 0 {
		return fault.New(fault.Mismatch, "file %d of %d is missing", i+1, len(m.names)).WithHint("the download is incomplete; fetch the missing file")
	}
	if err != nil {
		return fault.Wrap(fault.General, err, "opening model")
	}
	m.open = append(m.open, f)
	info, err := f.Stat()
	if err != nil {
		return fault.Wrap(fault.General, err, "opening model")
	}
	h, err := Parse(f, info.Size())
	if err != nil {
		return err
	}
	m.files = append(m.files, h)
	for k, t := range h.Tensors {
		if _, dup := m.index[t.Name]; dup {
			return fault.New(fault.Mismatch, "tensor %q stands in two files", t.Name)
		}
		m.index[t.Name] = [2]int{i, k}
	}
	return nil
}

// checkSplit demands that the files agree on how many they are.
func (m *Model) checkSplit() error {
	for i, f := range m.files {
		count, split := f.Number("split.count")
		if !split && len(m.files) == 1 {
			continue
		}
		no, _ := f.Number("split.no")
		tensors, counted := f.Number("split.tensors.count")
		switch {
		case int(count) != len(m.files) && !(count == 0 && len(m.files) == 1):
			return fault.New(fault.Mismatch, "%s belongs to a model in %v files, and %d are named like it", m.names[i], count, len(m.files)).
				WithHint("keep the names that gguf-split gave the files")
		case int(no) != i:
			return fault.New(fault.Mismatch, "%s is file %v by its metadata", m.names[i], no+1)
		case counted && int(tensors) != len(m.index):
			return fault.New(fault.Mismatch, "%s belongs to a model of %v tensors, and there are %d", m.names[i], tensors, len(m.index))
		}
	}
	return nil
}

// Path returns what Open was given.
func (m *Model) Path() string { return m.path }

// Names returns the names of the model's files, in their order.
func (m *Model) Names() []string { return m.names }

// Files returns the headers of the model's files; the first has the metadata.
func (m *Model) Files() []*File { return m.files }

// Header returns the first file's header, which holds the model's metadata.
func (m *Model) Header() *File { return m.files[0] }

// Tensor returns the tensor of that name.
func (m *Model) Tensor(name string) (Tensor, bool) {
	at, ok := m.index[name]
	if !ok {
		return Tensor{}, false
	}
	return m.files[at[0]].Tensors[at[1]], true
}

// Close closes the files.
func (m *Model) Close() error {
	var first error
	for _, f := range m.open {
		if err := f.Close(); first == nil {
			first = err
		}
	}
	return first
}

// plain are the types of single elements.
var plain = map[Type]dtype.DType{
	F32: dtype.F32, F16: dtype.F16, BF16: dtype.BF16, F64: dtype.F64, I8: dtype.I8, I16: dtype.I16, I32: dtype.I32, I64: dtype.I64,
}

// Checkpoint shows the model as a checkpoint, with tensors of quantised types as
// such (checkpoint.Tensor.Format). It has files of its own and outlives the model.
func (m *Model) Checkpoint() (*checkpoint.Checkpoint, error) {
	var tensors []checkpoint.Tensor
	for i, f := range m.files {
		for _, t := range f.Tensors {
			x := checkpoint.Tensor{Name: t.Name, DType: plain[t.Type], Shape: t.Shape(), Shard: i, Offset: t.Offset, Size: t.Size}
			if t.Type.Quantised() {
				x.Format = t.Type
			}
			tensors = append(tensors, x)
		}
	}
	return checkpoint.Assemble(m.path, m.names, tensors)
}

// maxFloats bounds what Floats reads, in elements.
const maxFloats = 1 << 20

// Floats reads a small F32 tensor, such as the factors of a rotary embedding.
func (m *Model) Floats(name string) ([]float32, error) {
	at, ok := m.index[name]
	if !ok {
		return nil, fault.New(fault.Mismatch, "no tensor %q", name)
	}
	t := m.files[at[0]].Tensors[at[1]]
	if t.Type != F32 || t.Size > 4*maxFloats {
		return nil, fault.New(fault.Unsupported, "tensor %q: %d bytes of %v, expected a few numbers in F32", name, t.Size, t.Type)
	}
	b := make([]byte, t.Size)
	if _, err := m.open[at[0]].ReadAt(b, t.Offset); err != nil {
		return nil, fault.Wrap(fault.General, err, "reading tensor %q", name)
	}
	out := make([]float32, t.Size/4)
	dtype.ToFloat32(dtype.F32, out, b)
	return out, nil
}
