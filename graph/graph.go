// Package graph is the intermediate representation of a network's forward
// pass: a list of tensor operations in evaluation order, named as in ATen,
// whose weights are named leaves with the layout that they have on disk.
//
// Three readers share it: package gauge derives from it which factors cancel,
// package probe runs it, and the arena trains it. The graph holds no list of
// pairs and no knowledge of any family.
package graph

// ID names a value: the result of the node with that index.
type ID int32

// Node is one operation and the value that it computes.
type Node struct {
	Op    Op
	In    []ID
	Shape []int
	Int   bool   // integers or truth values: held exactly in float32, never rounded, never scaled
	Scope string // module path, for messages: "model.layers.3.self_attn"
	Layer int    // transformer block, or -1

	Name       string    // OpWeight: the tensor's name; OpInput: the input's; OpOpaque: the operation's
	Data       []float32 // OpConst
	Scalar     float64   // OpAddScalar, OpMulScalar, OpPow, OpLeakyReLU, OpELU; norms: eps
	EpsKey     string    // norms: config key that holds eps; "" when fixed in code
	Perm       []int     // OpTranspose
	Axis       int       // moves
	Start, End int       // OpSlice, OpPad
	Min, Max   float64   // OpClamp; infinite where there is no bound
	K          int       // OpTopK…, OpOneHot; OpInput of integers: they are below K
	Transposed bool      // OpLinear: the weight is stored [in,out]
	Conv       Conv      // OpConv
}

// Conv is the geometry of a convolution, one entry per spatial axis.
type Conv struct {
	Stride, Before, After, Dilation []int // Before, After: zeros around each axis
	Groups                          int
}

// Graph is a forward pass. Nodes stand in evaluation order.
type Graph struct {
	Nodes   []Node
	Outputs []ID
	Tokens  int // elements of the OpTokens leaf; 0 when there is none

	weights map[string]ID
	inputs  map[string]ID
	ties    [][2]string
}

// Weights returns the node of every weight by tensor name.
func (g *Graph) Weights() map[string]ID { return g.weights }

// Inputs returns the node of every OpInput leaf by name.
func (g *Graph) Inputs() map[string]ID { return g.inputs }

// Ties returns pairs of tensors that must stay equal: the runtime may load
// either in place of the other.
func (g *Graph) Ties() [][2]string { return g.ties }

// Shape returns the shape of a value.
func (g *Graph) Shape(id ID) []int { return g.Nodes[id].Shape }

// Uses counts how often each value is read by later nodes or as an output.
func (g *Graph) Uses() []int32 {
	n := make([]int32, len(g.Nodes))
	for i := range g.Nodes {
		for _, in := range g.Nodes[i].In {
			n[in]++
		}
	}
	for _, o := range g.Outputs {
		n[o]++
	}
	return n
}
