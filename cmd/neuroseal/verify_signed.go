package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/manifest"
)

// checkSignature checks the signature, if one is asked for, and reports whether
// that was all there is to do: files that are not what was signed are looked at no
// further, and a model that is not sealed, or a manifest alone, has no more to it.
func (r *verifyJSON) checkSignature(ctx context.Context, o *verifyOptions, p *stages) (done bool, err error) {
	r.Sealed = true
	if !o.Signature.given() {
		info, err := os.Stat(o.Sealed)
		r.unasked = err == nil && exists(signatureOf(o.Sealed, info.IsDir()))
		return false, nil
	}
	r.VerifyResult = &neuroseal.VerifyResult{Mismatches: []neuroseal.Mismatch{}}
	if r.Signature, err = o.Signature.check(ctx, o.Sealed, p); err != nil {
		return true, err
	}
	m, _, err := neuroseal.ReadManifest(o.Sealed)
	r.Sealed = fault.KindOf(err) != fault.NotSealed
	alone := filepath.Base(o.Sealed) == manifest.Name
	switch {
	case !r.Signature.OK:
		return true, nil
	case fault.KindOf(err) == fault.NotSealed && !o.more():
		r.OK, r.skipped = true, "not sealed: nothing else was checked"
		return true, nil
	case err != nil:
		return true, err
	case alone && o.more():
		return true, fault.New(fault.Usage, "%s alone has no weights to check", o.Sealed).WithHint("name the sealed folder")
	case alone:
		r.manifest, r.Method, r.Profile = m, m.Method, m.Profile
		r.OK, r.skipped = true, "not checked: the manifest alone was given"
		return true, nil
	case r.Signature.Partial && !o.more():
		r.OK, r.skipped = true, "not checked: one file of a sealed folder was given"
		return true, nil
	}
	return false, nil
}

// more reports whether more than a signature is to be checked in any case.
func (o *verifyOptions) more() bool {
	return o.Against != "" || o.Run || o.Quantizers || o.FindKey || o.Key.given()
}

// writeSigned prints a result that is about the signature alone.
func (r *verifyJSON) writeSigned(w io.Writer) {
	verdict := ui.Yes + " " + r.Path + " is what was signed"
	if !r.Signature.OK {
		verdict = ui.No + " " + r.Path + " is not what was signed"
	}
	fmt.Fprintln(w, verdict)
	rows := [][]string{r.Signature.row()}
	if r.Signature.OK {
		rows = append(rows, r.Signature.claims(), []string{ui.Open, "seal", r.skipped})
	}
	ui.Table(w, "  ", slices.DeleteFunc(rows, func(row []string) bool { return row == nil }))
	r.Signature.write(w)
	if r.manifest != nil {
		writeClaims(w, r.manifest)
	}
}
