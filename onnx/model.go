// Package onnx reads ONNX models: as networks, lowered to package graph, and as
// checkpoints, whose initialisers are tensors at known places of model.onnx and
// its external data files and can be edited in place.
//
// Weights are located, never loaded. Everything else is bounded by maxMemory.
// Source of the format: onnx.proto3 (ONNX IR version 13) and Operators.md of
// ONNX 1.20, opsets 13 to 23; onnxruntime's contributed operators.
package onnx

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Extension ends the name of a model file.
const Extension = ".onnx"

// Model is an open ONNX model. It is immutable; its methods may be called from
// several goroutines at once, except that Graph is called by one at a time.
type Model struct {
	path    string // as given
	root    string // folder of the model file
	proto   *modelProto
	files   []dataFile // 0: the model file
	byName  map[string]int
	places  map[*tensorProto]place
	weights []Weight
	leaf    map[*tensorProto]int // index in weights
}

// dataFile is the model file or an external data file.
type dataFile struct {
	name string // relative to root, slash-separated
	size int64
	r    io.ReaderAt
	c    io.Closer
}

// Open reads the model at path: a .onnx file, or a folder that holds model.onnx
// or one other .onnx file. A file that is no ONNX model, is damaged, or whose
// external data are missing, too short, or overlap gives fault.Mismatch;
// external data outside of the model's folder, and what is not supported,
// fault.Unsupported.
func Open(path string) (*Model, error) {
	file, err := find(path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "opening model")
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fault.Wrap(fault.General, err, "opening model")
	}
	m := &Model{path: path, root: filepath.Dir(file)}
	m.files = []dataFile{{filepath.Base(file), info.Size(), f, f}}
	if err := m.read(m.external); err != nil {
		m.Close()
		return nil, fault.Wrap(fault.KindOf(err), err, "%s", file)
	}
	return m, nil
}

// Is reports whether path is an ONNX model for Open: a file by its name, a
// folder by a .onnx file in it where there are no safetensors.
func Is(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	if !info.IsDir() {
		return strings.EqualFold(filepath.Ext(path), Extension)
	}
	if st, _ := filepath.Glob(filepath.Join(globbed(path), "*.safetensors")); len(st) > 0 {
		return false
	}
	_, err = find(path)
	return err == nil
}

// globbed escapes a path for use in a pattern.
func globbed(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// find returns the model file at path.
func find(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fault.Wrap(fault.General, err, "opening model")
	}
	if !info.IsDir() {
		return path, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return "", fault.Wrap(fault.General, err, "opening model")
	}
	var found []string
	for _, e := range entries {
		if strings.EqualFold(filepath.Ext(e.Name()), Extension) && !e.IsDir() {
			found = append(found, e.Name())
		}
	}
	switch {
	case slices.Contains(found, "model.onnx"):
		return filepath.Join(path, "model.onnx"), nil
	case len(found) == 1:
		return filepath.Join(path, found[0]), nil
	case len(found) == 0:
		return "", fault.New(fault.Unsupported, "%s holds no .onnx file", path)
	}
	return "", fault.New(fault.Unsupported, "%s holds %d .onnx files (%s, …) and no model.onnx", path, len(found), found[0]).
		WithHint("name one of them")
}

// read parses the model file and locates all tensors. open opens an external
// data file by its location.
func (m *Model) read(open func(location string) (dataFile, error)) error {
	p := &parser{&wireReader{r: m.files[0].r, size: m.files[0].size}}
	var err error
	if m.proto, err = p.model(span{0, m.files[0].size}); err != nil {
		return err
	}
	if m.proto.graph == nil || len(m.proto.opsets) == 0 {
		return fault.New(fault.Mismatch, "no graph or no operator set: this is no ONNX model")
	}
	if m.proto.graph.sparse > 0 {
		return fault.New(fault.Unsupported, "%d sparse initialisers", m.proto.graph.sparse).WithHint("store them dense")
	}
	m.byName = map[string]int{}
	m.places = map[*tensorProto]place{}
	if err := m.locate(open); err != nil {
		return err
	}
	if err := m.noOverlap(); err != nil {
		return err
	}
	return m.list()
}

// Close closes the files.
func (m *Model) Close() error {
	var errs []error
	for _, f := range m.files {
		if f.c != nil {
			errs = append(errs, f.c.Close())
		}
	}
	return errors.Join(errs...)
}

// Path returns the path of the model file.
func (m *Model) Path() string { return filepath.Join(m.root, filepath.FromSlash(m.files[0].name)) }

// Producer returns the name of the program that wrote the model.
func (m *Model) Producer() string { return m.proto.producer }

// External returns the names of the external data files, relative to the
// model's folder and slash-separated.
func (m *Model) External() []string {
	var out []string
	for _, f := range m.files[1:] {
		out = append(out, f.name)
	}
	return out
}
