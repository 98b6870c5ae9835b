// Package graph is the intermediate representation of a network's forward
// pass: a list of tensor operations in evaluation order, named as in ATen,
// whose weights are named leaves with the layout that they have on disk.
//
// Three readers share it: package gauge derives from it which factors cancel,
// package probe runs it, and the arena trains it. The graph holds no list of
// pairs and no knowledge of any family.
package graph

// Op is a tensor operation.
type Op uint8

// The operations. Shapes are written in brackets; T is the number of tokens.
const (
	OpInvalid Op = iota

	// Leaves.
	OpWeight // a tensor of the checkpoint
	OpConst  // constant data: rotary tables, masks
	OpTokens // [T] token ids

	// Contractions.
	OpEmbedding // rows of a weight [V,d] by token ids [T] -> [T,d]
	OpLinear    // x [...,in], weight [out,in] -> [...,out]; Transposed: weight [in,out]
	OpMatMul    // a [...,m,k], b [...,k,n] -> [...,m,n]

	// Element by element, with broadcasting.
	OpAdd
	OpSub
	OpMul
	OpDiv
	OpAddScalar // x + Scalar
	OpMulScalar // x * Scalar
	OpNeg
	OpReLU
	OpSiLU
	OpGELU     // exact, with erf
	OpGELUTanh // tanh approximation
	OpTanh
	OpSigmoid

	// Along the last axis.
	OpSoftmax
	OpRMSNorm  // x / sqrt(mean(x²) + eps), without a gain
	OpSum      // keeps the axis with length 1
	OpTopKMask // 1 where x is among the K largest, else 0

	// Moves.
	OpReshape
	OpTranspose // Perm
	OpSlice     // Axis, Start, End
	OpConcat    // Axis
	OpExpand    // axes of length 1 repeated to Shape
)

var opNames = [...]string{
	"invalid", "weight", "const", "tokens",
	"embedding", "linear", "matmul",
	"add", "sub", "mul", "div", "add.Scalar", "mul.Scalar",
	"neg", "relu", "silu", "gelu", "gelu.tanh", "tanh", "sigmoid",
	"softmax", "rms_norm", "sum", "topk_mask",
	"reshape", "transpose", "slice", "cat", "expand",
}

// String returns the operation's name, as in ATen where it has one there.
func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return "op?"
}

// ID names a value: the result of the node with that index.
type ID int32

// Node is one operation and the value that it computes.
type Node struct {
	Op    Op
	In    []ID
	Shape []int
	Scope string // module path, for messages: "model.layers.3.self_attn"
	Layer int    // transformer block, or -1

	Name       string    // OpWeight: the tensor's name
	Data       []float32 // OpConst
	Scalar     float64   // OpAddScalar, OpMulScalar; OpRMSNorm: eps
	EpsKey     string    // OpRMSNorm: config key that holds eps; "" when fixed in code
	Perm       []int     // OpTranspose
	Axis       int       // OpSlice, OpConcat
	Start, End int       // OpSlice
	K          int       // OpTopKMask
	Transposed bool      // OpLinear: the weight is stored [in,out]
}

// Graph is a forward pass. Nodes stand in evaluation order.
type Graph struct {
	Nodes   []Node
	Outputs []ID
	Tokens  int // length of the OpTokens leaf

	weights map[string]ID
	ties    [][2]string
}

// Weights returns the node of every weight by tensor name.
func (g *Graph) Weights() map[string]ID { return g.weights }

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
