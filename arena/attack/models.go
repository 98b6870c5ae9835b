package attack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/arena/informed"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/manifest"
)

// describe says what a model is. Its digest covers the configuration and every
// shard: nothing else enters a training.
func describe(ctx context.Context, path string) (arena.Model, error) {
	in, err := neuroseal.Inspect(ctx, neuroseal.InspectOptions{Path: path, AllowUnsealed: true})
	if err != nil {
		return arena.Model{}, err
	}
	digest, err := digestOf(ctx, path)
	if err != nil {
		return arena.Model{}, err
	}
	m := arena.Model{Name: filepath.Base(filepath.Clean(path)), Digest: digest, Params: in.Parameters, Family: in.ModelType}
	if in.Sealed || in.Legacy != "" {
		m.Seal, m.Holes = strings.TrimSpace(in.Method+" "+in.Profile), len(in.Holes)
		if in.Legacy != "" {
			m.Seal = in.Legacy + " (original tool)"
		}
		if in.Promise != nil {
			m.Promise = promise(in.Promise)
		}
	}
	return m, nil
}

// promise is a manifest's promise in a sentence.
func promise(p *manifest.Promise) string {
	out := "bit-exact in " + strings.Join(p.BitExact, ", ")
	if len(p.BitExact) == 0 {
		out = "not bit-exact"
	}
	if len(p.Runs) > 0 {
		out += "; runs in " + strings.Join(p.Runs, ", ")
	}
	if len(p.Quantisers) > 0 {
		out += "; survives " + strings.Join(p.Quantisers, ", ")
	}
	return out
}

func digestOf(ctx context.Context, path string) (string, error) {
	ck, err := checkpoint.Open(path)
	if err != nil {
		return "", err
	}
	defer ck.Close()
	var names []string
	for _, s := range ck.Shards() {
		names = append(names, s.Path)
	}
	files, err := checkpoint.Digest(ctx, ck.Root(), names, 0, func(int64) {})
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d\n%s\n", len(ck.ConfigJSON()), ck.ConfigJSON())
	for _, f := range files {
		fmt.Fprintf(h, "%s %d\n", f.SHA256, f.Size)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// cost is what a preparation took, kept beside what it made.
type cost struct {
	Seconds   float64 `json:"seconds"`
	BytesRead int64   `json:"bytes_read"`
}

// prepare applies preparations to a model in the order given and returns the
// folder of the result, which is made once per run.
func (s *setup) prepare(ctx context.Context, digest string, names []string) (string, cost, error) {
	id := digest[:12]
	if s.withBase(names) {
		id += "-" + s.meta.Base[:12]
	}
	dst := filepath.Join(s.o.Dir, preparedFolder, id+"-"+strings.Join(names, "-")+"-"+neuroseal.Version)
	record := dst + ".json"
	var c cost
	if raw, err := os.ReadFile(record); err == nil && json.Unmarshal(raw, &c) == nil {
		if _, err := os.Stat(filepath.Join(dst, "config.json")); err == nil {
			return dst, c, nil
		}
	}
	if err := os.RemoveAll(dst); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", c, fault.Wrap(fault.General, err, "clearing a preparation that was interrupted")
	}
	if err := s.makePrepared(); err != nil {
		return "", c, err
	}
	s.o.Notice("preparing: %s", strings.Join(names, ", "))
	began := time.Now()
	read, err := s.transform(ctx, s.folder[digest], dst, names)
	if err != nil {
		return "", c, err
	}
	c = cost{Seconds: time.Since(began).Seconds(), BytesRead: read}
	raw, err := json.Marshal(c)
	if err != nil {
		return "", c, err
	}
	return dst, c, atomicdir.WriteFile(record, append(raw, '\n'), 0o666, true)
}

// preparedFolder holds what can be made again.
const preparedFolder = "prepared"

// makePrepared makes it, such that git does not take it in.
func (s *setup) makePrepared() error {
	dir := filepath.Join(s.o.Dir, preparedFolder)
	err := os.MkdirAll(dir, 0o777)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, ".gitignore"), []byte("*\n"), 0o666)
	}
	if err != nil {
		return fault.Wrap(fault.General, err, "creating the folder of prepared models")
	}
	return nil
}

// withBase reports whether preparations use the public base.
func (s *setup) withBase(names []string) bool {
	r := arena.Recipe{Prepare: names}
	return r.NeedsBase()
}

func (s *setup) transform(ctx context.Context, src, dst string, names []string) (read int64, err error) {
	if len(names) == 1 && names[0] == "undo" {
		r, err := neuroseal.Undo(ctx, neuroseal.UndoOptions{Source: src, Output: dst, AllowUnsealed: true})
		if err != nil {
			return 0, err
		}
		return r.BytesRead, nil
	}
	m, err := informed.Load(ctx, src)
	if err != nil {
		return 0, err
	}
	var base *informed.Model
	if s.withBase(names) {
		if base, err = informed.Load(ctx, s.folder[s.meta.Base]); err != nil {
			return 0, err
		}
	}
	for _, name := range names {
		next, c, err := informed.Prepare(ctx, name, m, base)
		if err != nil {
			return 0, err
		}
		m, read = next, read+c.BytesRead
	}
	return read, m.Save(ctx, dst)
}
