package neuroseal

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/oms"
	"github.com/neuroseal/neuroseal/onnx"
	"github.com/neuroseal/neuroseal/quant"
)

// openCheckpoint opens safetensors, or an ONNX model or one in GGUF as a
// checkpoint.
func openCheckpoint(path string) (*checkpoint.Checkpoint, error) {
	if onnx.Is(path) {
		return onnx.OpenCheckpoint(path)
	}
	if gguf.Is(path) {
		return openGGUF(path)
	}
	ck, err := checkpoint.Open(path)
	if err != nil {
		return nil, err
	}
	if err := ck.Interpret(quant.Narrow(ck)); err != nil {
		ck.Close()
		return nil, err
	}
	return ck, nil
}

// wholeOnly refuses to seal an ONNX model in parts, and any model into one file.
func wholeOnly(o LockOptions) error {
	if onnx.Is(o.Source) {
		return fault.New(fault.Usage, "a model in ONNX is sealed as a whole, not in parts").WithHint("leave --part and --finish out")
	}
	if modelFile(o.Output) {
		return fault.New(fault.Usage, "output %s is one file, which is sealed as a whole, not in parts", o.Output).
			WithHint("name a folder, or leave --part and --finish out")
	}
	return nil
}

// onnxTokens is the shortest sequence at which an ONNX graph is lowered: axes
// of length 1 would hide what varies along them.
const onnxTokens = 4

// openONNX opens an ONNX model with the network that it holds.
func openONNX(path string, opt arch.Options) (*model, error) {
	src, err := onnx.Open(path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	ck, err := src.Checkpoint()
	if err != nil {
		return nil, err
	}
	m := &model{path: path, ck: ck, conf: ck.ConfigJSON(), opt: opt, onnx: src}
	if err := m.build(); err != nil {
		ck.Close()
		return nil, err
	}
	m.onnx = nil // closed when this returns; another length is read from the file again
	return m, nil
}

// fromONNX is the network of an ONNX model.
func (m *model) fromONNX() (*arch.Model, error) {
	if m.onnx != nil {
		return networkOf(m.onnx, m.opt)
	}
	src, err := onnx.Open(m.path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	return networkOf(src, m.opt)
}

// networkOf lowers the graph of an ONNX model.
func networkOf(m *onnx.Model, opt arch.Options) (*arch.Model, error) {
	g, info, err := m.Graph(onnx.Options{Tokens: max(opt.Tokens, onnxTokens)})
	if err != nil {
		return nil, err
	}
	net := &arch.Model{Type: "onnx", Graph: g, Vocab: info.Vocab}
	describeONNX(net, info)
	return net, nil
}

// besideFile is the manifest of a model file that does not stand in a folder of
// its own.
func besideFile(file string) string { return file + ".neuroseal.json" }

// modelFile reports whether an output is named as a model file, not a folder.
func modelFile(output string) bool {
	info, err := os.Stat(output)
	ext := strings.ToLower(filepath.Ext(output))
	return (ext == onnx.Extension || ext == gguf.Extension) && (err != nil || !info.IsDir())
}

// fileOutput is a model that is written as a file, with its manifest beside it;
// an ONNX model with its external data. All of it is made in a folder first, and the
// model file is moved last.
type fileOutput struct {
	file   string // the output
	staged string // the folder
	force  bool
	model  string            // the model file's name in the folder
	moves  map[string]string // further files, from the folder to their place
}

// newFileOutput refuses outputs that are there already, or are the source's own.
func newFileOutput(source, output string, force bool) (*fileOutput, error) {
	if strings.EqualFold(filepath.Ext(output), gguf.Extension) {
		return ggufOutput(source, output, force)
	}
	if !onnx.Is(source) {
		return nil, fault.New(fault.Usage, "output %s is named as an ONNX model, and the source is none", output).WithHint("name a folder")
	}
	m, err := onnx.Open(source)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	dir, base := filepath.Split(output)
	f := &fileOutput{
		file: output, staged: filepath.Join(dir, "."+base+".neuroseal"), force: force,
		model: filepath.Base(m.Path()), moves: map[string]string{manifest.Name: besideFile(output)},
	}
	for _, name := range m.External() {
		at := filepath.Join(dir, filepath.FromSlash(name))
		f.moves[name] = at
		from := filepath.Join(filepath.Dir(m.Path()), filepath.FromSlash(name))
		if same(from, at) {
			return nil, fault.New(fault.Usage, "%s would be replaced: external data keep their name", at).
				WithHint("write the output to another folder")
		}
	}
	if same(m.Path(), output) {
		return nil, fault.New(fault.Usage, "output %s is the source", output).WithHint("choose another name")
	}
	return f, f.free()
}

func same(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// free demands that nothing stands where the output goes.
func (f *fileOutput) free() error {
	if f.force {
		return nil
	}
	for _, at := range append([]string{f.file}, values(f.moves)...) {
		if _, err := os.Lstat(at); err == nil {
			return fault.New(fault.Usage, "output %s exists", at).WithHint("remove it, or repeat with --force")
		}
	}
	return nil
}

func values(m map[string]string) []string {
	var out []string
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// commit moves the files to their places.
func (f *fileOutput) commit() error {
	defer atomicdir.Discard(f.staged)
	if err := f.free(); err != nil {
		return err
	}
	for name, at := range f.moves {
		from := filepath.Join(f.staged, filepath.FromSlash(name))
		if _, err := os.Stat(from); os.IsNotExist(err) {
			continue // unlocking leaves no manifest
		}
		if err := os.MkdirAll(filepath.Dir(at), 0o777); err != nil {
			return fault.Wrap(fault.General, err, "placing output")
		}
		if err := os.Rename(from, at); err != nil {
			return fault.Wrap(fault.General, err, "placing output")
		}
	}
	if err := os.Rename(filepath.Join(f.staged, f.model), f.file); err != nil {
		return fault.Wrap(fault.General, err, "placing output")
	}
	return nil
}

// lockFile seals a model into a file.
func lockFile(ctx context.Context, o LockOptions) (*LockResult, error) {
	f, err := newFileOutput(o.Source, o.Output, o.Force)
	if err != nil {
		return nil, err
	}
	if o.Signer != nil {
		f.moves[oms.Name], f.moves[manifest.Name+oms.Suffix] = f.file+oms.Suffix, besideFile(f.file)+oms.Suffix
		if err := f.free(); err != nil {
			return nil, err
		}
	}
	o.Output, o.Force, o.fileName = f.staged, true, filepath.Base(f.file)
	res, err := Lock(ctx, o)
	if err != nil {
		return nil, err
	}
	res.Output = f.file
	if res.Signature != "" {
		res.Signature = f.file + oms.Suffix
	}
	if o.DryRun {
		return res, nil
	}
	return res, f.commit()
}

// unlockFile restores a model as a file.
func unlockFile(ctx context.Context, o UnlockOptions) (*UnlockResult, error) {
	f, err := newFileOutput(o.Source, o.Output, o.Force)
	if err != nil {
		return nil, err
	}
	o.Output, o.Force = f.staged, true
	res, err := Unlock(ctx, o)
	if err != nil {
		return nil, err
	}
	res.Output = f.file
	return res, f.commit()
}
