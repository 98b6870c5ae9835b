package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// file is one file of a wheel.
type file struct {
	name       string
	content    []byte
	executable bool
}

// sourcePackage is the Python package without a binary.
type sourcePackage struct {
	files   []file // by name, as they stand in the wheel
	readme  []byte
	license []byte
	notices []byte // licences of what is linked into the binary
}

// readPackage reads the modules of the Python package. README.md becomes the
// description; anything else that is not Python's is an error, so that nothing
// slips into a wheel.
func readPackage(dir, license string) (*sourcePackage, error) {
	p := &sourcePackage{}
	var err error
	if p.license, err = os.ReadFile(license); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := e.Name()
		if name == "__pycache__" || name == "bin" && e.IsDir() {
			continue // what Python and developers leave there
		}
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		switch {
		case name == "README.md":
			p.readme = content
		case strings.HasSuffix(name, ".py"), name == "py.typed":
			p.files = append(p.files, file{name: "neuroseal/" + name, content: content})
		default:
			return nil, fmt.Errorf("%s: not a module; what is it doing in the package?", filepath.Join(dir, name))
		}
	}
	if p.readme == nil || len(p.files) == 0 {
		return nil, fmt.Errorf("%s is not the Python package: no README.md or no modules", dir)
	}
	return p, nil
}

// wheel is a wheel to be written.
type wheel struct {
	pkg     *sourcePackage
	version string // as PEP 440 writes it
	binary  *program
	when    time.Time
}

// name is the wheel's file name.
func (w *wheel) name() string {
	return fmt.Sprintf("neuroseal-%s-py3-none-%s.whl", w.version, strings.Join(w.binary.tags, "."))
}

// files returns the wheel's files in their order in the archive: the metadata
// last, as the format recommends, and RECORD, which names all others, at the end.
func (w *wheel) files() []file {
	all := slices.Clone(w.pkg.files)
	all = append(all, file{"neuroseal/bin/" + binaryName(w.binary.goos), w.binary.content, true})
	slices.SortFunc(all, func(a, b file) int { return strings.Compare(a.name, b.name) })
	info := fmt.Sprintf("neuroseal-%s.dist-info/", w.version)
	all = append(all,
		file{name: info + "METADATA", content: w.metadata()},
		file{name: info + "WHEEL", content: w.tags()},
		file{name: info + "entry_points.txt", content: []byte("[console_scripts]\nneuroseal = neuroseal._binary:main\n")},
		file{name: info + "licenses/LICENSE", content: w.pkg.license},
		file{name: info + "licenses/THIRD_PARTY_NOTICES.txt", content: w.pkg.notices},
	)
	return append(all, file{name: info + "RECORD", content: record(all, info+"RECORD")})
}

// record lists files with their SHA-256 and size; itself without.
func record(all []file, self string) []byte {
	var b bytes.Buffer
	for _, f := range all {
		sum := sha256.Sum256(f.content)
		fmt.Fprintf(&b, "%s,sha256=%s,%d\n", f.name, base64.RawURLEncoding.EncodeToString(sum[:]), len(f.content))
	}
	fmt.Fprintf(&b, "%s,,\n", self)
	return b.Bytes()
}

// write writes the wheel into a folder and returns its path. It becomes visible
// when it is complete.
func write(dir string, w wheel) (path string, err error) {
	path = filepath.Join(dir, w.name())
	f, err := os.CreateTemp(dir, ".wheel-*")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	z := zip.NewWriter(f)
	for _, file := range w.files() {
		if err := add(z, file, w.when); err != nil {
			return "", fmt.Errorf("%s: %w", file.name, err)
		}
	}
	if err := errors.Join(z.Close(), f.Chmod(0o644)); err != nil {
		return "", err
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	return path, os.Rename(f.Name(), path)
}

// add writes one file with its size and checksum before its content, not behind
// it as archive/zip does by itself: some readers of wheels refuse that.
func add(z *zip.Writer, f file, when time.Time) error {
	var packed bytes.Buffer
	c, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		return err
	}
	if _, err := c.Write(f.content); err != nil {
		return err
	}
	if err := c.Close(); err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if f.executable {
		mode = 0o755
	}
	h := &zip.FileHeader{
		Name: f.name, Method: zip.Deflate, CRC32: crc32.ChecksumIEEE(f.content), ReaderVersion: 20,
		CompressedSize64: uint64(packed.Len()), UncompressedSize64: uint64(len(f.content)),
	}
	h.SetMode(mode)
	// The fields that CreateRaw writes; Modified is for CreateHeader.
	//lint:ignore SA1019 see above
	h.ModifiedDate = uint16(when.Day() | int(when.Month())<<5 | (when.Year()-1980)<<9)
	//lint:ignore SA1019 see above
	h.ModifiedTime = uint16(when.Second()/2 | when.Minute()<<5 | when.Hour()<<11)
	out, err := z.CreateRaw(h)
	if err != nil {
		return err
	}
	_, err = out.Write(packed.Bytes())
	return err
}
