package graph

// Op is a tensor operation.
type Op uint8

// The operations. Shapes are written in brackets; T is the number of tokens.
// Whatever works along an axis and names none works along the last one.
const (
	OpInvalid Op = iota

	// Leaves.
	OpWeight // a tensor of the checkpoint
	OpConst  // constant data: rotary tables, masks
	OpTokens // token ids: [T], or [1,T] in exported graphs
	OpInput  // any other input of the network: pixels, mel frames, the decoder's tokens

	// Contractions.
	OpEmbedding // rows of a weight [V,d] by ids [...] -> [...,d]
	OpLinear    // x [...,in], weight [out,in] -> [...,out]; Transposed: weight [in,out]
	OpMatMul    // a [...,m,k], b [...,k,n] -> [...,m,n]
	OpConv      // x [N,C,spatial...], weight [O,C/Groups,kernel...] -> [N,O,spatial...]

	// Element by element, with broadcasting.
	OpAdd
	OpSub
	OpMul
	OpDiv
	OpMaximum
	OpMinimum
	OpWhere     // cond, a, b: a where cond is not zero, else b
	OpAddScalar // x + Scalar
	OpMulScalar // x * Scalar
	OpPow       // x ^ Scalar
	OpClamp     // max(Min, min(Max, x))
	OpNeg
	OpAbs
	OpReLU
	OpLeakyReLU // x where x > 0, else Scalar·x
	OpSiLU
	OpGELU     // exact, with erf
	OpGELUTanh // tanh approximation
	OpTanh
	OpSigmoid
	OpSoftplus // log(1 + exp(x))
	OpELU      // x where x > 0, else Scalar·(exp(x)-1)
	OpExp
	OpLog
	OpSin
	OpCos
	OpErf
	OpFloor
	OpRound // to the nearest integer, halves to even

	// Element by element, with truth values (0 and 1) as results.
	OpEqual
	OpLess // a < b
	OpNot  // 1 where x is zero
	OpAnd
	OpOr

	// Along the last axis.
	OpSoftmax
	OpRMSNorm   // x / sqrt(mean(x²) + Scalar), without a gain
	OpLayerNorm // (x - mean(x)) / sqrt(var(x) + Scalar), without gain and bias
	OpSum       // keeps the axis with length 1
	OpMax       // keeps the axis with length 1
	OpArgMax    // index of the largest, of equals the first; keeps the axis with length 1
	OpCumSum
	OpTopKMask    // 1 where x is among the K largest, else 0
	OpTopKValues  // the K largest, in falling order
	OpTopKIndices // their indices; of equals the first first
	OpOneHot      // ids [...] -> [...,K]

	// Moves.
	OpReshape
	OpTranspose // Perm
	OpSlice     // Axis, Start, End
	OpConcat    // Axis
	OpExpand    // axes of length 1 repeated to Shape
	OpPad       // Axis: Start zeros before, End zeros after
	OpFlip      // Axis in reverse order
	OpIndex     // x, ids [...]: elements of Axis by ids -> x.Shape with Axis replaced by ids' axes
	OpGather    // x, ids of the same rank: result[i...] = x[i... with ids[i...] at Axis]
	OpScatter   // x, ids, src: x with src written at ids along Axis (the inverse of Gather)
	OpScatterAdd

	// Opaque is an operation that nobody here knows: Name says which, as in ATen
	// or ONNX. Its inputs are pinned; a run gives it stand-in values.
	OpOpaque
)

var opNames = [...]string{
	OpInvalid: "invalid", OpWeight: "weight", OpConst: "const", OpTokens: "tokens", OpInput: "input",
	OpEmbedding: "embedding", OpLinear: "linear", OpMatMul: "matmul", OpConv: "convolution",
	OpAdd: "add", OpSub: "sub", OpMul: "mul", OpDiv: "div", OpMaximum: "maximum", OpMinimum: "minimum",
	OpWhere: "where", OpAddScalar: "add.Scalar", OpMulScalar: "mul.Scalar", OpPow: "pow", OpClamp: "clamp",
	OpNeg: "neg", OpAbs: "abs", OpReLU: "relu", OpLeakyReLU: "leaky_relu", OpSiLU: "silu", OpGELU: "gelu",
	OpGELUTanh: "gelu.tanh", OpTanh: "tanh", OpSigmoid: "sigmoid", OpSoftplus: "softplus", OpELU: "elu",
	OpExp: "exp", OpLog: "log", OpSin: "sin", OpCos: "cos", OpErf: "erf", OpFloor: "floor", OpRound: "round",
	OpEqual: "eq", OpLess: "lt", OpNot: "logical_not", OpAnd: "logical_and", OpOr: "logical_or",
	OpSoftmax: "softmax", OpRMSNorm: "rms_norm", OpLayerNorm: "layer_norm", OpSum: "sum", OpMax: "amax",
	OpArgMax: "argmax", OpCumSum: "cumsum", OpTopKMask: "topk_mask", OpTopKValues: "topk", OpTopKIndices: "topk.indices",
	OpOneHot:  "one_hot",
	OpReshape: "reshape", OpTranspose: "transpose", OpSlice: "slice", OpConcat: "cat", OpExpand: "expand",
	OpPad: "pad", OpFlip: "flip", OpIndex: "index_select", OpGather: "gather", OpScatter: "scatter",
	OpScatterAdd: "scatter_add", OpOpaque: "opaque",
}

// Ops returns every operation that a graph may hold.
func Ops() []Op {
	var out []Op
	for o := OpWeight; int(o) < len(opNames); o++ {
		out = append(out, o)
	}
	return out
}

// String returns the operation's name, as in ATen where it has one there.
func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return "op?"
}

// Function reports whether an operation maps every element by itself, without
// any parameter: what Builder.Apply accepts besides softmax.
func (o Op) Function() bool {
	switch o {
	case OpNeg, OpAbs, OpReLU, OpSiLU, OpGELU, OpGELUTanh, OpTanh, OpSigmoid, OpSoftplus,
		OpExp, OpLog, OpSin, OpCos, OpErf, OpFloor, OpRound:
		return true
	}
	return false
}

// Move reports whether an operation only rearranges elements of its first
// input, or of all inputs (OpConcat), perhaps with zeros between them.
func (o Op) Move() bool {
	switch o {
	case OpReshape, OpTranspose, OpSlice, OpConcat, OpExpand, OpPad, OpFlip, OpIndex, OpGather:
		return true
	}
	return false
}
