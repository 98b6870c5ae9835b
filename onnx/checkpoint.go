package onnx

import "github.com/neuroseal/neuroseal/checkpoint"

// OpenCheckpoint shows the model at path, a file or a folder as in Open, as a
// checkpoint: its weights are the tensors, the model file and its external data
// files the shards. Rewrite edits weights in place and leaves all else byte for
// byte. The tensors are those of Model.Weights.
func OpenCheckpoint(path string) (*checkpoint.Checkpoint, error) {
	m, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	return m.Checkpoint()
}

// Checkpoint is what OpenCheckpoint returns, of a model that is open already.
// It has files of its own and outlives the model.
func (m *Model) Checkpoint() (*checkpoint.Checkpoint, error) {
	files := make([]string, len(m.files))
	for i, f := range m.files {
		files[i] = f.name
	}
	tensors := make([]checkpoint.Tensor, len(m.weights))
	for i, w := range m.weights {
		tensors[i] = checkpoint.Tensor{Name: w.Name, DType: w.DType, Shape: w.Shape, Shard: w.File, Offset: w.Offset, Size: w.Size}
	}
	return checkpoint.Assemble(m.path, files, tensors)
}
