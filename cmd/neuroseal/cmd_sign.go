package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/modelcard"
	"github.com/neuroseal/neuroseal/oms"
)

// signOptions are the options of sign.
type signOptions struct {
	Model         string
	Signature     string // "": where signatureOf says
	Signing       signingOptions
	Ignore        []string
	AllowSymlinks bool
	Force         bool
}

func signCommand(u *ui.UI) *cobra.Command {
	o := signOptions{}
	cmd := &cobra.Command{
		Use:   "sign MODEL",
		Short: "Sign a model, sealed or not",
		Long: `Sign MODEL, a folder or a file, in the format of OpenSSF Model Signing v1.0: a
Sigstore bundle that lists the SHA-256 of every file. The Python package
model_signing verifies it, and neuroseal verify does. A folder is signed as
MODEL/model.sig, a file as MODEL.sig; --signature names another place.

The key is an elliptic-curve key in PEM form (P-256, P-384 or P-521), whose
passphrase, if it has one, comes from an option, from ` + signPasswordEnv + `,
or from the terminal. With --cert, signatures carry its certificates, and are
verified against the root that issued them instead of a public key.

Left out are .git, .github, .gitattributes, .gitignore, .cache/huggingface, what
--ignore names, and signatures: model.sig, ` + manifest.Name + `.sig and that of
--signature. A signing key or passphrase file in MODEL is refused. A sealed folder is signed only if its
files are those that its manifest records. Signing SEALED/` + manifest.Name + `
signs what a seal claims (profile, promise, holes) without the weights.

Signatures without a key ("keyless", by Sigstore) need its servers: neuroseal makes
none, and verifies none.`,
		Example: `  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem
  openssl pkey -in key.pem -pubout -out pub.pem
  neuroseal sign ./sealed --key key.pem
  neuroseal verify ./sealed --public-key pub.pem
  neuroseal sign ./model --key key.pem --cert cert.pem --chain intermediate.pem
  neuroseal sign ./sealed/` + manifest.Name + ` --key key.pem`,
		Args: operands("MODEL"),
	}
	f := cmd.Flags()
	o.Signing.register(f, "key", "", "sign with the private key in `FILE`, PEM")
	o.Signing.registerPassword(f, "key-")
	f.StringVar(&o.Signature, "signature", "", "write the signature to `FILE`")
	f.StringArrayVar(&o.Ignore, "ignore", nil, "say nothing of `PATH`, a file or folder relative to MODEL; repeatable")
	f.BoolVar(&o.AllowSymlinks, "allow-symlinks", false, "sign the files that symbolic links lead to, instead of refusing")
	f.BoolVar(&o.Force, "force", false, "replace a signature")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Model = args[0]
		return runSign(cmd.Context(), u, o)
	}
	return mayExit(cmd, fault.WrongKey, fault.Mismatch, fault.Unsupported, fault.NoSpace, fault.Interrupted)
}

// signJSON is what sign --json prints.
type signJSON struct {
	Model     string       `json:"model"`
	Signature string       `json:"signature"`
	Signer    oms.Identity `json:"signer"`
	Files     int          `json:"files"`
	Sealed    bool         `json:"sealed"` // and its files are those of its manifest
	Ignored   []string     `json:"ignored"`
}

func runSign(ctx context.Context, u *ui.UI, o signOptions) error {
	res, err := o.sign(ctx, u)
	if err != nil {
		return err
	}
	return u.Result(res, res.Signature, func(w io.Writer) {
		what := "files"
		if res.Files == 1 {
			what = "file"
		}
		fmt.Fprintf(w, "Signed %d %s of %s as %s\n", res.Files, what, res.Model, res.Signature)
		fmt.Fprintf(w, "by %s\n", res.Signer)
	})
}

func (o *signOptions) sign(ctx context.Context, u *ui.UI) (*signJSON, error) {
	info, err := os.Stat(o.Model)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "opening the model")
	}
	if o.Signature == "" {
		o.Signature = signatureOf(o.Model, info.IsDir())
	}
	if !o.Signing.given() {
		return nil, fault.New(fault.Usage, "no key to sign with; keyless signatures need Sigstore's servers, which neuroseal does not use").
			WithHint("give --key KEY.pem; neuroseal sign --help tells how to make one")
	}
	if err := keepOut(o.Model, "which is signed, and would be published with it", o.Signing.secrets()...); err != nil {
		return nil, err
	}
	man, err := o.seal(info.IsDir())
	if err != nil {
		return nil, err
	}
	if err := o.checkOutput(man); err != nil {
		return nil, err
	}
	signer, err := o.Signing.load(u)
	if err != nil {
		return nil, err
	}
	st, err := o.hash(ctx, u, info.IsDir())
	if err != nil {
		return nil, err
	}
	if man != nil {
		if err := fits(st, man); err != nil {
			return nil, err
		}
	}
	data, err := signer.Sign(st)
	if err != nil {
		return nil, err
	}
	if err := atomicdir.WriteFile(o.Signature, data, 0o666, o.Force); err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "writing the signature")
	}
	return &signJSON{
		Model: filepath.Clean(o.Model), Signature: o.Signature, Signer: signer.Identity(), Files: st.Files(), Sealed: man != nil, Ignored: st.Ignore,
	}, nil
}

// seal reads the manifest of a sealed folder; nil without an error if there is none.
func (o *signOptions) seal(folder bool) (*manifest.Manifest, error) {
	if !folder {
		return nil, nil
	}
	m, _, err := neuroseal.ReadManifest(o.Model)
	if fault.KindOf(err) == fault.NotSealed {
		return nil, nil
	}
	return m, err
}

// checkOutput refuses a signature that would replace something, before any long work.
func (o *signOptions) checkOutput(man *manifest.Manifest) error {
	rel, inside := oms.Within(o.Signature, o.Model)
	switch {
	case !exists(o.Signature):
		return nil
	case man != nil && inside && slices.ContainsFunc(man.Files, func(f manifest.File) bool { return f.Path == rel }):
		return fault.New(fault.Usage, "%s is a file of the original, which unlock has to bring back", o.Signature).
			WithHint("choose another place with --signature, beside the folder")
	case !o.Force:
		return fault.New(fault.Usage, "%s exists", o.Signature).WithHint("repeat with --force to sign again")
	}
	info, err := os.Stat(o.Signature)
	if err != nil || !info.Mode().IsRegular() {
		return fault.New(fault.Usage, "%s is not a file", o.Signature)
	}
	if _, err := oms.ReadBundle(o.Signature); err != nil {
		return fault.Wrap(fault.Usage, err, "%s exists, and is no signature that --force would replace", o.Signature)
	}
	return nil
}

// hash lists what is signed.
func (o *signOptions) hash(ctx context.Context, u *ui.UI, folder bool) (*oms.Statement, error) {
	ignore := slices.Clone(o.Ignore)
	if folder {
		ignore = append(ignore, oms.Name, manifestSignature)
	}
	if rel, inside := oms.Within(o.Signature, o.Model); inside {
		ignore = append(ignore, rel)
	}
	p := newStages(u)
	st, err := oms.Hash(ctx, o.Model, oms.HashOptions{Ignore: ignore, AllowSymlinks: o.AllowSymlinks, Progress: p})
	p.end(err == nil)
	return st, err
}

// fits demands that a sealed folder's files are those of its manifest, but for the
// model card, which may be edited: a signature over damaged ones would be believed.
func fits(st *oms.Statement, man *manifest.Manifest) error {
	sums := map[string]string{}
	for _, r := range st.Resources {
		sums[r.Path] = r.SHA256.String()
	}
	for _, f := range man.Files {
		switch got, signed := sums[f.Path]; {
		case got == f.SHA256, f.Path == modelcard.Name:
		case signed:
			return fault.New(fault.Mismatch, "%s is not what was sealed; nothing was signed", f.Path).
				WithHint("neuroseal verify tells what was damaged; if the change is meant, the seal has to be made anew")
		case !oms.Ignored(f.Path, st.Ignore):
			return fault.New(fault.Mismatch, "%s is missing; nothing was signed", f.Path).WithHint("fetch the sealed checkpoint again")
		}
	}
	return nil
}
