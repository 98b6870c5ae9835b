package neuroseal

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

// ggufPrefix is the beginning of the metadata keys that a seal adds.
const ggufPrefix = "neuroseal."

// openGGUF opens a model in GGUF as a checkpoint.
func openGGUF(path string) (*checkpoint.Checkpoint, error) {
	m, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	return m.Checkpoint()
}

// fromGGUF writes the forward pass of a model in GGUF, and takes its metadata
// for the config.
func (m *model) fromGGUF() (*arch.Model, error) {
	if m.graph != "" {
		return nil, fault.New(fault.Usage, "%s describes its network itself", m.path).WithHint("leave --graph out")
	}
	f, err := gguf.Open(m.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	net, err := arch.BuildGGUF(f, m.opt)
	if err != nil {
		return nil, err
	}
	m.conf, m.eps = net.Config, net.Epsilon
	return net.Model, nil
}

// suitsGGUF refuses what does not hold in the runtimes of GGUF. They round what
// most types are multiplied by to fp16, or to blocks whose scales are fp16.
func (o *LockOptions) suitsGGUF() error {
	if !gguf.Is(o.Source) {
		return nil
	}
	if o.Method != seal.Gauge {
		return fault.New(fault.Unsupported, "method %s rounds, and a model in GGUF is sealed exactly or not at all", o.Method).
			WithHint("use --method gauge")
	}
	if o.Profile == seal.Portable {
		return nil
	}
	m, err := gguf.Open(o.Source)
	if err != nil {
		return err
	}
	defer m.Close()
	hint := "use --profile portable, or seal the checkpoint before it is converted"
	if _, latent := m.Header().Number(m.Header().Text("general.architecture") + ".attention.kv_lora_rank"); latent {
		return fault.New(fault.Unsupported, "profile %s: this model's attention caches what its weights are multiplied by, in fp16", o.Profile).WithHint("%s", hint)
	}
	for _, f := range m.Files() {
		for _, t := range f.Tensors {
			if why := t.Type.Narrow(); why != "" && len(t.Dims) > 1 {
				return fault.New(fault.Unsupported, "profile %s: tensor %s is %v, %s", o.Profile, t.Name, t.Type, why).WithHint("%s", hint)
			}
		}
	}
	return nil
}

// kept lists the values that runtimes of GGUF round to a type that has nothing
// to do with the weights': keys and values, in fp16 unless the user chooses
// another type for the cache, and with them queries.
func (m *model) kept() []graph.ID {
	if !gguf.Is(m.path) {
		return nil
	}
	g := m.net.Graph
	weights := map[graph.ID]bool{}
	for _, id := range g.Weights() {
		weights[id] = true
	}
	seen := map[graph.ID]bool{}
	var out []graph.ID
	var visit func(id graph.ID)
	visit = func(id graph.ID) {
		if seen[id] || weights[id] {
			return
		}
		seen[id] = true
		n := &g.Nodes[id]
		if !n.Op.Move() && n.Op != graph.OpNeg {
			out = append(out, id)
			return
		}
		for _, in := range n.In {
			visit(in)
		}
	}
	for i := range g.Nodes {
		if n := &g.Nodes[i]; n.Op == graph.OpMatMul {
			for _, in := range n.In {
				visit(in)
			}
		}
	}
	return out
}

// sealedGGUF refuses a model whose metadata say that it is sealed.
func sealedGGUF(path string) error {
	m, err := gguf.Open(path)
	if err != nil {
		return err
	}
	defer m.Close()
	for _, kv := range m.Header().Metadata {
		if strings.HasPrefix(kv.Key, ggufPrefix) {
			return fault.New(fault.AlreadySealed, "%s is sealed: its metadata hold %s", path, kv.Key).
				WithHint("unlock it first; its manifest is called %s", filepath.Base(besideFile(path)))
		}
	}
	return nil
}

// headersGGUF returns the SHA-256 of the headers of a model's files.
func headersGGUF(path string) (sums []string, err error) {
	m, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	for i, f := range m.Files() {
		h := sha256.New()
		if _, err := io.Copy(h, f.Raw()); err != nil {
			return nil, fault.Wrap(fault.General, err, "reading %s", m.Names()[i])
		}
		sums = append(sums, hex.EncodeToString(h.Sum(nil)))
	}
	return sums, nil
}

// ggufEdit is how the header of a model's first file changes.
type ggufEdit struct {
	m     *gguf.Model
	shard string
	drop  bool      // the keys that a seal adds
	add   []gguf.KV // keys
	at    []int64   // places of fp32 numbers, and
	value [][]byte  // what stands there then
}

// ggufEditor opens a model to edit its header; Close ends the use of heads.
func ggufEditor(path string) (*ggufEdit, error) {
	m, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	return &ggufEdit{m: m, shard: m.Names()[0]}, nil
}

func (e *ggufEdit) Close() error { return e.m.Close() }

// number replaces the fp32 number under a key by itself times 4^n, exactly.
func (e *ggufEdit) number(key string, n int) (before, after []byte, at int64, err error) {
	kv, _ := e.m.Header().Get(key)
	v, ok := kv.Value.(float32)
	scaled := math.Ldexp(float64(v), 2*n)
	if !ok || float64(float32(scaled)) != scaled || scaled == 0 || math.Ldexp(scaled, -2*n) != float64(v) {
		return nil, nil, 0, fault.New(fault.Unsupported, "metadata key %s is %v: times 4^%d it is no fp32 number", key, kv.Value, n)
	}
	_, end := kv.Place()
	before = binary.LittleEndian.AppendUint32(nil, math.Float32bits(v))
	after = binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(scaled)))
	e.at, e.value = append(e.at, end-4), append(e.value, after)
	return before, after, end - 4, nil
}

// heads returns the edited header, nil where nothing changes.
func (e *ggufEdit) heads() (map[string]checkpoint.Head, error) {
	f := e.m.Header()
	if !e.drop && len(e.add) == 0 && len(e.at) == 0 {
		return nil, nil
	}
	open := func() (io.Reader, int64, error) { return f.Raw(), f.DataStart, nil }
	if e.drop || len(e.add) > 0 {
		open = func() (io.Reader, int64, error) {
			return f.Header(func(key string) bool { return e.drop && strings.HasPrefix(key, ggufPrefix) }, e.add)
		}
	}
	_, size, err := open()
	if err != nil {
		return nil, err
	}
	return map[string]checkpoint.Head{e.shard: {Skip: f.DataStart, Size: size, Open: func() (io.Reader, error) {
		r, _, err := open()
		return e.overlay(r), err
	}}}, nil
}

// overlay replaces the numbers in a header. Keys that come or go stand after
// them, so that they keep their places.
func (e *ggufEdit) overlay(r io.Reader) io.Reader {
	var parts []io.Reader
	var pos int64
	for i, at := range e.at {
		parts = append(parts, io.LimitReader(r, at-pos), &replaced{r: r, by: e.value[i]})
		pos = at + 4
	}
	return io.MultiReader(append(parts, r)...)
}

// replaced reads other bytes in place of as many of r.
type replaced struct {
	r  io.Reader
	by []byte
}

func (x *replaced) Read(p []byte) (int, error) {
	if len(x.by) == 0 {
		return 0, io.EOF
	}
	n := copy(p, x.by)
	if _, err := io.ReadFull(x.r, make([]byte, n)); err != nil {
		return 0, err
	}
	x.by = x.by[n:]
	return n, nil
}

// ggufHeader edits the header of the model that is sealed: the norms' epsilon
// moves with the residual group, and keys say that the model is sealed.
func (l *locker) ggufHeader() (*ggufEdit, error) {
	e, err := ggufEditor(l.m.path)
	if err != nil {
		return nil, err
	}
	if err := l.epsilonGGUF(e); err != nil {
		e.Close()
		return nil, err
	}
	switch {
	case l.o.NoMetadata:
	case !e.m.Header().Canonical():
		l.man.Notes = append(l.man.Notes, "no neuroseal.* metadata keys: the padding of the file's header could not be restored")
	default:
		for key, v := range map[string]string{"method": l.man.Method, "profile": l.man.Profile, "tool": l.man.Tool} {
			e.add = append(e.add, gguf.KV{Key: ggufPrefix + key, Value: v})
		}
		slices.SortFunc(e.add, func(a, b gguf.KV) int { return cmp.Compare(a.Key, b.Key) })
	}
	return e, nil
}

// epsilonGGUF moves the epsilon and records how to take it back.
func (l *locker) epsilonGGUF(e *ggufEdit) error {
	if l.sol.Residual < 0 {
		return nil
	}
	n, _ := l.seal.Groups[l.sol.Residual].Span()
	path := e.shard
	if l.o.fileName != "" {
		path = l.o.fileName
	}
	for _, m := range l.sol.Eps {
		if m.Coef*n == 0 {
			continue
		}
		before, after, at, err := e.number(l.m.eps[m.Key], m.Coef*n)
		if err != nil {
			return err
		}
		l.man.Patches = append(l.man.Patches, manifest.Patch{
			Path: path, Offset: int(at), Before: hex.EncodeToString(before), After: hex.EncodeToString(after),
		})
	}
	return nil
}

// unsealGGUF edits the header of a sealed model back.
func unsealGGUF(source string, man *manifest.Manifest) (*ggufEdit, error) {
	e, err := ggufEditor(source)
	if err != nil {
		return nil, err
	}
	if err := e.restore(man); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

func (e *ggufEdit) restore(man *manifest.Manifest) error {
	f := e.m.Header()
	for _, kv := range f.Metadata {
		e.drop = e.drop || strings.HasPrefix(kv.Key, ggufPrefix)
	}
	for _, p := range man.Patches {
		if p.Path != e.shard {
			continue
		}
		before, err1 := hex.DecodeString(p.Before)
		after, err2 := hex.DecodeString(p.After)
		kv, ok := numberAt(f, int64(p.Offset))
		if err1 != nil || err2 != nil || len(before) != 4 || len(after) != 4 || !ok {
			return fault.New(fault.Mismatch, "%s: a patch of %s at byte %d, where no number stands", manifest.Name, p.Path, p.Offset)
		}
		if v := kv.Value.(float32); math.Float32bits(v) != binary.LittleEndian.Uint32(after) {
			return fault.New(fault.Mismatch, "%s: metadata key %s was changed after sealing", p.Path, kv.Key)
		}
		e.at, e.value = append(e.at, int64(p.Offset)), append(e.value, before)
	}
	return nil
}

// numberAt finds the fp32 number at a place of a file.
func numberAt(f *gguf.File, at int64) (gguf.KV, bool) {
	for _, kv := range f.Metadata {
		if _, end := kv.Place(); kv.Type == gguf.Float32 && end-4 == at {
			return kv, true
		}
	}
	return gguf.KV{}, false
}

// restoreEpsilon gives the network of a sealed model the original's epsilon.
func (m *model) restoreEpsilon(man *manifest.Manifest) error {
	f, err := unsealGGUF(m.path, man)
	if err != nil {
		return err
	}
	defer f.Close()
	old := map[string]float64{}
	for i, at := range f.at {
		kv, _ := numberAt(f.m.Header(), at)
		old[kv.Key] = float64(math.Float32frombits(binary.LittleEndian.Uint32(f.value[i])))
	}
	for i := range m.net.Graph.Nodes {
		n := &m.net.Graph.Nodes[i]
		if v, ok := old[m.eps[n.EpsKey]]; ok && n.EpsKey != "" {
			n.Scalar = v
		}
	}
	return nil
}

// confOf returns a checkpoint's config, or a GGUF's metadata as one.
func confOf(path string, ck *checkpoint.Checkpoint) []byte {
	if !gguf.Is(path) {
		return ck.ConfigJSON()
	}
	m := &model{path: path, ck: ck, opt: arch.Options{Tokens: 1, AllowUnsealed: true}}
	if _, err := m.fromGGUF(); err != nil {
		return nil
	}
	return m.conf
}

// ggufUndo edits the header of a model that is re-balanced.
func (m *model) ggufUndo(moves []gauge.EpsMove, n int) (*ggufEdit, error) {
	e, err := ggufEditor(m.path)
	if err != nil {
		return nil, err
	}
	for _, kv := range e.m.Header().Metadata {
		e.drop = e.drop || strings.HasPrefix(kv.Key, ggufPrefix)
	}
	for _, x := range moves {
		if x.Coef*n == 0 {
			continue
		}
		if _, _, _, err := e.number(m.eps[x.Key], x.Coef*n); err != nil {
			e.Close()
			return nil, err
		}
	}
	return e, nil
}

// undoFile re-balances a model into a file.
func undoFile(ctx context.Context, o UndoOptions) (*UndoResult, error) {
	f, err := newFileOutput(o.Source, o.Output, o.Force)
	if err != nil {
		return nil, err
	}
	o.Output, o.Force = f.staged, true
	res, err := Undo(ctx, o)
	if err != nil {
		return nil, err
	}
	res.Output = f.file
	return res, f.commit()
}

// ggufOutput is a model in one GGUF file that is written as a file.
func ggufOutput(source, output string, force bool) (*fileOutput, error) {
	if !gguf.Is(source) {
		return nil, fault.New(fault.Usage, "output %s is named as a GGUF, and the source is none", output).WithHint("name a folder")
	}
	m, err := gguf.Open(source)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if len(m.Names()) > 1 {
		return nil, fault.New(fault.Usage, "%s is split into %d files", source, len(m.Names())).WithHint("name a folder for the output")
	}
	dir, base := filepath.Split(output)
	at := source
	if info, err := os.Stat(source); err == nil && info.IsDir() {
		at = filepath.Join(source, m.Names()[0])
	}
	if same(at, output) {
		return nil, fault.New(fault.Usage, "output %s is the source", output).WithHint("choose another name")
	}
	f := &fileOutput{
		file: output, staged: filepath.Join(dir, "."+base+".neuroseal"), force: force,
		model: m.Names()[0], moves: map[string]string{manifest.Name: besideFile(output)},
	}
	return f, f.free()
}
