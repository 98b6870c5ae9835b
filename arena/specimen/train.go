package specimen

import (
	"bytes"
	"context"
	"math"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/arena/train"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/probe"
	"github.com/neuroseal/neuroseal/safetensors"
)

// Step is what a training tells of itself.
type Step struct {
	Number, Of int
	Loss       float64 // of the step's batch, in nats per byte
	LR         float64
}

// Train trains a model from scratch and writes its folder to dst, which must be
// new: config.json, generation_config.json, model.safetensors in bf16, the model
// card README.md and the record train.json. progress may be nil. A spec that
// makes no network gives fault.Usage or fault.Unsupported, a training whose loss
// is lost fault.General, an ended ctx fault.Interrupted.
func Train(ctx context.Context, s Spec, dst string, progress func(Step)) error {
	if err := atomicdir.Check(dst, atomicdir.Options{}); err != nil {
		return err
	}
	conf, err := s.Network.config()
	if err != nil {
		return err
	}
	leaves := s.Network.leaves()
	shapes := map[string][]int{}
	for _, l := range leaves {
		shapes[l.name] = l.shape
	}
	m, err := arch.Build(conf, shapes, arch.Options{Tokens: s.Training.Window})
	if err != nil {
		return err
	}
	seen, unseen, err := s.Training.Text.Split()
	if err != nil {
		return err
	}
	// Fail before the training, not after it.
	if err := (network{m: m}).check(unseen, s.Training.Window, 1); err != nil {
		return err
	}
	initial, err := initialise(m, conf, s.Training.Seed)
	if err != nil {
		return err
	}
	trained, err := s.Training.run(ctx, m, initial, seen, progress)
	if err != nil {
		return err
	}
	weights := memory{}
	for _, l := range leaves {
		weights[l.name] = trained[l.name]
		dtype.RoundBF16(weights[l.name])
	}
	data, err := stored(leaves, weights)
	if err != nil {
		return err
	}
	files := map[string][]byte{configName: conf, "generation_config.json": []byte(generationConfig), weightsName: data}
	r := s.record(files, leaves)
	if err := r.measure(ctx, network{m, weights}, seen, unseen, s.Training.Window); err != nil {
		return err
	}
	if err := r.sample(ctx, network{m, weights}, s.Training.Window); err != nil {
		return err
	}
	if files[recordName], err = indented(r); err != nil {
		return err
	}
	files[cardName] = s.card(r)
	return writeFolder(dst, files)
}

// initialise draws all weights.
func initialise(m *arch.Model, conf []byte, seed uint64) (memory, error) {
	laws, err := laws(m, conf, seed)
	if err != nil {
		return nil, err
	}
	out := memory{}
	for name, l := range laws {
		n := 1
		for _, d := range m.Graph.Shape(m.Graph.Weights()[name]) {
			n *= d
		}
		x := make([]float32, n)
		l.fill(x, 0)
		out[name] = x
	}
	return out, nil
}

// run trains all weights on the seen text and returns them; of tied tensors it
// returns both.
func (t Training) run(ctx context.Context, m *arch.Model, src probe.Source, seen []byte, progress func(Step)) (memory, error) {
	b, err := newBatches(seen, t.Window, t.Batch, t.Seed)
	if err != nil {
		return nil, err
	}
	e, err := train.New(ctx, m.Graph, src, train.Options{Batch: t.Batch, Workers: t.Workers, Trainable: train.Trainable{Kind: train.Full}})
	if err != nil {
		return nil, err
	}
	tr, err := train.NewTrainer(e, train.TrainOptions{
		Optimizer: train.Optimizer{Method: train.AdamW, Beta2: 0.98, WeightDecay: t.Decay},
		LR:        t.LR, Schedule: train.Cosine, Warmup: t.Warmup, Steps: t.Steps, Clip: 1,
	})
	if err != nil {
		return nil, err
	}
	for i := range t.Steps {
		if ctx.Err() != nil {
			return nil, fault.Wrap(fault.Interrupted, context.Cause(ctx), "training stopped at step %d of %d", i, t.Steps)
		}
		r, err := tr.Step(b.next())
		if err != nil {
			return nil, err
		}
		if math.IsNaN(r.Loss) || math.IsInf(r.Loss, 0) {
			return nil, fault.New(fault.General, "the training diverged at step %d: its loss is %g", i+1, r.Loss).
				WithHint("take a lower learning rate than %g", t.LR)
		}
		if progress != nil {
			progress(Step{i + 1, t.Steps, r.Loss, r.LR})
		}
	}
	return weightsOf(e, m.Graph), nil
}

func weightsOf(e *train.Engine, g *graph.Graph) memory {
	out := memory{}
	for _, p := range e.Params() {
		out[p.Name] = p.Data
	}
	for _, t := range g.Ties() {
		if x, ok := out[t[0]]; ok {
			out[t[1]] = x
		}
	}
	return out
}

// stored is the content of model.safetensors.
func stored(leaves []leaf, w memory) ([]byte, error) {
	var list []safetensors.Tensor
	for _, l := range leaves {
		data := make([]byte, 2*len(w[l.name]))
		dtype.FromFloat32(dtype.BF16, data, w[l.name])
		list = append(list, safetensors.Tensor{TensorInfo: safetensors.TensorInfo{Name: l.name, DType: dtype.BF16, Shape: l.shape}, Data: data})
	}
	var out bytes.Buffer
	err := safetensors.Write(&out, map[string]string{"format": "pt"}, list)
	return out.Bytes(), err
}

// writeFolder writes the files of a new folder.
func writeFolder(dst string, files map[string][]byte) (err error) {
	dir, err := atomicdir.Create(dst, atomicdir.Options{})
	if err != nil {
		return err
	}
	defer func() {
		if e := dir.Abort(); err == nil {
			err = e
		}
	}()
	if err := addFiles(dir, files); err != nil {
		return err
	}
	return dir.Commit()
}

func addFiles(dir *atomicdir.Dir, files map[string][]byte) error {
	for name, data := range files {
		f, err := dir.Create(name)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
	}
	return nil
}
