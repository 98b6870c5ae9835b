package neuroseal

import (
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

// refuseSealed refuses a checkpoint that carries a manifest, ours or the
// original tool's.
func refuseSealed(src string) error {
	_, err := readManifest(src)
	if fault.KindOf(err) == fault.NotSealed && gguf.Is(src) {
		return sealedGGUF(src)
	}
	return judgeManifest(src, err)
}

// judgeManifest refuses a checkpoint by what reading its manifest gave.
func judgeManifest(src string, err error) error {
	var legacy manifest.Legacy
	switch {
	case err == nil:
		return fault.New(fault.AlreadySealed, "%s is sealed: it holds %s", src, manifest.Name).
			WithHint("unlock it first")
	case errors.As(err, &legacy):
		return fault.New(fault.AlreadySealed, "%s is %v", src, legacy).
			WithHint("undo that first: neuroseal unlock --legacy-v2 --password … or --legacy-static 100")
	case fault.KindOf(err) == fault.NotSealed:
		return nil
	case fault.KindOf(err) == fault.General:
		return err
	}
	return fault.Wrap(fault.AlreadySealed, err, "%s holds a %s that cannot be read", src, manifest.Name).
		WithHint("if the checkpoint is not sealed, remove that file")
}

// CheckSource refuses what Lock refuses before it reads any weight: a
// checkpoint that is sealed, damaged, or of an unknown kind.
func CheckSource(path, graphFile string, allowUnsealed bool) error {
	if err := refuseSealed(path); err != nil {
		return err
	}
	m, err := openWith(path, graphFile, arch.Options{Tokens: observeTokens, AllowUnsealed: allowUnsealed})
	if err != nil {
		return err
	}
	return m.ck.Close()
}

// ReadManifest reads the manifest of a sealed checkpoint and says where it
// stands: in the folder, or beside the file.
func ReadManifest(path string) (m *manifest.Manifest, file string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, "", fault.Wrap(fault.General, err, "opening checkpoint")
	}
	file = manifestOf(path, info.IsDir())
	info, err = os.Stat(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, file, fault.New(fault.NotSealed, "%s is not sealed: it holds no %s", path, manifest.Name)
	case err != nil:
		return nil, file, fault.Wrap(fault.General, err, "reading manifest")
	case info.Size() > manifest.MaxSize:
		return nil, file, fault.New(fault.Mismatch, "%s: %d bytes; at most %d are read", file, info.Size(), manifest.MaxSize)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, file, fault.Wrap(fault.General, err, "reading manifest")
	}
	m, err = manifest.Parse(data)
	return m, file, err
}

// manifestOf returns where the manifest of a checkpoint stands, or would.
func manifestOf(path string, folder bool) string {
	if folder {
		return filepath.Join(path, manifest.Name)
	}
	if file := besideFile(path); isFile(file) {
		return file
	}
	return filepath.Join(filepath.Dir(path), manifest.Name)
}

func isFile(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// SealedAsFile reports whether path is a model file that was sealed by itself:
// its manifest stands beside it, not in the folder.
func SealedAsFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir() && isFile(besideFile(path))
}

func readManifest(src string) (*manifest.Manifest, error) {
	m, _, err := ReadManifest(src)
	return m, err
}

// prune drops what belongs to groups that stay where they are.
func prune(t gauge.Tensor, moves func(group int) bool) gauge.Tensor {
	var terms []gauge.Axis
	for _, ax := range t.Terms {
		ax.Segments = slices.DeleteFunc(slices.Clone(ax.Segments), func(s gauge.Segment) bool { return !moves(s.Group) })
		if len(ax.Segments) > 0 {
			terms = append(terms, ax)
		}
	}
	t.Terms = terms
	return t
}

func encodeTensor(t gauge.Tensor) manifest.Tensor {
	m := manifest.Tensor{Name: t.Name, Shape: t.Shape}
	for _, ax := range t.Terms {
		term := manifest.Term{Axes: ax.Axes, Segments: make([][6]int, len(ax.Segments))}
		if term.Axes == nil {
			term.Axes = []int{}
		}
		for i, s := range ax.Segments {
			term.Segments[i] = [6]int{s.Start, s.Count, s.Group, s.First, s.Div, s.Coef}
		}
		m.Terms = append(m.Terms, term)
	}
	return m
}

func outliersOf(g seal.Group) *manifest.Outliers {
	if g.Outliers.Count == 0 {
		return nil
	}
	o := manifest.Outliers(g.Outliers)
	return &o
}
