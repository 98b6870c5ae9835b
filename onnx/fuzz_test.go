package onnx

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// script reads choices off the fuzzer's bytes.
type script struct{ data []byte }

func (s *script) below(n int) int {
	if len(s.data) == 0 || n <= 0 {
		return 0
	}
	v := int(s.data[0]) % n
	s.data = s.data[1:]
	return v
}

func (s *script) more() bool { return len(s.data) > 0 }

// attrNames are attributes of integers, lists or text that operators read.
var attrNames = []string{"axis", "keepdims", "to", "transA", "transB", "group", "is_causal", "q_num_heads", "kv_num_heads",
	"num_heads", "largest", "upper", "allowzero", "batch_dims", "start", "end", "blocksize", "num_outputs", "noop_with_empty_axes",
	"reverse", "exclusive", "select_last_index", "interleaved", "rotary_embedding_dim", "num_groups", "do_rotary", "new_axis", "fmod", "p"}

var listNames = []string{"axes", "perm", "split", "strides", "pads", "dilations"}

var equations = []string{"ij,jk->ik", "bij,bjk->bik", "ij->ji", "ij,ij->i", "i,j->ij", "ii->i", "ab,cb->", "abc,cd->abd"}

// random builds a model of operators with whatever inputs and attributes.
func (s *script) random() pb {
	names := slices.Sorted(maps.Keys(rules))
	g := graphParts{
		tensors: []pb{floats("w", upValues, 2, 3), floats("u", downValues, 3, 2), floats("v", upValues[:3], 3), int64s("i", 1, 0), int64s("j", -1),
			int64s("s", 2, 3), int64s("n", 2), tensorMsg("b", elemBool, 2).str(9, "\x01\x00"), tensorMsg("e", elemFloat, 0).str(9, "")},
		inputs: []pb{valueMsg("x", elemFloat, 2, 3), valueMsg("y", elemFloat, 1, 2, 3, 2), valueMsg("z", elemFloat, 1, 3, 4),
			valueMsg("input_ids", elemInt64, 1, "seq"), valueMsg("past", elemFloat, 1, 2, "past_len", 4)},
	}
	have := strings.Split("w u v i j s n b e x y z input_ids past", " ")
	last := "x"
	for k := 0; s.more() && k < 12; k++ {
		domain, op, _ := strings.Cut(names[s.below(len(names))], ":")
		var in []string
		for range s.below(6) {
			in = append(in, have[s.below(len(have))])
		}
		out := []string{"t" + itoa(int64(3*k)), "t" + itoa(int64(3*k+1)), "t" + itoa(int64(3*k+2))}[:1+s.below(3)]
		n := nodeMsg(op, in, out, s.attrs()...)
		if domain != "" {
			n = n.str(7, domain)
		}
		g.nodes = append(g.nodes, n)
		have = append(have, out...)
		last = out[0]
		if s.below(4) == 0 {
			g.values = append(g.values, valueMsg(out[0], elemFloat, 1+s.below(3), 1+s.below(3)))
		}
	}
	g.outputs = []pb{valueMsg(last, elemFloat)}
	return modelMsg(g)
}

func (s *script) attrs() []pb {
	var out []pb
	for range s.below(4) {
		switch s.below(4) {
		case 0:
			a := pb{}.str(1, listNames[s.below(len(listNames))]).int(20, 7)
			for range s.below(5) {
				a = a.int(8, int64(s.below(8)-3))
			}
			out = append(out, a)
		case 1:
			out = append(out, pb{}.str(1, "equation").str(4, equations[s.below(len(equations))]).int(20, 3))
		default:
			out = append(out, intAttr(attrNames[s.below(len(attrNames))], int64(s.below(16)-4)))
		}
	}
	return out
}

// FuzzOperators: operators with inputs and attributes that make no sense end in
// an error, or in a graph.
func FuzzOperators(f *testing.F) {
	for i := range 64 {
		var seed []byte
		for j := range 60 {
			seed = append(seed, byte((i*j*37+j*j*11+i*101)%251))
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		model := (&script{data}).random()
		m := &Model{files: []dataFile{{name: "model.onnx", size: int64(len(model)), r: bytes.NewReader(model)}}}
		if err := m.read(func(string) (dataFile, error) { return dataFile{}, fault.New(fault.Unsupported, "no files here") }); err != nil {
			t.Fatal(err)
		}
		g, _, err := m.Graph(Options{Tokens: 3})
		if err == nil && len(g.Outputs) == 0 {
			t.Fatal("a graph without outputs")
		}
	})
}
