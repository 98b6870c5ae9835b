package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/modelcard"
	"github.com/neuroseal/neuroseal/oms"
)

// signatureHelp is what verify --help says of signatures.
const signatureHelp = `With --public-key or --cert-roots, the signature of SEALED is checked first
(SEALED/model.sig, for a file SEALED.sig, or --signature): it must be of that key,
or of a certificate below those roots, and every signed file must be as it was
signed, with none missing, and none added but those that sign always leaves out
(.git, .github and others: see neuroseal sign --help). Then SEALED may be any model:
of one that is not sealed, nothing else is checked. SEALED/` + manifest.Name + `
alone can be verified, too, with its own signature or that of the folder (--signature
model.sig): what a seal claims, without the weights. What "neuroseal sign" and the Python package
model_signing sign with keys and certificates is known; Sigstore's keyless
signatures are not. A signature does not tell when it was made: certificates must
be valid today, or on the day that --at names.`

// signatureOptions say whose signature to demand.
type signatureOptions struct {
	File          string
	PublicKey     string
	Roots         []string
	At            string
	AllowSymlinks bool
}

func (o *signatureOptions) register(f *pflag.FlagSet) {
	f.StringVar(&o.File, "signature", "", "check the signature in `FILE`; default SEALED/model.sig, of a file SEALED.sig")
	f.StringVar(&o.PublicKey, "public-key", "", "demand a signature of the key whose public part is in `FILE`, PEM")
	f.StringArrayVar(&o.Roots, "cert-roots", nil, "demand a signature of a certificate below the roots in `FILE`, PEM; repeatable")
	f.StringVar(&o.At, "at", "", "certificates must be valid on this `DATE` (YYYY-MM-DD), not today")
	f.BoolVar(&o.AllowSymlinks, "allow-symlinks", false, "check the files that symbolic links lead to, instead of refusing a signed folder with links")
}

// given reports whether a signature is to be checked.
func (o *signatureOptions) given() bool {
	return o.File != "" || o.PublicKey != "" || len(o.Roots) > 0 || o.At != "" || o.AllowSymlinks
}

// trust reads whom the user trusts.
func (o *signatureOptions) trust() (t oms.Trust, err error) {
	switch {
	case o.PublicKey == "" && len(o.Roots) == 0:
		return t, fault.New(fault.Usage, "whose signature? anybody can sign").WithHint("give --public-key PUB.pem, or --cert-roots ROOTS.pem")
	case o.PublicKey != "" && len(o.Roots) > 0:
		return t, fault.New(fault.Usage, "--public-key and --cert-roots exclude each other").WithHint("give the one that fits the signature")
	case o.PublicKey != "" && o.At != "":
		return t, fault.New(fault.Usage, "--at is for certificates; a public key has no dates")
	case o.PublicKey != "":
		t.Key, err = oms.ReadPublicKey(o.PublicKey)
		return t, err
	}
	if o.At != "" {
		if t.At, err = time.Parse(time.DateOnly, o.At); err != nil {
			return t, fault.New(fault.Usage, "--at %s: not a date like 2026-01-31", o.At)
		}
	}
	t.Roots, err = oms.ReadCertificates(o.Roots...)
	return t, err
}

// signatureJSON is what verify --json prints of a signature.
type signatureJSON struct {
	OK     bool         `json:"ok"`
	File   string       `json:"file"`
	Model  string       `json:"model"` // its name when it was signed
	Signer oms.Identity `json:"signer"`
	// ManifestCovered says whether what the seal claims is signed, too; null if
	// the model is not sealed.
	ManifestCovered *bool `json:"manifest_covered"`
	*oms.Report
	Notes []string `json:"notes,omitempty"`

	signed *oms.Statement
}

// check verifies the signature of a model and compares the files.
func (o *signatureOptions) check(ctx context.Context, path string, p oms.Progress) (*signatureJSON, error) {
	t, err := o.trust()
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "opening the model")
	}
	file := o.File
	if file == "" {
		file = signatureOf(path, info.IsDir())
	}
	v, err := verified(file, t)
	if err != nil {
		return nil, o.unsigned(err, path, info.IsDir())
	}
	r, err := v.Check(ctx, path, oms.CheckOptions{Signature: file, AllowSymlinks: o.AllowSymlinks, Progress: p})
	if err != nil {
		return nil, err
	}
	s := &signatureJSON{OK: len(r.Problems) == 0, File: filepath.Clean(file), Model: v.Model, Signer: v.Signer, Report: r, Notes: v.Notes, signed: v.Statement}
	return s, s.covers(ctx, v.Statement, t, path, info.IsDir())
}

func verified(file string, t oms.Trust) (*oms.Verified, error) {
	b, err := oms.ReadBundle(file)
	if err != nil {
		return nil, err
	}
	v, err := b.Verify(t)
	if err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "%s", file)
	}
	return v, nil
}

// unsigned explains that there is no signature where there should be one: a
// model that somebody took it from is not what was signed.
func (o *signatureOptions) unsigned(err error, path string, folder bool) error {
	if o.File != "" || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f := fault.New(fault.Mismatch, "%s is not signed: there is no %s", path, signatureOf(path, folder))
	switch {
	case folder && exists(filepath.Join(path, manifestSignature)):
		return f.WithHint("its manifest alone is signed: neuroseal verify %s", filepath.Join(path, manifest.Name))
	case filepath.Base(path) == manifest.Name && exists(filepath.Join(filepath.Dir(path), oms.Name)):
		return f.WithHint("the folder is signed: give --signature %s", filepath.Join(filepath.Dir(path), oms.Name))
	}
	return f.WithHint("if the signature is elsewhere, name it with --signature")
}

// covers finds out whether the manifest is signed. That of a model file stands
// beside it, with a signature of its own.
func (s *signatureJSON) covers(ctx context.Context, st *oms.Statement, t oms.Trust, path string, folder bool) error {
	_, file, err := neuroseal.ReadManifest(path)
	if err != nil {
		if fault.KindOf(err) == fault.NotSealed {
			return nil
		}
		file = filepath.Join(path, manifest.Name) // whatever is wrong with it is told later
	}
	switch own := file + oms.Suffix; {
	case folder:
		s.ManifestCovered = new(st.Lists(manifest.Name))
	case filepath.Base(path) == manifest.Name:
		s.ManifestCovered = new(true)
	case !neuroseal.SealedAsFile(path):
		// One file of a folder: the manifest was not looked at.
	case !exists(own):
		s.ManifestCovered = new(false)
	default:
		v, err := verified(own, t)
		if err != nil {
			return err
		}
		r, err := v.Check(ctx, file, oms.CheckOptions{})
		if err != nil {
			return err
		}
		s.ManifestCovered = new(len(r.Problems) == 0)
		s.Problems = append(s.Problems, r.Problems...)
		s.OK = len(s.Problems) == 0
	}
	return nil
}

// hashed are the digests of files that fit, for whoever would hash them again.
func (s *signatureJSON) hashed() map[string]string {
	if s == nil || !s.OK || s.Partial || s.signed.Sharded {
		return nil
	}
	sums := map[string]string{}
	for _, r := range s.signed.Resources {
		sums[r.Path] = r.SHA256.String()
	}
	return sums
}

// row is the line of verify's table.
func (s *signatureJSON) row() []string {
	text := fmt.Sprintf("%d files as signed by %s", s.Files, s.Signer)
	if s.Files == 1 {
		text = fmt.Sprintf("the file is as signed by %s", s.Signer)
	}
	switch {
	case !s.OK:
		return []string{ui.No, "signature", fmt.Sprintf("not what was signed by %s", s.Signer)}
	case s.Partial:
		text += "; the folder's other files were not looked at"
	}
	return []string{ui.Yes, "signature", text}
}

// claims is the line on what the seal says of itself.
func (s *signatureJSON) claims() []string {
	switch {
	case s == nil || s.ManifestCovered == nil:
		return nil
	case !s.OK:
		return []string{ui.No, "claims", "not to be trusted"}
	case *s.ManifestCovered:
		return []string{ui.Yes, "claims", "the manifest (profile, promise, holes) is covered by the signature"}
	}
	return []string{ui.Open, "claims", "the manifest (profile, promise, holes) is NOT covered by the signature"}
}

// write prints what does not fit, and what was not checked.
func (s *signatureJSON) write(w io.Writer) {
	for _, p := range s.Problems {
		fmt.Fprintf(w, "  %s %s\n", ui.No, p)
	}
	notes := s.Notes
	if len(s.Ignored) > 0 {
		var names []string
		for _, p := range s.Ignored {
			names = append(names, oms.Shown(p))
		}
		notes = append(notes, "not covered by the signature: "+fault.List(names))
	}
	writeNotes(w, notes)
}

// fault is the error of a signature that does not fit.
func (s *signatureJSON) fault(path string) error {
	first := s.Problems[0].String()
	if n := len(s.Problems) - 1; n > 0 {
		first += fmt.Sprintf(" (and %d more)", n)
	}
	err := fault.New(fault.Mismatch, "%s is not what was signed: %s", path, first)
	if len(s.Problems) == 1 && s.Problems[0].File == modelcard.Name {
		return err.WithHint("was the model card edited after signing? then its owner has to sign it again: neuroseal sign --force; with --ignore %s it may be edited", modelcard.Name)
	}
	for _, p := range s.Problems {
		if name := filepath.Base(p.File); name != manifest.Name && !strings.HasSuffix(name, ".neuroseal.json") {
			return err.WithHint("fetch the model again, or its signature")
		}
	}
	return err.WithHint("were keyslots added or removed after signing? then its owner has to sign it again: neuroseal sign --force")
}

// writeClaims prints what a manifest says, when that alone is verified.
func writeClaims(w io.Writer, m *manifest.Manifest) {
	fmt.Fprintf(w, "Claims: seal %s of a %s, method %s\n", m.SealID, m.ModelType, strings.TrimSpace(m.Method+" "+m.Profile))
	fmt.Fprintf(w, "%s of the parameters move; %d holes; original %s\n", percent(m.Coverage), len(m.Holes), m.OriginalDigest)
	writePromise(w, m.Promise)
}
