// Package attack sets up a run of the arena: it looks at the models, prepares
// what recipes ask to be prepared, and keeps everything in a run folder.
package attack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/arena/corpus"
	"github.com/neuroseal/neuroseal/arena/specimen"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Defaults of the texts: two domains that are generated, so that nothing foreign
// is shipped and nothing has to be fetched.
const (
	DefaultTarget   = "builtin:logs"
	DefaultRetained = "builtin:tales"
)

// builtinText begins the names of texts that need no file.
const builtinText = "builtin:"

// Options say what to attack and how.
type Options struct {
	Model   string // checkpoint under attack
	Against string // its original; "": the model itself, re-balanced without a key
	Base    string // public base that it was made from; "": Against
	Dir     string // run folder

	Table    *arena.Table
	Suite    *arena.Suite
	Target   string // what the attacker wants to teach; DefaultTarget if empty
	Retained string // what the model should still know; DefaultRetained if empty

	Engine  string // its name
	Execute arena.Executor

	Notice  func(format string, args ...any)
	Planned func(done, more int) // trials
}

// Run attacks a model, or goes on with an attack that was interrupted, and
// returns what is known at the end.
func Run(ctx context.Context, o Options) (*arena.Summary, error) {
	if o.Target == "" {
		o.Target = DefaultTarget
	}
	if o.Retained == "" {
		o.Retained = DefaultRetained
	}
	if o.Notice == nil {
		o.Notice = func(string, ...any) {}
	}
	if err := o.absolute(); err != nil {
		return nil, err
	}
	if err := o.checkDir(); err != nil {
		return nil, err
	}
	s := &setup{o: o, meta: &arena.Meta{ToolVersion: neuroseal.Version, TableVersion: o.Table.Version, Suite: *o.Suite,
		Recipes: o.Table.Select(o.Suite), Engine: o.Engine}}
	// What is wrong with the input comes before anything is written.
	if err := s.models(ctx); err != nil {
		return nil, err
	}
	if err := s.texts(ctx); err != nil {
		return nil, err
	}
	store, err := arena.OpenStore(o.Dir)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	if err := s.derived(ctx); err != nil {
		return nil, err
	}
	if o.Suite.Extend < arena.Far {
		s.meta.Notes = append(s.meta.Notes, fmt.Sprintf("Suite %s looks at few learning rates: what holds here may break further out. The suites wide and full follow each recipe to smaller rates until they change nothing.", o.Suite.Name))
	}
	if err := arena.WriteMeta(o.Dir, s.meta); err != nil {
		return nil, err
	}
	err = arena.Run(ctx, s.meta, store, s.paths, o.Execute, func(n int) {
		if o.Planned != nil {
			o.Planned(len(store.All()), n)
		}
	})
	if err != nil {
		return nil, err
	}
	return arena.Summarize(s.meta, store.Get), nil
}

// absolute makes paths absolute: a job may run elsewhere.
func (o *Options) absolute() error {
	for _, p := range []*string{&o.Model, &o.Against, &o.Base, &o.Dir, &o.Target, &o.Retained} {
		if *p == "" || strings.HasPrefix(*p, builtinText) {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return fault.Wrap(fault.General, err, "finding %s", *p)
		}
		*p = abs
	}
	return nil
}

// checkDir refuses to write where something else is.
func (o *Options) checkDir() error {
	for _, p := range []string{o.Model, o.Against, o.Base} {
		if p == "" {
			continue
		}
		for _, pair := range [][2]string{{o.Dir, p}, {p, o.Dir}} {
			if in, err := atomicdir.Within(pair[0], pair[1]); err == nil && in {
				return fault.New(fault.Usage, "the run folder %s and the model %s lie in each other", o.Dir, p).
					WithHint("name another folder as OUT")
			}
		}
	}
	entries, err := os.ReadDir(o.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fault.Wrap(fault.Usage, err, "%s cannot be a run folder", o.Dir).WithHint("name a new folder as OUT")
	case len(entries) == 0:
		return nil
	}
	if _, err := arena.ReadMeta(o.Dir); err != nil && !arena.Begun(o.Dir) {
		return fault.Wrap(fault.Usage, err, "%s holds something else", o.Dir).WithHint("name a new folder as OUT")
	}
	return nil
}

// setup is a run's models and texts.
type setup struct {
	o      Options
	meta   *arena.Meta
	folder map[string]string // digest → folder
}

// models looks at the models that are given.
func (s *setup) models(ctx context.Context) error {
	m := s.meta
	s.folder = map[string]string{}
	var err error
	if m.Sealed, err = describe(ctx, s.o.Model); err != nil {
		return err
	}
	s.folder[m.Sealed.Digest] = s.o.Model
	if s.o.Against != "" {
		if m.Reference, err = describe(ctx, s.o.Against); err != nil {
			return err
		}
		s.folder[m.Reference.Digest] = s.o.Against
		if err := sameShape(m.Sealed, m.Reference, s.o.Against); err != nil {
			return err
		}
		if m.Reference.Seal != "" {
			return fault.New(fault.Usage, "%s is sealed (%s): it cannot be the unsealed reference", s.o.Against, m.Reference.Seal).
				WithHint("give the original with --against, or leave it out")
		}
	}
	base := s.o.Base
	if base == "" {
		base = s.o.Against
	}
	if base != "" {
		d, err := describe(ctx, base)
		if err != nil {
			return err
		}
		if err := sameShape(m.Sealed, d, base); err != nil {
			return err
		}
		m.Base, s.folder[d.Digest] = d.Digest, base
		if s.o.Base == "" && s.needsBase() {
			m.Notes = append(m.Notes, "The public base of the informed attacks is the original itself: the best case for an attacker.")
		}
	}
	return nil
}

// derived makes the models that the run needs beside those that are given.
func (s *setup) derived(ctx context.Context) error {
	if s.o.Against == "" {
		if err := s.reference(ctx); err != nil {
			return err
		}
	}
	if s.meta.Suite.Random {
		return s.randomModel(ctx)
	}
	return nil
}

func (s *setup) needsBase() bool {
	for i := range s.meta.Recipes {
		if s.meta.Recipes[i].NeedsBase() {
			return true
		}
	}
	return false
}

// reference finds the model that "unsealed" means where none was given.
func (s *setup) reference(ctx context.Context) error {
	m := s.meta
	if m.Sealed.Seal == "" {
		m.Reference = m.Sealed
		m.Notes = append(m.Notes, "The model carries no seal: it is its own reference, and every attack learns as much as it can.")
		s.o.Notice("the model carries no seal; every attack will learn all it can")
		return nil
	}
	dst, cost, err := s.prepare(ctx, m.Sealed.Digest, []string{"undo"})
	if err != nil {
		return err
	}
	d, err := describe(ctx, dst)
	if err != nil {
		return err
	}
	m.Reference, s.folder[d.Digest] = d, dst
	m.Notes = append(m.Notes, fmt.Sprintf("The original was not given (--against): the reference is the model itself, re-balanced without a key in %.2f s. That it can serve as one is the informed attack.", cost.Seconds))
	return nil
}

func sameShape(a, b arena.Model, path string) error {
	if a.Family != b.Family || a.Params != b.Params {
		return fault.New(fault.Usage, "%s is a %s of %d parameters, the model under attack a %s of %d", path, b.Family, b.Params, a.Family, a.Params).
			WithHint("give the original that the model was sealed from")
	}
	return nil
}

func (s *setup) randomModel(ctx context.Context) error {
	dst := filepath.Join(s.o.Dir, preparedFolder, "random-"+s.meta.Reference.Digest[:12])
	if err := s.makePrepared(); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dst, "config.json")); err != nil {
		if err := specimen.Random(ctx, s.folder[s.meta.Reference.Digest], dst, 1); err != nil {
			return err
		}
	}
	d, err := describe(ctx, dst)
	if err != nil {
		return err
	}
	s.meta.Random, s.folder[d.Digest] = d.Digest, dst
	return nil
}

// texts loads the texts once, to know what they are.
func (s *setup) texts(ctx context.Context) error {
	m := s.meta
	target, retained, err := arena.OpenTexts(ctx, arena.Paths{Target: s.o.Target, Retained: s.o.Retained, Tokenizer: s.o.Model})
	if err != nil {
		return err
	}
	m.Target = arena.Text{Name: target.Name, Digest: target.Digest, Tokens: len(target.Train)}
	m.Retained = arena.Text{Name: retained.Name, Digest: retained.Digest, Tokens: len(retained.Train)}
	if m.Vocabulary, err = arena.Vocabulary(s.o.Model); err != nil {
		return err
	}
	m.Unigram = target.Unigram(m.Vocabulary)
	for _, c := range []*corpus.Corpus{target, retained} {
		if err := c.Fits(m.Suite.Window); err != nil {
			return err
		}
	}
	return nil
}

// paths says where a trial finds what it names, after preparing it.
func (s *setup) paths(ctx context.Context, t arena.Trial) (arena.Paths, error) {
	p := arena.Paths{Model: s.folder[t.Model], Target: s.o.Target, Retained: s.o.Retained, Tokenizer: s.o.Model}
	if t.Base != "" {
		p.Base = s.folder[t.Base]
	}
	if len(t.Recipe.Prepare) > 0 {
		dst, cost, err := s.prepare(ctx, t.Model, t.Recipe.Prepare)
		if err != nil {
			return p, err
		}
		p.Model, p.PrepareSeconds, p.BytesRead = dst, cost.Seconds, cost.BytesRead
	}
	return p, nil
}
