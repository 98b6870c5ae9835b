package neuroseal

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/diagram"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/onnx"
	"github.com/neuroseal/neuroseal/pt2"
)

// ExportScript is a Python program that exports a model's graph for
// LockOptions.Graph, from its config alone: no weights are loaded.
func ExportScript() string { return pt2.Script }

// NetworkOptions say which network to look at.
type NetworkOptions struct {
	Path          string // a checkpoint, or an exported graph (.pt2, .onnx) by itself
	Graph         string // as in LockOptions
	AllowUnsealed bool
}

// Network is a computation graph with the pairs that were found in it.
type Network struct {
	ModelType string         `json:"model_type"`
	Source    string         `json:"source"` // "config" or the graph file
	FreeDims  int            `json:"free_dims"`
	Residual  bool           `json:"residual_gauge"`
	Layers    int            `json:"layers"`
	Nodes     int            `json:"nodes"`
	Ops       map[string]int `json:"ops"` // how often each operation occurs; opaque ones by their own name
	Groups    []GroupRow     `json:"groups"`
	Holes     []Hole         `json:"holes"`
	Notes     []string       `json:"notes,omitempty"`

	g   *graph.Graph
	sol *gauge.Solution
}

// networkTokens is the length at which a graph is written out: axes of length 1
// would hide what varies along them.
const networkTokens = 4

// OpenNetwork builds the graph of a checkpoint, or reads an exported one, and
// derives its pairs. No weights are read, except where an ONNX graph finds
// tensors by their values.
func OpenNetwork(_ context.Context, o NetworkOptions) (*Network, error) {
	opt := arch.Options{Tokens: networkTokens, AllowUnsealed: o.AllowUnsealed}
	net, source, err := o.open(opt)
	if err != nil {
		return nil, err
	}
	sol, err := gauge.Solve(net.Graph)
	if err != nil {
		return nil, fault.Wrap(fault.Unsupported, err, "deriving pairs")
	}
	n := &Network{
		ModelType: net.Type, Source: source, FreeDims: sol.FreeDims, Residual: sol.Residual >= 0, Layers: net.Layers,
		Ops: map[string]int{}, Groups: []GroupRow{}, Holes: []Hole{}, Notes: net.Warn, g: net.Graph, sol: sol,
	}
	for i := range net.Graph.Nodes {
		switch x := &net.Graph.Nodes[i]; x.Op {
		case graph.OpWeight, graph.OpConst:
		case graph.OpOpaque:
			n.Ops[x.Name]++
			n.Nodes++
		default:
			n.Ops[x.Op.String()]++
			n.Nodes++
		}
	}
	for _, g := range sol.Groups {
		n.Groups = append(n.Groups, GroupRow{g.ID, string(g.Kind), g.Classes, g.Classes, 1, g.Layer})
	}
	for _, h := range sol.Holes {
		n.Holes = append(n.Holes, Hole(h))
	}
	for _, u := range net.Unknown {
		n.Holes = append(n.Holes, Hole{u, "not read by the network"})
	}
	return n, nil
}

func (o NetworkOptions) open(opt arch.Options) (net *arch.Model, source string, err error) {
	if info, err := os.Stat(o.Path); err == nil && !info.IsDir() && o.Graph == "" {
		switch strings.ToLower(filepath.Ext(o.Path)) {
		case ".pt2":
			net, err := fromProgram(o.Path, nil, opt)
			return net, filepath.Base(o.Path), err
		case onnx.Extension:
			m, err := onnx.Open(o.Path)
			if err != nil {
				return nil, "", err
			}
			defer m.Close()
			net, err := networkOf(m, opt)
			return net, filepath.Base(o.Path), err
		}
	}
	m, err := openWith(o.Path, o.Graph, opt)
	if err != nil {
		return nil, "", err
	}
	defer m.ck.Close()
	switch {
	case o.Graph != "":
		source = filepath.Base(o.Graph)
	case onnx.Is(o.Path):
		source = "onnx"
	default:
		source = "config"
	}
	return m.net, source, nil
}

// DrawLayer writes a picture of one block, or with layer -1 of what lies
// outside of all, as "svg" or "dot"; groups have colours.
func (n *Network) DrawLayer(w io.Writer, layer int, format string) error {
	title := n.ModelType
	d, err := diagram.New(n.g, n.sol, layer, title+", "+layerName(layer))
	if err != nil {
		return fault.Wrap(fault.Usage, err, "drawing")
	}
	if format == "dot" {
		return d.DOT(w)
	}
	return d.SVG(w)
}

func layerName(layer int) string {
	if layer < 0 {
		return "outside of all layers"
	}
	return fmt.Sprintf("layer %d", layer)
}
