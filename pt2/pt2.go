// Package pt2 reads archives of torch.export (.pt2) and translates the program
// in them to the graph that everything else works on. So a model whose family
// has no builder in package arch can be sealed from its exported graph.
//
// An archive is a zip file of JSON: nothing in it is executed, and no pickle is
// read. What an operation means is written here once, on values that are
// constants or nodes; constants (positions, masks, tables) are folded. An
// operation without a rule becomes graph.OpOpaque, which pins its inputs.
//
// Source of the format: torch/_export/serde and torch/export/pt2_archive of
// PyTorch 2.5 to 2.15.
package pt2

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"sort"
	"strings"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// Script is the Python program that writes an archive from a model's config.
//
//go:embed export.py
var Script string

// Program is an opened archive.
type Program struct {
	archive  *archive
	file     *os.File
	json     exportedProgram
	payloads map[string]payload
	ties     [][]string
	prefix   string
	conv     *conversion

	Torch     string // version of torch that wrote it
	Class     string // transformers' class, if the exporter script wrote it
	ModelType string // config.json's model_type, likewise
}

// extraJSON is what the exporter script adds to the archive.
type extraJSON struct {
	Class     string      `json:"class"`
	ModelType string      `json:"model_type"`
	Prefix    string      `json:"prefix"`
	Ties      [][]string  `json:"ties"`
	Conv      *conversion `json:"conversion"`
	Buffers   map[string]struct {
		DType string `json:"dtype"`
		Shape []int  `json:"shape"`
		Zlib  string `json:"zlib"`
	} `json:"buffers"`
}

// Open reads the archive at a path. Errors are of kind Unsupported where the
// file is not what it should be.
func Open(name string) (*Program, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	p, err := Read(f, st.Size())
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p.file = f
	return p, nil
}

// Close closes the file that Open opened.
func (p *Program) Close() error {
	if p.file == nil {
		return nil
	}
	return p.file.Close()
}

// Read reads an archive; r must stay readable while the program is in use.
func Read(r io.ReaderAt, size int64) (*Program, error) {
	a, err := readArchive(r, size)
	if err != nil {
		return nil, err
	}
	name, err := a.program()
	if err != nil {
		return nil, err
	}
	p := &Program{archive: a, payloads: map[string]payload{}}
	if err := a.json(name, &p.json); err != nil {
		return nil, err
	}
	if v := p.json.Schema; v.Major < oldestSchema || v.Major > newestSchema {
		return nil, schemaError(v.Major, v.Minor)
	}
	if p.json.GraphModule.Graph == nil {
		return nil, fault.New(fault.Unsupported, "the archive's %s holds no graph", name)
	}
	p.Torch = p.json.Torch
	if err := p.readPayloads(a, strings.TrimSuffix(path.Base(name), ".json")); err != nil {
		return nil, err
	}
	return p, p.readExtra(a)
}

func (p *Program) readExtra(a *archive) error {
	name := a.extra()
	if name == "" {
		return nil
	}
	var x extraJSON
	if err := a.json(name, &x); err != nil {
		return err
	}
	p.Class, p.ModelType, p.prefix, p.ties, p.conv = x.Class, x.ModelType, x.Prefix, x.Ties, x.Conv
	for k, b := range x.Buffers {
		typ, ok := typeNames[b.DType]
		if n, fits := fold.Size(b.Shape); !ok || !fits || n > fold.MaxElements {
			p.payloads[k] = payload{dtype: -1, shape: b.Shape}
			continue
		}
		p.payloads[k] = payload{inline: b.Zlib, dtype: typ, shape: b.Shape}
	}
	return nil
}

var typeNames = map[string]int{
	"uint8": 1, "int8": 2, "int16": 3, "int32": 4, "int64": 5, "float16": 6, "float32": 7, "float64": 8,
	"complex32": 9, "complex64": 10, "complex128": 11, "bool": 12, "bfloat16": 13, "uint16": 28, "uint32": 34, "uint64": 35,
}

// Options of a translation.
type Options struct {
	AllowUnsealed bool // let tensors of the checkpoint pass that the program does not know
}

// Info is what a translation found besides the graph.
type Info struct {
	Layers  int            // highest index in a module path, plus one
	Vocab   int            // ids of the token leaf are below it; 0 without one
	Sparse  bool           // something chooses the largest of several: experts
	Opaque  map[string]int // operations without a rule, and how often they occur
	Buffers []string       // tensors of the checkpoint whose values the program brings itself
	Unread  []string       // tensors that the program names but no output depends on
	Unknown []string       // tensors that the program does not name; only with AllowUnsealed
}

// Graph translates the program to a graph whose leaves have the names and
// shapes of a checkpoint. Tensors that the program holds fused and the
// checkpoint apart (experts), or under another name, are joined by moves.
// Without shapes (nil) leaves have the names of the program.
//
// Whatever program and checkpoint disagree about is an error of kind
// Unsupported that lists all of it.
func (p *Program) Graph(shapes map[string][]int, opt Options) (g *graph.Graph, info *Info, err error) {
	defer catch(&err)
	l := &lowering{
		p: p, consts: map[*fold.Tensor]graph.ID{}, joined: map[graph.ID]joint{}, reshaped: map[graph.ID]*value{}, made: map[string]graph.ID{}, norms: newNorms(), unknown: map[string]int{},
	}
	s := &scope{l: l, g: p.json.GraphModule.Graph, env: map[string]*cell{}}
	l.names = newNames(l, p, shapes)
	s.inputs()
	s.run()
	l.b.Scope("", -1)
	l.where0 = ""
	outs := s.outputs()
	l.names.rest()
	g, err = l.b.Finish(outs...)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Unsupported, err, "the program does not fit together")
	}
	g.Prune()
	info = l.info(g)
	return g, info, l.names.compare(g, info, opt)
}

func (l *lowering) info(g *graph.Graph) *Info {
	in := &Info{Layers: l.layers, Vocab: l.vocab, Opaque: map[string]int{}}
	for i := range g.Nodes {
		switch n := &g.Nodes[i]; n.Op {
		case graph.OpOpaque:
			in.Opaque[n.Name]++
		case graph.OpTopKIndices, graph.OpTopKMask:
			in.Sparse = true
		}
	}
	for name := range l.names.buffers {
		in.Buffers = append(in.Buffers, name)
	}
	sort.Strings(in.Buffers)
	return in
}

// outputs are the values that the program returns to its caller, without
// constants.
func (s *scope) outputs() []graph.ID {
	l := s.l
	var out []graph.ID
	for _, spec := range l.p.json.GraphModule.Signature.Outputs {
		raw, ok := spec["user_output"]
		if !ok {
			continue
		}
		var in struct {
			Arg argument `json:"arg"`
		}
		if json.Unmarshal(raw, &in) != nil {
			l.stop("an output is not readable")
		}
		if in.Arg["as_tensor"] == nil {
			continue
		}
		v, err := s.read(in.Arg)
		if err != nil {
			l.stop("output: %v", err)
		}
		w := l.get(v.(*cell))
		for _, part := range []*value{realPart(w), w.im} {
			if part != nil && part.c == nil {
				out = append(out, l.id(part))
			}
		}
	}
	if len(out) == 0 {
		l.stop("the program returns nothing that depends on its input")
	}
	return out
}
