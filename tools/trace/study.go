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
	rows    []*row
}

// row is what traces of one kind of change found.
type row struct {
	what   string
	expect expectation
	// note is what the change did: how much weights changed, and the loss.
	note string
	// with the original, and without.
	with, without found
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
	tries, right, wrong int
	worst               float64 // largest log10 of a right one's p
	next                float64 // smallest log10 of anybody else's p
	evidence            []string
}

// key is the seal key of a copy.
func (s *study) key(i int) keys.SealKey {
	return sha256.Sum256(fmt.Appendf(nil, "trace/%s/%s/%d", s.model.name, s.profile, i))
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
		Source: s.model.path, Output: dir, Profile: s.profile, Key: s.key(i), Time: time.Unix(1_700_000_000, 0), NoCard: true,
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
		if k == len(s.rows) {
			s.rows = append(s.rows, &row{what: c.what, expect: c.expect, note: note})
		}
		x := s.rows[k]
		k++
		for _, way := range []struct {
			original string
			to       *found
		}{{s.model.path, &x.with}, {"", &x.without}} {
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

// partner is who the leaker averages with.
func partner(leaker int) int { return (leaker + 31) % registered }

func (f *found) count(e expectation, leaker int, r *trace.Result) {
	f.tries++
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
			f.wrong++
			f.next = min(f.next, m.Log10P)
			continue
		}
		right++
		if f.tries == 1 && right == 1 {
			f.worst = m.Log10P
		}
		f.worst = max(f.worst, m.Log10P)
	}
	if r.Next != nil {
		f.next = min(f.next, r.Next.Log10P)
	}
	if right == len(want) && (e != nobody || len(r.Matches) == 0) {
		f.right++
	}
}

func (s *study) print(w io.Writer) {
	for _, r := range s.rows {
		fmt.Fprintf(w, "  %-44s with %d/%d wrong %d p %.0f next %.1f   without %d/%d wrong %d p %.0f next %.1f   %s\n", r.what,
			r.with.right, r.with.tries, r.with.wrong, r.with.worst, r.with.next,
			r.without.right, r.without.tries, r.without.wrong, r.without.worst, r.without.next, r.note)
	}
}
