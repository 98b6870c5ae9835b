// Package train differentiates a computation graph and trains it on the CPU: the
// arena's embedded engine. Whatever package arch can build it can attack.
//
// A graph is written for one sequence. Here every value that depends on the
// tokens gets a leading batch axis, so that a linear map sees the rows of all
// sequences at once, and values that depend on weights only are computed once.
// Adapters are rewritten into the graph as operations of their own; then
// patterns that cost most (attention, gated activations, rotary embeddings, layer
// norms with their gains, recurrences that are unrolled over the tokens) become
// single operations, and the forward and the backward pass are compiled to
// one list of instructions whose buffers share one arena. A gradient is computed
// only where a trained parameter needs it.
//
// Arithmetic is float32, as PyTorch's on the CPU, and results do not depend on
// the number of goroutines.
package train
