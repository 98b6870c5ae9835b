package specimen

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Tuning returns a short training on another domain, for FineTune: enough for a
// specimen to learn most of "logs".
func Tuning(domain string) Training {
	return Training{Text: Text{Domain: domain, Seed: 1, Bytes: 2_000_000},
		Window: 256, Batch: 8, Steps: 200, Warmup: 20, LR: 1e-3, Seed: 1}
}

// FineTune trains all weights of the checkpoint source, whose tokens are bytes,
// on another text and writes the result to dst, a new folder: the same
// configuration, shards, tensor names, shapes and element types, with a model
// card and the record train.json. It is what stands for somebody's fine-tune of
// a public base: a donor to merge with, or a victim whose base is known.
// progress may be nil.
//
// A vocabulary that cannot be bytes, an architecture that package arch does not
// know, and quantised weights give fault.Unsupported, a sealed source
// fault.AlreadySealed, an ended ctx fault.Interrupted.
func FineTune(ctx context.Context, source, dst string, t Training, progress func(Step)) error {
	f, err := openSource(source, dst, t.Window)
	if err != nil {
		return err
	}
	defer f.close()
	if v := f.net.Vocab; v < Bytes || v > 256 {
		return fault.New(fault.Unsupported, "%s has a vocabulary of %d: its tokens are not bytes", source, v).
			WithHint("fine-tune a specimen or the demo model")
	}
	if err := atomicdir.Check(dst, atomicdir.Options{}); err != nil {
		return err
	}
	seen, unseen, err := t.Text.Split()
	if err != nil {
		return err
	}
	r := t.record("fp32; stored as the base is", f.parameters())
	before, err := network{f.net, f.ck}.loss(ctx, unseen, t.Window, min(heldoutWindows, (len(unseen)-1)/t.Window))
	if err != nil {
		return err
	}
	trained, err := t.run(ctx, f.net, f.ck, seen, progress)
	if err != nil {
		return err
	}
	f.round(trained)
	if err := r.measure(ctx, network{f.net, trained}, seen, unseen, t.Window); err != nil {
		return err
	}
	r.Base = &Base{SHA256: map[string]string{}, Heldout: rounded(before)}
	edit := func(x checkpoint.Tensor) checkpoint.Editor {
		w, ok := trained[x.Name]
		if !ok { // a buffer, or what the network does not read
			return nil
		}
		return &writer{d: x.DType, fill: func(dst []float32, at int64) { copy(dst, w[at:]) }}
	}
	return f.rewrite(ctx, dst, edit, func(files []checkpoint.FileResult) (map[string][]byte, error) {
		for _, x := range files {
			r.SHA256[x.Path] = x.SHA256Out
			if f.shard(x.Path) {
				r.Base.SHA256[x.Path] = x.SHA256In
			}
		}
		record, err := indented(r)
		return map[string][]byte{recordName: record, cardName: tunedCard(r)}, err
	})
}

// parameters counts the weights that the network reads.
func (f *folder) parameters() int {
	n := 0
	for name := range f.net.Graph.Weights() {
		t, _ := f.ck.Tensor(name)
		n += int(t.Elements())
	}
	return n
}

// round gives weights the values that the checkpoint's element types can hold.
func (f *folder) round(w memory) {
	for name, x := range w {
		t, _ := f.ck.Tensor(name)
		buf := make([]byte, t.Size)
		dtype.FromFloat32(t.DType, buf, x)
		dtype.ToFloat32(t.DType, x, buf)
	}
}

func (f *folder) shard(path string) bool {
	return slices.ContainsFunc(f.ck.Shards(), func(s checkpoint.Shard) bool { return s.Path == path })
}

// tunedCard is the model card of a fine-tune.
func tunedCard(r Record) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s# NeuroSeal specimen: a fine-tune\n\n", cardHead)
	fmt.Fprintf(&b, "All weights of a base model, trained for %d steps of %d windows of %d bytes on the text that `%s` writes. "+
		"The held-out loss on it fell from %.3f to %.3f nats per byte; that of a unigram model is %.3f. "+
		"`train.json` names the base by the SHA-256 of its weights. It is a donor for merging attacks, and of no other use.\n\n",
		r.Training.Steps, r.Training.Batch, r.Training.Window, r.Text.Command, r.Base.Heldout, r.Heldout, r.Unigram)
	return append([]byte(b.String()), cardTail...)
}
