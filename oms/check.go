package oms

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// CheckOptions say how a model is compared with its statement.
type CheckOptions struct {
	Signature     string // path of the signature itself, which no signature covers
	AllowSymlinks bool   // follow symbolic links to files, even if the signer did not
	Workers       int    // as in HashOptions
	Progress      Progress
}

// Report says in what a model is what was signed, and in what not.
type Report struct {
	Files    int       `json:"files"` // that fit
	Bytes    int64     `json:"bytes"` // of them
	Problems []Problem `json:"problems"`
	// Ignored are files and folders that are there and that the signature says
	// nothing of.
	Ignored []string `json:"ignored"`
	// Partial says that one file of a signed folder was checked, and no other.
	Partial bool `json:"partial"`
}

// Problem is a file that is not as it was signed.
type Problem struct {
	File string `json:"file"`
	What string `json:"what"`
}

func (p Problem) String() string { return Shown(p.File) + " " + p.What }

// Check compares a model with the statement: every signed file must be there
// with its digest, and no other file but those that the signer left out. Where
// the model is a file and the statement is of a folder, only that file is
// checked, which must stand in the folder itself.
func (s *Statement) Check(ctx context.Context, model string, o CheckOptions) (*Report, error) {
	info, err := os.Stat(model)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "opening the model")
	}
	c := &checker{s: s, r: &Report{Problems: []Problem{}, Ignored: []string{}}, listed: map[string][]Resource{}}
	for _, r := range s.Resources {
		c.listed[r.Path] = append(c.listed[r.Path], r)
	}
	if info.IsDir() {
		err = c.folder(model, o)
	} else {
		err = c.file(model, info)
	}
	if err != nil {
		return nil, err
	}
	if err := hashAll(ctx, c.pieces, o.Workers, o.Progress); err != nil {
		return nil, err
	}
	c.compare()
	return c.r, nil
}

// checker carries one check.
type checker struct {
	s      *Statement
	r      *Report
	listed map[string][]Resource
	pieces []piece
}

func (c *checker) problem(file, format string, args ...any) {
	c.r.Problems = append(c.r.Problems, Problem{file, fmt.Sprintf(format, args...)})
}

// folder finds what is missing and what is too much.
func (c *checker) folder(model string, o CheckOptions) error {
	if c.s.single() {
		c.problem(model, "is a folder; the signature is of one file, %s", c.s.Model)
		return nil
	}
	own, inside := Within(o.Signature, model)
	ignore := c.s.Ignore
	if inside {
		ignore = append(slices.Clone(ignore), own)
	}
	w := walker{root: model, ignore: ignore, keep: c.s, links: o.AllowSymlinks || c.s.AllowSymlinks}
	t, err := w.list()
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, f := range t.files {
		there[f.rel] = true
		switch {
		case len(c.listed[f.rel]) > 0:
			c.take(f)
		case c.s.Sharded && f.info.Size() == 0:
			c.r.Ignored = append(c.r.Ignored, f.rel) // pieces cover no empty file
		default:
			c.problem(f.rel, "was not there when the model was signed")
		}
	}
	for i, r := range c.s.Resources {
		if !there[r.Path] && (i == 0 || c.s.Resources[i-1].Path != r.Path) {
			c.problem(r.Path, "is missing")
		}
	}
	for _, p := range t.ignored {
		if p != own && !slices.Contains(alwaysIgnored, p) {
			c.r.Ignored = append(c.r.Ignored, p)
		}
	}
	return nil
}

// file takes a model that is one file, or one file of a signed folder.
func (c *checker) file(model string, info os.FileInfo) error {
	abs, err := filepath.Abs(model)
	if err != nil {
		return fault.Wrap(fault.General, err, "opening the model")
	}
	name := wholeFile
	if !c.s.single() {
		name, c.r.Partial = filepath.Base(abs), true
	}
	if len(c.listed[name]) == 0 {
		c.problem(model, "is none of the %d signed files of %s", c.s.Files(), c.s.Model)
		return nil
	}
	c.take(file{name, model, info})
	return nil
}

// take adds the signed pieces of a file to those to hash.
func (c *checker) take(f file) {
	size := f.info.Size()
	list := c.listed[f.rel]
	if c.s.Sharded && len(list) > 0 && list[len(list)-1].End != size {
		c.problem(f.rel, "has %d bytes; %d were signed", size, list[len(list)-1].End)
		return
	}
	for _, r := range list {
		p := piece{file: f, start: r.Start, end: r.End}
		if !c.s.Sharded {
			p.end = size
		}
		c.pieces = append(c.pieces, p)
	}
}

// compare looks at the digests.
func (c *checker) compare() {
	next := map[string]int{}
	bad := map[string]bool{}
	for _, p := range c.pieces {
		want := c.listed[p.rel][next[p.rel]]
		next[p.rel]++
		name := p.rel
		if name == wholeFile {
			name = p.path
		}
		if p.sum != want.SHA256 && !bad[p.rel] {
			bad[p.rel] = true
			c.problem(name, "was changed: SHA-256 is %.16s…, signed %.16s…", p.sum, want.SHA256)
		}
	}
	for i, p := range c.pieces {
		if !bad[p.rel] && (i == 0 || c.pieces[i-1].rel != p.rel) {
			c.r.Files++
			c.r.Bytes += p.info.Size()
		}
	}
	slices.SortStableFunc(c.r.Problems, func(a, b Problem) int { return comparePaths(a.File, b.File) })
}
