package neuroseal

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/adapter"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

// AdapterOptions say how to convert an adapter of PEFT.
type AdapterOptions struct {
	Source, Output string // folders
	// Sealed is the sealed checkpoint that the adapter is for, or its manifest.
	Sealed   string
	ToSealed bool // the adapter fits the original and is to fit the sealed model; false: the other way
	// Key finds the seal key, for example in the manifest's keyslots.
	Key      func(*manifest.Manifest) (keys.SealKey, error)
	Force    bool
	Progress Progress
	Notice   func(string) // told what the user should know; nil: nobody is
}

// AdapterResult says what was converted.
type AdapterResult struct {
	Output  string
	Type    string // "LORA"
	Base    string // base_model_name_or_path, which stays as it is
	Tensors int
	Changed int      // tensors whose bytes differ
	LeftOut []string // files that were not copied: they may hold the weights once more
}

// adapterConfigLimit bounds adapter_config.json, in bytes.
const adapterConfigLimit = 4 << 20

// ConvertAdapter writes the adapter of a sealed model as one of its original,
// or the other way around: with it, either model computes the same. Factors are
// powers of two, and signs and places change as the seal changes the weights';
// converting back gives the same bytes. The checkpoint's manifest and the key
// suffice; the sealed weights are not read.
//
// An adapter that does not belong to the model gives fault.Mismatch; one that
// has no exact counterpart, fault.Unsupported, with the reason.
func ConvertAdapter(ctx context.Context, o AdapterOptions) (*AdapterResult, error) {
	o.Progress = orSilent(o.Progress)
	c, err := openConversion(o)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.ck.CheckOutput(o.Output); err != nil {
		return nil, err
	}
	if err := o.keepSealed(); err != nil {
		return nil, err
	}
	if err := atomicdir.Check(o.Output, atomicdir.Options{Force: o.Force}); err != nil {
		return nil, err
	}
	if err := c.editors(); err != nil {
		return nil, err
	}
	res := &AdapterResult{Output: o.Output, Type: c.conf.Type, Base: c.conf.Base, Tensors: len(c.ck.Tensors())}
	sums := newChecksums()
	w := rewriting{
		ck: c.ck, dst: o.Output, force: o.Force, notice: o.Notice, stage: "converting", progress: o.Progress,
		opt: checkpoint.RewriteOptions{Edit: func(t checkpoint.Tensor) checkpoint.Editor { return sums.wrap(t, c.edit[t.Name]) }},
	}
	err = w.run(ctx, func(_ *atomicdir.Dir, out *checkpoint.RewriteResult) error {
		for _, f := range out.LeftOut {
			res.LeftOut = append(res.LeftOut, f.Path)
		}
		for _, s := range sums.list(c.ck) {
			if s.Original != s.Sealed {
				res.Changed++
			}
		}
		return nil
	})
	if fault.KindOf(err) == fault.Mismatch {
		return nil, fault.Wrap(fault.Unsupported, err, "the adapter has no exact counterpart").WithHint("%s", c.room())
	}
	return res, err
}

// room tells how an adapter gets the range that its numbers lack.
func (c *conversion) room() string {
	if slices.ContainsFunc(c.ck.Tensors(), func(t checkpoint.Tensor) bool { return t.DType == dtype.F16 }) {
		return "save it in float32, whose range is wider, and repeat"
	}
	return "multiply one of lora_A and lora_B by a power of two and divide the other by it, which leaves their product as it is, and repeat"
}

// keepSealed refuses an output that would replace the sealed model, or become
// part of it.
func (o *AdapterOptions) keepSealed() error {
	overlap := fault.New(fault.Usage, "output %s and sealed model %s lie within each other", o.Output, o.Sealed).
		WithHint("choose an output folder outside the sealed model")
	if in, err := atomicdir.Within(o.Sealed, o.Output); err != nil || in {
		return cmp.Or[error](err, overlap)
	}
	if info, err := os.Stat(o.Sealed); err != nil || !info.IsDir() {
		return nil // its manifest alone, which may lie anywhere
	}
	if in, err := atomicdir.Within(o.Output, o.Sealed); err != nil || in {
		return cmp.Or[error](err, overlap)
	}
	return nil
}

// conversion carries the conversion of one adapter.
type conversion struct {
	o    AdapterOptions
	ck   *checkpoint.Checkpoint // the adapter
	conf *adapter.Config
	man  *manifest.Manifest

	model  adapter.Model // tensors of the sealed model
	sealed *checkpoint.Checkpoint
	edit   map[string]checkpoint.Editor

	moves  map[string]*gauge.Tensor
	joined map[string]*gauge.Tensor // of the weights that transformers makes of several
	e      [][]int16
	neg    [][]bool
	places *reorder
	pieces map[[2]string]adapter.Piece // by weight and slot, for those that change places
}

func (c *conversion) close() {
	if c.ck != nil {
		c.ck.Close()
	}
	if c.sealed != nil {
		c.sealed.Close()
	}
}

// openConversion opens the adapter and the seal that it belongs to.
func openConversion(o AdapterOptions) (*conversion, error) {
	c := &conversion{o: o, edit: map[string]checkpoint.Editor{}, joined: map[string]*gauge.Tensor{}}
	if err := c.open(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *conversion) open() (err error) {
	if c.man, err = readManifest(c.o.Sealed); err != nil {
		return err
	}
	if c.man.Method != string(seal.Gauge) {
		return fault.New(fault.Unsupported, "method %s multiplies weights by real factors, and rounds; no adapter corresponds exactly", c.man.Method).
			WithHint("adapters of seals by method gauge can be converted")
	}
	if err := c.openAdapter(); err != nil {
		return err
	}
	return c.openModel()
}

// openAdapter reads the adapter's config and headers.
func (c *conversion) openAdapter() (err error) {
	if info, err := os.Stat(c.o.Source); err == nil && !info.IsDir() {
		return fault.New(fault.Usage, "%s is not a folder", c.o.Source).
			WithHint("an adapter is a folder with %s and %s", adapter.ConfigName, adapter.WeightsName)
	}
	if c.ck, err = checkpoint.Open(c.o.Source); err != nil {
		return fault.Wrap(fault.KindOf(err), err, "opening the adapter")
	}
	if s := c.ck.Shards(); len(s) != 1 || s[0].Path != adapter.WeightsName {
		return fault.New(fault.Unsupported, "%s holds %s, not %s: it is no adapter of PEFT", c.o.Source, s[0].Path, adapter.WeightsName).
			WithHint("the operands are the adapter's folder and the new one; the model goes to --sealed")
	}
	data, err := c.ck.ReadFile(adapter.ConfigName, adapterConfigLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Unsupported, "%s holds no %s: it is no adapter of PEFT", c.o.Source, adapter.ConfigName)
	}
	if err != nil {
		return err
	}
	c.conf, err = adapter.ReadConfig(data)
	return err
}

// openModel draws the seal's factors and lists the model's tensors. The
// manifest names them all, and knows the shapes of those that move; the others'
// stand in the checkpoint's headers, where those are at hand.
func (c *conversion) openModel() error {
	plan, err := seal.Decode(c.man)
	if err != nil {
		return err
	}
	key, err := c.o.Key(c.man)
	if err != nil {
		return err
	}
	if err := c.man.Verify(key); err != nil {
		return err
	}
	c.e, c.neg = plan.Exponents(key), plan.Signs(key)
	c.moves, c.model = map[string]*gauge.Tensor{}, adapter.Model{}
	for _, s := range c.man.Checksums {
		c.model[s.Tensor] = adapter.Weight{}
	}
	for i := range plan.Tensors {
		t := &plan.Tensors[i]
		c.moves[t.Name], c.model[t.Name] = t, adapter.Weight{Shape: t.Shape, Moves: true}
	}
	if info, err := os.Stat(c.o.Sealed); err == nil && info.IsDir() {
		if err := c.openHeaders(); err != nil {
			return err
		}
	}
	if c.man.Permute == nil {
		return nil
	}
	if c.sealed == nil {
		return fault.New(fault.Unsupported, "the seal is permuted, and converting an adapter of it needs the sealed model's own files, besides its manifest").
			WithHint("--sealed takes the sealed model's folder")
	}
	places, err := decodePermute(c.man, c.sealed)
	c.places = newReorder(c.sealed, places, key)
	return err
}

// openHeaders takes shapes from the sealed checkpoint, if its weights are there.
func (c *conversion) openHeaders() error {
	ck, err := openCheckpoint(c.o.Sealed)
	if err != nil {
		if c.hasWeights() {
			return err
		}
		return nil
	}
	c.sealed = ck
	for _, t := range ck.Tensors() {
		want, known := c.model[t.Name]
		if !known || want.Moves && !sameSize(want.Shape, t.Shape) {
			return fault.New(fault.Mismatch, "tensor %s is not in %s, or has another shape there", t.Name, manifest.Name).
				WithHint("fetch the sealed checkpoint again")
		}
		if !want.Moves {
			c.model[t.Name] = adapter.Weight{Shape: t.Shape}
		}
	}
	return nil
}

// hasWeights reports whether any weights lie beside the manifest.
func (c *conversion) hasWeights() bool {
	list, _ := os.ReadDir(c.o.Sealed)
	return slices.ContainsFunc(list, func(e fs.DirEntry) bool {
		return slices.ContainsFunc(c.man.Files, func(f manifest.File) bool {
			return f.Path == e.Name() && strings.HasSuffix(f.Path, ".safetensors")
		})
	})
}

// editors finds for every tensor of the adapter what changes it.
func (c *conversion) editors() error {
	var tensors []adapter.Tensor
	for _, t := range c.ck.Tensors() {
		tensors = append(tensors, adapter.Tensor{Name: t.Name, Shape: t.Shape})
	}
	list, err := adapter.Pieces(c.conf, tensors, c.model)
	if err != nil {
		return err
	}
	c.pieces = map[[2]string]adapter.Piece{}
	for _, p := range list {
		c.pieces[[2]string{p.Of, p.Slot}] = p
	}
	for _, p := range list {
		t, _ := c.ck.Tensor(p.Name)
		if !t.DType.Scalable() {
			return fault.New(fault.Unsupported, "adapter tensor %s is of type %v, which is not converted", p.Name, t.DType).
				WithHint("save the adapter in float32, bfloat16 or float16")
		}
		if c.edit[p.Name], err = c.moved(p, t); err != nil {
			return err
		}
	}
	return nil
}

// scaled returns what puts factors and signs on a tensor, or takes them off;
// nil if nothing does.
func (c *conversion) scaled(p adapter.Piece, t checkpoint.Tensor) (checkpoint.Editor, error) {
	w, err := c.weight(p)
	if w == nil || err != nil || p.Role == adapter.Gain {
		return nil, err
	}
	own, err := c.terms(p, w)
	if err != nil {
		return nil, err
	}
	sign, neg := -1, c.neg
	if c.o.ToSealed {
		sign = 1
	}
	if p.Role == adapter.Magnitude {
		neg = make([][]bool, len(c.neg))
	}
	return factorsOf(own, t, c.e, neg, sign), nil
}
