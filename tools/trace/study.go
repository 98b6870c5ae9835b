package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
	"github.com/neuroseal/neuroseal/trace"
)

// study is one model, sealed with one profile.
type study struct {
	work    string
	model   model
	profile seal.Profile
	moved   bool // permuted, and with signs
	Rows    []*row
}

func (s *study) name() string {
	if s.moved {
		return string(s.profile) + ", permuted, signs"
	}
	return string(s.profile)
}

// row is what traces of one kind of change found.
type row struct {
	What   string
	Expect expectation
	Note   string // what the change did: how much weights changed, and the loss

	With, Without found // the original
}

// expectation is what a trace should say.
type expectation int

const (
	theLeaker expectation = iota
	nobody
	both // of two copies
	open // whatever is found
)

// found counts traces.
type found struct {
	Tries, Right, Wrong int
	Blind               int     // traces that could not tell
	Worst               float64 // largest log10 of a right one's p
	Next                float64 // most bits of evidence for anybody else
}

// key is the seal key of a copy.
func (s *study) key(i int) keys.SealKey {
	return sha256.Sum256(fmt.Appendf(nil, "trace/%s/%s/%d", s.model.name, s.name(), i))
}

func label(i int) string { return fmt.Sprintf("partner-%02d", i) }

// seal makes copy i, unless it is there.
func (s *study) seal(ctx context.Context, i int) (dir string, m *manifest.Manifest, err error) {
	dir = filepath.Join(s.work, fmt.Sprintf("copy-%d", i))
	if _, err := os.Stat(dir); err == nil {
		m, _, err = neuroseal.ReadManifest(dir)
		return dir, m, err
	}
	res, err := neuroseal.Lock(ctx, neuroseal.LockOptions{
		Source: s.model.path, Output: dir, Profile: s.profile, Key: s.key(i), Permute: s.moved, Signs: s.moved,
		Time: time.Unix(1_700_000_000, 0), NoCard: true,
	})
	if err != nil {
		return "", nil, err
	}
	return dir, res.Manifest, nil
}

// registry registers all copies, without sealing each: a copy's entry depends on
// the original, the profile and the key only.
func (s *study) registry(like *manifest.Manifest) (*trace.Registry, error) {
	dir := filepath.Join(s.work, "registry")
	_, err := os.Stat(dir)
	r, _, oerr := trace.OpenRegistry(dir, true)
	if err == nil || oerr != nil {
		return r, oerr
	}
	for i := range registered {
		m := *like
		m.SealID = fmt.Sprintf("%016x", i+1)
		m.Sign(s.key(i))
		if _, err := r.Add(label(i), s.key(i), nil, &m, time.Unix(1_700_000_000, 0)); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// try lets one copy leak, in all ways.
func (s *study) try(ctx context.Context, leaker int) error {
	dir, m, err := s.seal(ctx, leaker)
	if err != nil {
		return err
	}
	r, err := s.registry(m)
	if err != nil {
		return err
	}
	k := 0
	for _, c := range changes {
		leaked := filepath.Join(s.work, fmt.Sprintf("leak-%d", k))
		note, err := c.make(ctx, s, dir, leaker, &leaked)
		if err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
		if leaked == "" {
			continue // does not apply
		}
		if k == len(s.Rows) {
			s.Rows = append(s.Rows, &row{
				What: c.what, Expect: c.expect, Note: note, With: found{Next: least}, Without: found{Next: least},
			})
		}
		x := s.Rows[k]
		k++
		for _, way := range []struct {
			original string
			to       *found
		}{{s.model.path, &x.With}, {"", &x.Without}} {
			res, err := trace.Trace(ctx, trace.Options{Leaked: leaked, Original: way.original, Registry: r})
			if err != nil {
				return fmt.Errorf("%s: %w", c.what, err)
			}
			way.to.count(c.expect, leaker, res)
		}
		if leaked != s.model.path && leaked != dir {
			if err := os.RemoveAll(leaked); err != nil {
				return err
			}
		}
	}
	return nil
}

// least is less evidence than anybody has.
const least = -1e9

// partner is who the leaker averages with.
func partner(leaker int) int { return (leaker + 31) % registered }

func (f *found) count(e expectation, leaker int, r *trace.Result) {
	f.Tries++
	want := map[string]bool{}
	switch e {
	case theLeaker, open:
		want[label(leaker)] = true
	case both:
		want[label(leaker)], want[label(partner(leaker))] = true, true
	}
	right := 0
	for _, m := range r.Matches {
		if !want[m.Label] {
			f.Wrong++
			f.Next = max(f.Next, m.Bits)
			continue
		}
		right++
		if f.Tries == 1 && right == 1 {
			f.Worst = m.Log10P
		}
		f.Worst = max(f.Worst, m.Log10P)
	}
	switch {
	case r.Verdict == trace.Impossible:
		f.Blind++
	case r.Next != nil && !want[r.Next.Label]:
		f.Next = max(f.Next, r.Next.Bits)
	}
	if right == len(want) && (e != nobody || len(r.Matches) == 0) {
		f.Right++
	}
}

func (s *study) print(w io.Writer) {
	for _, r := range s.Rows {
		fmt.Fprintf(w, "  %-44s with %d/%d wrong %d p %.0f next %.1f   without %d/%d wrong %d p %.0f next %.1f   %s\n", r.What,
			r.With.Right, r.With.Tries, r.With.Wrong, r.With.Worst, r.With.Next,
			r.Without.Right, r.Without.Tries, r.Without.Wrong, r.Without.Worst, r.Without.Next, r.Note)
	}
}
