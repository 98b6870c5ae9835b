package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/probe"
	"github.com/neuroseal/neuroseal/seal"
)

// verifyOptions are the options of verify.
type verifyOptions struct {
	Sealed, Against string
	Graph           string
	Run             bool
	Quantizers      bool
	Key             keyOptions
	FindKey         bool // look for the key as unlock does
	Hub             hubOptions
	Signature       signatureOptions
}

func verifyCommand(u *ui.UI) *cobra.Command {
	o := verifyOptions{}
	cmd := &cobra.Command{
		Use:   "verify SEALED",
		Short: "Check that a sealed checkpoint computes what the original does",
		Long: `Check the sealed checkpoint SEALED: every file against its recorded SHA-256 (but
the model card, which may be edited: this is said); with the original or the key, every weight: it must be the original's times powers of
two that cancel; with --run, both networks are run on a few tokens, in fp32 and
with results rounded to bf16, and their outputs must be equal bit for bit; with
--quantizers, both checkpoints' matrices are quantised as llama.cpp, bitsandbytes
and others would do later, and codes that the profile promises must be equal.

No key is used unless an option asks for it: --key-file, --identity, a password
option or --detached-key, or --find-key, which looks where unlock looks (SEALED.key,
` + "NEUROSEAL_PASSWORD" + `, the terminal).

` + signatureHelp + `

` + sourceHelp,
		Example: `  neuroseal verify ./sealed
  neuroseal verify ./sealed --against ./model --run
  neuroseal verify ./sealed --find-key --run
  neuroseal verify ./sealed --public-key pub.pem
  neuroseal verify org/name-sealed --against org/name`,
		Args: operands("SEALED"),
	}
	f := cmd.Flags()
	f.StringVar(&o.Against, "against", "", "compare with the original checkpoint, `ORIGINAL`")
	f.StringVar(&o.Graph, "graph", "", "an exported graph of the network, a .pt2 or .onnx `FILE`; for architectures without a builder")
	f.BoolVar(&o.Run, "run", false, "run both networks and compare their outputs")
	f.BoolVar(&o.Quantizers, "quantizers", false, "quantise both checkpoints' matrices as others would later, and compare the codes")
	o.Key.register(f)
	o.Key.registerDetached(f)
	o.Signature.register(f)
	o.Hub.registerToken(f)
	f.BoolVar(&o.FindKey, "find-key", false, "use the key, found as unlock finds it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Sealed = args[0]
		return runVerify(cmd.Context(), u, o)
	}
	return mayExit(cmd, fault.NotSealed, fault.WrongKey, fault.Mismatch, fault.Unsupported, fault.NoSpace, fault.Interrupted)
}

// verifyJSON is what verify --json prints.
type verifyJSON struct {
	Path    string `json:"path"`
	Against string `json:"against,omitempty"`
	// KeyOK says that the key is the seal's and that the manifest is what its
	// owner wrote; null if no key was used.
	KeyOK *bool `json:"key_ok"`
	// Sealed is false for a signed model without a seal.
	Sealed    bool           `json:"sealed"`
	Signature *signatureJSON `json:"signature"` // null: not asked for
	*neuroseal.VerifyResult

	manifest *manifest.Manifest // verified alone; nil: something else was
	skipped  string             // why the signature was all that was checked; "": it was not
	unasked  bool               // there is a signature that nobody asked about
}

func runVerify(ctx context.Context, u *ui.UI, o verifyOptions) error {
	res, err := o.verify(ctx, u)
	if err != nil {
		return err
	}
	path := ""
	if res.OK {
		path = res.Path
	}
	if err := u.Result(res, path, res.write); err != nil {
		return err
	}
	if res.Signature != nil && !res.Signature.OK {
		return res.Signature.fault(res.Path)
	}
	if !res.OK {
		return fault.New(fault.Mismatch, "%s is not what was sealed: %s", res.Path, firstOf(res.Mismatches)).
			WithHint("fetch the sealed checkpoint again, or compare with another copy of the original")
	}
	return nil
}

func (o *verifyOptions) verify(ctx context.Context, u *ui.UI) (*verifyJSON, error) {
	withKey := o.FindKey || o.Key.given()
	if o.Run && o.Against == "" && !withKey {
		return nil, fault.New(fault.Usage, "--run needs the original to compare with").WithHint("give --against FOLDER, or the key (--key-file, --identity, --find-key)")
	}
	if o.Quantizers && o.Against == "" && !withKey {
		return nil, fault.New(fault.Usage, "--quantizers needs the original to compare with").WithHint("give --against FOLDER, or the key (--key-file, --identity, --find-key)")
	}
	res := &verifyJSON{Path: o.Sealed, Against: o.Against}
	p := newStages(u)
	if err := o.openSources(ctx, u, p); err != nil {
		p.end(false)
		return nil, err
	}
	if done, err := res.checkSignature(ctx, o, p); done || err != nil {
		p.end(err == nil)
		return res, err
	}
	v := neuroseal.VerifyOptions{Sealed: o.Sealed, Graph: o.Graph, Against: o.Against, Run: o.Run, Quantisers: o.Quantizers, Hashed: res.Signature.hashed()}
	if withKey {
		key := &keyFinder{u: u, opt: o.Key}
		if o.FindKey {
			key.beside = keyBeside(o.Sealed)
		}
		if err := res.checkKey(o.Sealed, key); err != nil {
			return nil, err
		}
		v.Key = key.find
	}
	v.Progress = p
	var err error
	res.VerifyResult, err = neuroseal.Verify(ctx, v)
	p.end(err == nil)
	return res, err
}

// openSources makes both operands paths here.
func (o *verifyOptions) openSources(ctx context.Context, u *ui.UI, p *stages) (err error) {
	s := &sources{u: u, hub: &o.Hub, progress: p}
	check, operand := mustBeSealed, o.Sealed
	if o.Signature.given() {
		check, s.whole = nil, true // any model may be signed, and all of it
	}
	if o.Sealed, err = s.local(ctx, operand, check); err != nil {
		return err
	}
	if o.Sealed != operand && o.Signature.given() {
		o.Signature.AllowSymlinks = true // the cache consists of them
	}
	s.whole = false
	o.Against, err = s.local(ctx, o.Against, nil)
	return err
}

// checkKey checks the key against the manifest, and with it the manifest.
func (r *verifyJSON) checkKey(path string, key *keyFinder) error {
	m, _, err := neuroseal.ReadManifest(path)
	if err != nil {
		return err
	}
	if m.Method == string(seal.Static) {
		return nil // has no key
	}
	k, err := key.find(m)
	if err != nil {
		return err
	}
	if err := m.Verify(k); err != nil {
		return err
	}
	r.KeyOK = new(true)
	return nil
}

// write prints what was checked, what was not, and why.
func (r *verifyJSON) write(w io.Writer) {
	verdict := ui.Yes + " " + r.Path + " is as it should be"
	if !r.OK {
		verdict = ui.No + " " + r.Path + " is not as it should be"
	}
	if r.Signature != nil && (r.skipped != "" || !r.Signature.OK) {
		r.writeSigned(w)
		return
	}
	fmt.Fprintf(w, "%s (%s)\n", verdict, strings.TrimSpace("method "+r.Method+" "+r.Profile))
	rows := [][]string{r.files(), r.algebra(), r.forward(), r.key()}
	if r.Signature != nil {
		rows = append([][]string{r.Signature.row(), r.Signature.claims()}, rows...)
	} else if r.unasked {
		rows = append(rows, []string{ui.Open, "signature", "there is one, not checked: give --public-key or --cert-roots"})
	}
	ui.Table(w, "  ", slices.DeleteFunc(rows, func(row []string) bool { return row == nil }))
	if r.Signature != nil {
		r.Signature.write(w)
	}
	r.writeForward(w)
	r.writeQuantisers(w)
	for _, m := range r.Mismatches {
		fmt.Fprintf(w, "  %s %s\n", ui.No, ui.Line(mismatchText(m)))
	}
	// What the library says about the algebra stands in the table already.
	writeNotes(w, slices.DeleteFunc(slices.Clone(r.Notes), func(n string) bool {
		return strings.HasPrefix(n, "algebra not checked") || strings.HasPrefix(n, "method ")
	}))
}

func mark(ok *bool) string {
	switch {
	case ok == nil:
		return ui.Open
	case *ok:
		return ui.Yes
	}
	return ui.No
}

func (r *verifyJSON) files() []string {
	row := []string{mark(r.DigestsOK), "files", "every file has its recorded SHA-256"}
	if r.DigestsOK != nil && !*r.DigestsOK {
		row[2] = "some files are not what was sealed"
	} else if len(r.Edited) > 0 {
		row[2] += ", but " + strings.Join(r.Edited, ", ") + ": the model card was changed after sealing, as it may be"
	}
	return row
}

// real reports whether the seal is one of those that round by design.
func (r *verifyJSON) real() bool { return r.Method != string(seal.Gauge) }

func (r *verifyJSON) algebra() []string {
	row := []string{mark(r.BitExactAlgebra), "algebra", ""}
	switch {
	case r.real():
		row[0], row[2] = ui.Open, "not exact: method "+r.Method+" rounds, by the original tool's design"
	case r.BitExactAlgebra == nil && r.Against != "":
		row[2] = "not checked: the weights are permuted; give the key as well"
	case r.BitExactAlgebra == nil:
		row[2] = "not checked: give --against ORIGINAL, or the key"
	case !*r.BitExactAlgebra:
		row[2] = "weights are not the original's times powers of two that cancel"
	case r.Against != "":
		row[2] = "every weight is the original's, from " + r.Against + ", times powers of two that cancel"
	default:
		row[2] = "every weight scales back to the original's recorded checksum"
	}
	return row
}

func (r *verifyJSON) forward() []string {
	row := []string{mark(r.BitExactForward), "forward", ""}
	switch {
	case r.BitExactForward == nil:
		row[2] = "not checked: give --run"
	case *r.BitExactForward:
		row[2] = "original and sealed network give the same outputs, bit for bit"
	case r.real():
		row[0], row[2] = ui.Open, "outputs differ by rounding; see below"
	case r.Reordered && r.OK:
		row[0], row[2] = ui.Open, "the same up to the order of sums, as promised: the weights are permuted; see below"
	default:
		row[2] = "outputs differ; see below"
	}
	return row
}

func (r *verifyJSON) key() []string {
	row := []string{mark(r.KeyOK), "key", "not used: no option asked for it"}
	switch {
	case r.Method == string(seal.Static):
		row[2] = "none: method static has no key"
	case r.KeyOK != nil:
		row[2] = "it is this seal's, and the manifest is authentic"
	}
	return row
}

// writeForward prints the forward passes. A second one in the same precision
// is the one in which every expert takes part.
func (r *verifyJSON) writeForward(w io.Writer) {
	if len(r.Forward) == 0 {
		return
	}
	rows := [][]string{{"PRECISION", "TOKENS", "EQUAL", "LARGEST DIFFERENCE", "LARGEST OUTPUT", "KL (NATS)"}}
	for _, f := range gathered(r.Forward) {
		equal := "yes"
		if !f.Equal {
			equal = "no"
		}
		if !f.Finite {
			equal += ", not finite"
		}
		rows = append(rows, []string{f.name, fmt.Sprint(f.Tokens), equal, fmt.Sprintf("%.3g", f.MaxDiff), fmt.Sprintf("%.3g", f.MaxAbs), fmt.Sprintf("%.3g", f.KL)})
	}
	ui.Table(w, "    ", rows)
}

// writeQuantisers prints what later quantisation by others finds.
func (r *verifyJSON) writeQuantisers(w io.Writer) {
	if len(r.Quantisers) == 0 {
		return
	}
	rows := [][]string{{"QUANTISER", "BLOCKS", "OTHER CODES", "OTHER SCALES", "PROMISED"}}
	for _, q := range r.Quantisers {
		promised := "no"
		if q.Promised {
			promised = "yes"
		}
		rows = append(rows, []string{q.Quantiser, fmt.Sprint(q.Blocks), fmt.Sprint(q.Codes), fmt.Sprint(q.Scales), promised})
	}
	ui.Table(w, "    ", rows)
}

func firstOf(all []neuroseal.Mismatch) string {
	text := mismatchText(all[0])
	if len(all) > 1 {
		text += fmt.Sprintf(" (and %d more)", len(all)-1)
	}
	return text
}

func mismatchText(m neuroseal.Mismatch) string {
	var where []string
	if m.File != "" {
		where = append(where, m.File)
	}
	if m.Tensor != "" {
		where = append(where, "tensor "+m.Tensor)
	}
	if len(where) == 0 {
		return m.What
	}
	return strings.Join(where, ", ") + ": " + m.What
}

// forwardRow is what one run found, or all those with forced routing.
type forwardRow struct {
	probe.Report
	name string
	runs int
}

// gathered joins the runs in which routers were forced, by precision.
func gathered(reports []probe.Report) []forwardRow {
	var rows []forwardRow
	for _, f := range reports {
		i := slices.IndexFunc(rows, func(r forwardRow) bool { return f.Experts && r.Experts && r.Precision == f.Precision })
		if i < 0 {
			rows = append(rows, forwardRow{f, string(f.Precision), 1})
			continue
		}
		r := &rows[i]
		r.runs++
		r.Equal, r.Finite = r.Equal && f.Equal, r.Finite && f.Finite
		r.MaxDiff, r.MaxAbs, r.KL = max(r.MaxDiff, f.MaxDiff), max(r.MaxAbs, f.MaxAbs), max(r.KL, f.KL)
	}
	for i := range rows {
		if r := &rows[i]; r.Experts && r.runs == 1 {
			r.name += ", every expert"
		} else if r.Experts {
			r.name += fmt.Sprintf(", every expert, in %d runs", r.runs)
		}
	}
	return rows
}
