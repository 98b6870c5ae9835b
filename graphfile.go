package neuroseal

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/onnx"
	"github.com/neuroseal/neuroseal/pt2"
)

// openWith opens a checkpoint whose forward pass an exported graph describes:
// a .pt2 of torch.export or an .onnx. "" stands for its own, as in openModel.
func openWith(path, graphFile string, opt arch.Options) (*model, error) {
	if graphFile == "" && onnx.Is(path) {
		return openONNX(path, opt)
	}
	ck, err := openCheckpoint(path)
	if err != nil {
		return nil, err
	}
	m := &model{path: path, graph: graphFile, ck: ck, conf: ck.ConfigJSON(), opt: opt}
	if err := m.build(); err != nil {
		m.ck.Close()
		return nil, err
	}
	return m, nil
}

// like opens a checkpoint with the same tensors as m by m's network. An exported
// graph finds weights by value, too, which a seal changes.
func (m *model) like(path string) (*model, error) {
	ck, err := openCheckpoint(path)
	if err != nil {
		return nil, err
	}
	out := &model{path: path, graph: m.graph, ck: ck, conf: ck.ConfigJSON(), opt: m.opt, net: m.net, quant: m.quant}
	mine, theirs := m.ck.Shapes(), ck.Shapes()
	for name, shape := range mine {
		if !slices.Equal(shape, theirs[name]) {
			ck.Close()
			return nil, fault.New(fault.Mismatch, "tensor %s is %v in %s and %v in %s", name, shape, m.path, theirs[name], path)
		}
	}
	return out, nil
}

// exported reads the network of a checkpoint from a graph file.
func exported(file string, ck *checkpoint.Checkpoint, shapes map[string][]int, opt arch.Options) (*arch.Model, error) {
	switch strings.ToLower(filepath.Ext(file)) {
	case ".pt2":
		return fromProgram(file, shapes, opt)
	case onnx.Extension:
		return fromONNX(file, ck, opt)
	}
	return nil, fault.New(fault.Usage, "graph %s: its name ends neither in .pt2 nor in .onnx", file).
		WithHint("neuroseal graph script prints the program that exports a .pt2")
}

// fromProgram translates an archive of torch.export; without shapes its
// leaves have the program's own names.
func fromProgram(file string, shapes map[string][]int, opt arch.Options) (*arch.Model, error) {
	p, err := pt2.Open(file)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	g, info, err := p.Graph(shapes, pt2.Options{AllowUnsealed: opt.AllowUnsealed})
	if err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "%s", file)
	}
	net := &arch.Model{Type: p.ModelType, Layers: info.Layers, Vocab: info.Vocab, Sparse: info.Sparse, Graph: g, Buffers: info.Buffers, Unknown: info.Unknown}
	if net.Type == "" {
		net.Type = "exported"
	}
	var opaque []string
	for name, n := range info.Opaque {
		opaque = append(opaque, fmt.Sprintf("%s (%d)", name, n))
	}
	slices.Sort(opaque)
	leftAlone(net, "operations without a rule, whose inputs stay as they are", opaque)
	leftAlone(net, "tensors that no output depends on, left alone", info.Unread)
	return net, nil
}

// fromONNX translates an ONNX model whose weights are those of a checkpoint,
// by name or by value.
func fromONNX(file string, ck *checkpoint.Checkpoint, opt arch.Options) (*arch.Model, error) {
	m, err := onnx.Open(file)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	g, info, extra, err := m.GraphOf(ck, onnx.Options{Tokens: max(opt.Tokens, onnxTokens)})
	if err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "%s", file)
	}
	if len(extra) > 0 && !opt.AllowUnsealed {
		return nil, fault.New(fault.Unsupported, "%s does not read %d tensors of the checkpoint: %s", file, len(extra), strings.Join(extra[:min(len(extra), 8)], ", ")).
			WithHint("export the whole model, or leave them as they are with --allow-unsealed")
	}
	net := &arch.Model{Type: "exported", Graph: g, Vocab: info.Vocab, Unknown: extra}
	describeONNX(net, info)
	return net, nil
}

// describeONNX says what of an ONNX model stays as it is.
func describeONNX(net *arch.Model, info *onnx.Info) {
	leftAlone(net, "operations without a rule, whose inputs stay as they are", info.Opaque)
	leftAlone(net, "tensors that the network does not read, left alone", info.Unread)
	leftAlone(net, "tensors that decide what is computed, left alone", info.Frozen)
}

func leftAlone(net *arch.Model, what string, list []string) {
	if n := len(list); n > 8 {
		list = append(slices.Clone(list[:8]), fmt.Sprintf("and %d more", n-8))
	}
	if len(list) > 0 {
		net.Warn = append(net.Warn, what+": "+strings.Join(list, ", "))
	}
}

// graphRecord is what a manifest says of the graph file that a seal was made
// by; nil without one.
func graphRecord(file string) (*manifest.Graph, error) {
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "opening graph")
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, fault.Wrap(fault.General, err, "reading graph")
	}
	return &manifest.Graph{Name: filepath.Base(file), SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// needsGraph refuses to look at a network that only a graph file describes,
// without one.
func needsGraph(man *manifest.Manifest, graphFile string) error {
	if man.Graph == nil || graphFile != "" {
		return nil
	}
	return fault.New(fault.Usage, "the model was sealed by the graph %s (SHA-256 %.12s…), which is needed here", man.Graph.Name, man.Graph.SHA256).
		WithHint("give --graph FILE; neuroseal graph script prints the program that exports it")
}
