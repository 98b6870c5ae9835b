package pt2

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Limits of an archive. Real ones: a 60-layer network's model.json has about
// 30 MB; torch stores entries without compression.
const (
	maxEntries  = 1 << 16
	maxJSON     = 1 << 28
	maxPayload  = 1 << 27
	maxRatio    = 200 // of what deflate makes of repetitive JSON
	ratioSpares = 1 << 20
)

// archive is an opened zip, entries by their path below the archive's root.
type archive struct {
	files map[string]*zip.File
}

func readArchive(r io.ReaderAt, size int64) (*archive, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, fault.Wrap(fault.Unsupported, err, "not a torch.export archive")
	}
	if len(z.File) > maxEntries {
		return nil, fault.New(fault.Unsupported, "the archive has %d entries, more than %d", len(z.File), maxEntries)
	}
	a := &archive{files: map[string]*zip.File{}}
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		if f.Name != path.Clean(f.Name) || path.IsAbs(f.Name) || strings.HasPrefix(f.Name, "../") || strings.Contains(f.Name, "\\") {
			return nil, fault.New(fault.Unsupported, "the archive's entry %q has an unsafe path", f.Name)
		}
		if _, twice := a.files[f.Name]; twice {
			return nil, fault.New(fault.Unsupported, "the archive has two entries %q", f.Name)
		}
		if f.UncompressedSize64 > maxRatio*f.CompressedSize64+ratioSpares || f.CompressedSize64 > uint64(size) {
			return nil, fault.New(fault.Unsupported, "the archive's entry %q claims %d bytes from %d", f.Name, f.UncompressedSize64, f.CompressedSize64)
		}
		a.files[f.Name] = f
	}
	return a, a.strip()
}

// strip removes the folder that torch names after the file and puts around all
// entries.
func (a *archive) strip() error {
	root, common := "", true
	for name := range a.files {
		dir, _, nested := strings.Cut(name, "/")
		if !nested || root != "" && dir != root {
			common = false
			break
		}
		root = dir
	}
	if !common || root == "" || root == "models" || root == "data" {
		return nil
	}
	out := map[string]*zip.File{}
	for name, f := range a.files {
		out[strings.TrimPrefix(name, root+"/")] = f
	}
	a.files = out
	return nil
}

// read returns an entry's bytes; it demands the size and checksum that the
// directory gives.
func (a *archive) read(name string, limit uint64) ([]byte, error) {
	f, ok := a.files[name]
	if !ok {
		return nil, fault.New(fault.Unsupported, "the archive has no %s", name)
	}
	if f.UncompressedSize64 > limit {
		return nil, fault.New(fault.Unsupported, "the archive's %s has %d bytes, more than %d", name, f.UncompressedSize64, limit)
	}
	r, err := f.Open()
	if err != nil {
		return nil, fault.Wrap(fault.Unsupported, err, "the archive's %s", name)
	}
	defer r.Close()
	var buf bytes.Buffer
	// One byte more makes the reader reach the end and check the checksum.
	if _, err := io.Copy(&buf, io.LimitReader(r, int64(f.UncompressedSize64)+1)); err != nil {
		return nil, fault.Wrap(fault.Unsupported, err, "the archive's %s", name)
	}
	if uint64(buf.Len()) != f.UncompressedSize64 {
		return nil, fault.New(fault.Unsupported, "the archive's %s has not the %d bytes that it claims", name, f.UncompressedSize64)
	}
	return buf.Bytes(), nil
}

func (a *archive) json(name string, v any) error {
	b, err := a.read(name, maxJSON)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return fault.Wrap(fault.Unsupported, err, "the archive's %s, byte %d", name, syntax.Offset)
		}
		return fault.Wrap(fault.Unsupported, err, "the archive's %s", name)
	}
	return nil
}

// program finds the exported program: torch 2.7 and later write models/NAME.json,
// earlier ones serialized_exported_program.json.
func (a *archive) program() (name string, err error) {
	const old = "serialized_exported_program.json"
	if _, ok := a.files[old]; ok {
		return old, nil
	}
	var found []string
	for n := range a.files {
		if path.Dir(n) == "models" && path.Ext(n) == ".json" {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		if _, ok := a.files["archive_format"]; ok {
			return "", fault.New(fault.Unsupported, "the archive holds no exported program").
				WithHint("write it with torch.export.save; compiled packages of AOTInductor hold no graph")
		}
		return "", fault.New(fault.Unsupported, "this zip file is not a torch.export archive").
			WithHint("`neuroseal graph script` prints a script that writes one")
	}
	return "", fault.New(fault.Unsupported, "the archive holds %d programs; one is needed", len(found))
}

// extra returns the path of the file that the exporter script adds, "" if none.
func (a *archive) extra() string {
	for _, dir := range []string{"extra/", "extra_files/"} {
		if _, ok := a.files[dir+extraName]; ok {
			return dir + extraName
		}
	}
	return ""
}

const extraName = "neuroseal.json"

func schemaError(major, minor int) error {
	return fault.New(fault.Unsupported, "the program's schema is version %d.%d; %d to %d are known", major, minor, oldestSchema, newestSchema).
		WithHint("export again with torch 2.5 to 2.15")
}

var errPickled = fmt.Errorf("it is stored as a pickle, which is never executed here")
