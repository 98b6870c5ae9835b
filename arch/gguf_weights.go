package arch

import (
	"maps"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/graph"
)

// GGUFWeight says where a GGUF holds one of the Hub's weights.
type GGUFWeight struct {
	Shape []int // as on the Hub
	// Row says where row i stands: i counts the rows of the last axis over all
	// leading ones.
	Row func(i int) GGUFRow
}

// GGUFRow is where a row of one of the Hub's weights stands in a GGUF.
type GGUFRow struct {
	Tensor string // as the file calls it
	Row    int    // of that tensor, counted over all leading axes
	Column int    // the row runs down this column, from Row on; -1: it is Row itself
}

// GGUFWeights returns the weights of a model in GGUF by the names that the Hub
// has for them. It reads no weight, and gives what it can: of an architecture
// without a builder, and where metadata are missing, what usual names say.
//
// Left out are weights that are stored as a function of the Hub's (Mamba's
// decay, Gemma's norms), the fused gates of gpt-oss, and the biases of projections whose rows
// stand in another order: their matrices have the same rows.
func GGUFWeights(file *gguf.Model) map[string]GGUFWeight {
	name := file.Header().Text("general.architecture")
	d, known := dialects[name]
	g := newGGUF(file, name, d)
	if known && g.translate() != nil {
		g.turn()
		maps.DeleteFunc(g.weights, func(name string, _ GGUFWeight) bool { return d.gains && strings.HasSuffix(name, "norm.weight") })
		return g.weights
	}
	g = newGGUF(file, name, dialect{})
	g.guess()
	return g.weights
}

// newGGUF prepares a translation.
func newGGUF(file *gguf.Model, name string, d dialect) *ggufModel {
	g := &ggufModel{ggufKeys: ggufKeys{f: file.Header(), arch: name, used: map[string]bool{}}, m: file, d: d, weights: map[string]GGUFWeight{}}
	g.views = &views{stored: map[string][]int{}, byName: map[string]view{}, gains: d.gains}
	for _, f := range file.Files() {
		for _, t := range f.Tensors {
			if !slices.Contains(t.Dims, 0) { // else as many parts as it likes
				g.views.stored[t.Name] = t.Shape()
			}
		}
	}
	return g
}

// guess gives tensors the names that they have in any family.
func (g *ggufModel) guess() {
	for _, name := range slices.Sorted(maps.Keys(dialects)) {
		g.d = dialects[name]
		g.rename()
	}
	g.d, g.layers = elsewhere, len(g.views.stored)
	g.rename() // last: these are likelier
	g.experts("mlp.experts.", gateUpDown)
	g.experts("block_sparse_moe.experts.", [3]string{"w1", "w3", "w2"})
}

// elsewhere has names of decoders without a builder of their own.
var elsewhere = decoderOf(nil, map[string]string{
	"attn_qkv": "self_attn.qkv_proj", "ffn_gate_inp": "mlp.gate",
	"ffn_gate_shexp": "mlp.shared_expert.gate_proj", "ffn_up_shexp": "mlp.shared_expert.up_proj", "ffn_down_shexp": "mlp.shared_expert.down_proj",
})

// stands notes where a weight's rows are.
func (g *ggufModel) stands(name string, shape []int, row func(i int) GGUFRow) {
	if len(shape) > 0 {
		g.weights[name] = GGUFWeight{shape, row}
	}
}

// same is a tensor that only has another name.
func (g *ggufModel) same(name, stored string, shape []int) {
	g.views.same(name, stored, shape)
	g.stands(name, shape, func(i int) GGUFRow { return GGUFRow{stored, i, -1} })
}

// part is one of those that a tensor holds along its first axis.
func (g *ggufModel) part(name, stored string, at int) {
	g.views.part(name, stored, at)
	shape := g.views.stored[stored][1:]
	first := at * rowsOf(shape)
	g.stands(name, shape, func(i int) GGUFRow { return GGUFRow{stored, first + i, -1} })
}

// transposed is a matrix with its axes exchanged.
func (g *ggufModel) transposed(name, stored string) {
	g.views.transposed(name, stored)
	s := g.views.stored[stored]
	g.stands(name, []int{s[1], s[0]}, func(i int) GGUFRow { return GGUFRow{stored, 0, i} })
}

// grouped is rows [all queries; all keys; all values] that the Hub has by heads
// of keys, each with its n queries.
func (g *ggufModel) grouped(name, stored string, kv, n int) {
	g.views.grouped(name, stored, kv, n, g.dim)
	shape, dim := g.views.stored[stored], g.dim
	if len(shape) < 2 {
		return
	}
	g.stands(name, shape, func(i int) GGUFRow {
		of, head, at := i/dim/(n+2), i/dim%(n+2), i%dim
		first := of * n // of the queries
		if head >= n {
			first, head = kv*head+of, 0
		}
		return GGUFRow{stored, (first+head)*dim + at, -1}
	})
}

// turn takes rotary pairs apart that stand side by side: (2i, 2i+1), which the
// Hub has as (i, i+dim/2).
func (g *ggufModel) turn() {
	if !g.views.pairs {
		return
	}
	for _, tensor := range []string{"attn_q", "attn_k"} {
		g.each(tensor+".bias", func(_, layer string, _ []int) { delete(g.weights, layer+g.d.layer[tensor]+".bias") })
		g.each(tensor+".weight", func(stored, layer string, shape []int) {
			dim, name := g.dim, layer+g.d.layer[tensor]+".weight"
			if len(shape) != 2 || dim < 2 || dim%2 != 0 || shape[0]%dim != 0 {
				delete(g.weights, name)
				return
			}
			g.stands(name, shape, func(i int) GGUFRow {
				at := i % dim
				return GGUFRow{stored, i - at + at%(dim/2)*2 + at/(dim/2), -1}
			})
		})
	}
}

// latentHalves shows k_b [heads,rank,nope] and v_b [heads,v,rank] as kv_b.
func (g *ggufModel) latentHalves(rank, nope, value int) {
	if !g.ranked("attn_k_b.weight", 3) || !g.ranked("attn_v_b.weight", 3) {
		return
	}
	g.each("attn_k_b.weight", func(stored, layer string, _ []int) {
		other := stored[:len(stored)-len("k_b.weight")] + "v_b.weight"
		shape, name := []int{g.heads * (nope + value), rank}, layer+"self_attn.kv_b_proj.weight"
		g.views.byName[name] = view{shape, func(b *graph.Builder, leaf func(string) graph.ID) graph.ID {
			return b.Reshape(b.Concat(1, b.Transpose(leaf(stored), 0, 2, 1), leaf(other)), shape...)
		}}
		g.stands(name, shape, func(i int) GGUFRow {
			head, at := i/(nope+value), i%(nope+value)
			if at < nope {
				return GGUFRow{stored, head * rank, at}
			}
			return GGUFRow{other, head*value + at - nope, -1}
		})
	})
}

// stacked notes the experts of gpt-oss as the Hub has them, which is no view of
// a builder's: in one tensor, each matrix transposed.
func (g *ggufModel) stacked() {
	g.each("ffn_down_exps.weight", func(stored, layer string, s []int) {
		out, in := s[1], s[2]
		g.stands(layer+"mlp.experts.down_proj", []int{s[0], in, out}, func(i int) GGUFRow { return GGUFRow{stored, i / in * out, i % in} })
	})
	g.each("ffn_down_exps.bias", func(stored, layer string, s []int) {
		g.stands(layer+"mlp.experts.down_proj_bias", s, func(i int) GGUFRow { return GGUFRow{stored, i, -1} })
	})
}

// rowsOf counts the rows of a shape's last axis.
func rowsOf(shape []int) int {
	n := 1
	for _, d := range shape[:max(len(shape)-1, 0)] {
		n *= d
	}
	return n
}
