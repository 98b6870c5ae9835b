package specimen

import (
	"context"
	"path"
	"strings"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// Random writes to dst, a new folder, a checkpoint like source with weights as
// transformers initialises them: the same configuration, tokenizer, shards,
// tensor names, shapes and element types. Tied tensors stay equal. What an
// attacker reaches from it is what the weights of source are not needed for.
//
// A source that package arch cannot build, or with quantised weights, gives
// fault.Unsupported, a sealed one fault.AlreadySealed. Memory does not depend on
// the checkpoint's size.
func Random(ctx context.Context, source, dst string, seed uint64) error {
	f, err := openSource(source, dst, 1)
	if err != nil {
		return err
	}
	defer f.close()
	laws, err := laws(f.net, f.ck.ConfigJSON(), seed)
	if err != nil {
		return err
	}
	return f.rewrite(ctx, dst, func(t checkpoint.Tensor) checkpoint.Editor {
		l, ok := laws[t.Name]
		if !ok { // a buffer, or what the network does not read
			return nil
		}
		return &writer{d: t.DType, fill: l.fill}
	}, nil)
}

// rewrite writes the checkpoint with other weights, and without what speaks of
// the old ones: model card, record, and anything else that holds weights. more,
// if not nil, is told what was written and returns files that come in addition.
func (f *folder) rewrite(ctx context.Context, dst string, edit func(checkpoint.Tensor) checkpoint.Editor, more func([]checkpoint.FileResult) (map[string][]byte, error)) (err error) {
	dir, err := atomicdir.Create(dst, atomicdir.Options{})
	if err != nil {
		return err
	}
	defer func() {
		if e := dir.Abort(); err == nil {
			err = e
		}
	}()
	sensitive := map[string]bool{}
	for _, o := range f.ck.OtherFiles() {
		sensitive[o.Path] = o.Sensitive()
	}
	skip := func(rel string) bool {
		return sensitive[rel] || rel == recordName || strings.EqualFold(path.Base(rel), cardName)
	}
	res, err := f.ck.Rewrite(ctx, dir, checkpoint.RewriteOptions{Edit: edit, Skip: skip})
	if err != nil {
		return err
	}
	if more != nil {
		files, err := more(res.Files)
		if err != nil {
			return err
		}
		if err := addFiles(dir, files); err != nil {
			return err
		}
	}
	return dir.Commit()
}

// writer replaces the elements of a tensor.
type writer struct {
	d    dtype.DType
	fill func(x []float32, at int64)
	buf  []float32
}

// Edit implements checkpoint.Editor.
func (w *writer) Edit(at int64, b []byte) error {
	n := len(b) * 8 / w.d.Bits()
	if cap(w.buf) < n {
		w.buf = make([]float32, n)
	}
	w.fill(w.buf[:n], at)
	dtype.FromFloat32(w.d, b, w.buf[:n])
	return nil
}
