package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/oms"
)

// signPasswordEnv is where the passphrase of a signing key is looked for when no
// option names it; that of seal keys is another one.
const signPasswordEnv = "NEUROSEAL_SIGN_PASSWORD"

// signingOptions say with which key to sign.
type signingOptions struct {
	Key, Cert string
	Chain     []string
	Password  password

	flag string // that names the key
}

// register adds the flags: key and what begins with prefix.
func (o *signingOptions) register(f *pflag.FlagSet, key, prefix, usage string) {
	o.flag = "--" + key
	f.StringVar(&o.Key, key, "", usage)
	f.StringVar(&o.Cert, prefix+"cert", "", "the signing key's certificate, a PEM `FILE`; its chain may follow in there")
	f.StringArrayVar(&o.Chain, prefix+"chain", nil, "certificates between that and a root, a PEM `FILE`; repeatable")
}

// registerPassword adds the flags for the key's passphrase.
func (o *signingOptions) registerPassword(f *pflag.FlagSet, prefix string) {
	o.Password.register(f, prefix, "the signing key's passphrase")
	o.Password.Env = signPasswordEnv
}

// given reports whether any option names a signing key, or says how to use it.
func (o *signingOptions) given() bool {
	return o.Key != "" || o.Cert != "" || len(o.Chain) > 0 || o.Password.given()
}

// load reads key and certificates; nil without an error if none is given.
func (o *signingOptions) load(u *ui.UI) (*oms.Signer, error) {
	if !o.given() {
		return nil, nil
	}
	if o.Key == "" {
		return nil, fault.New(fault.Usage, "certificate and passphrase need the signing key").WithHint("give it with %s", o.flag)
	}
	if o.Cert == "" && len(o.Chain) > 0 {
		return nil, fault.New(fault.Usage, "a chain needs the signing key's own certificate").WithHint("give that as well, with a flag that ends in cert")
	}
	s, warning, err := oms.ReadKey(o.Key, func() (string, error) {
		return o.Password.read("Passphrase of "+o.Key, false, u.Warn)
	})
	if err != nil {
		return nil, err
	}
	if warning != "" {
		u.Warn("%s", warning)
	}
	if o.Cert == "" {
		return s, nil
	}
	own, err := oms.ReadCertificates(o.Cert)
	if err != nil {
		return nil, err
	}
	chain, err := oms.ReadCertificates(o.Chain...)
	if err != nil {
		return nil, err
	}
	return s, s.Certify(own[0], append(own[1:], chain...), time.Now())
}

// signatureOf is where the signature of a model stands, or would: in a folder,
// or beside a file.
func signatureOf(model string, folder bool) string {
	if folder {
		return filepath.Join(model, oms.Name)
	}
	return filepath.Clean(model) + oms.Suffix
}

// manifestSignature signs the manifest of a folder alone.
const manifestSignature = manifest.Name + oms.Suffix

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// signedManifest is a signature that says something of a manifest.
type signedManifest struct {
	file string // of the signature
	mode fs.FileMode
	b    *oms.Bundle
}

// signaturesOf finds the signatures that cover the manifest at a path: that of
// its folder, and its own.
func signaturesOf(path string) []signedManifest {
	var list []signedManifest
	for _, s := range []struct{ file, name string }{
		{filepath.Join(filepath.Dir(path), oms.Name), filepath.Base(path)}, {path + oms.Suffix, "."},
	} {
		info, err := os.Stat(s.file)
		if err != nil {
			continue
		}
		b, err := oms.ReadBundle(s.file)
		if err == nil && b.Mentions(s.name) {
			list = append(list, signedManifest{s.file, info.Mode().Perm(), b})
		}
	}
	return list
}
