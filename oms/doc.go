// Package oms signs models and checks signatures in the format of OpenSSF Model
// Signing v1.0: a Sigstore bundle that holds a DSSE envelope around an in-toto
// statement, which lists the SHA-256 of every file. The Python package
// model_signing is the reference: it accepts what this package writes, and this
// package accepts what it writes with keys and with certificates.
//
// What is trusted comes from outside: a public key, or roots for certificates.
// Nothing of a bundle can be seen before its signature has been verified.
// Keyless signatures need Sigstore's servers and trust root and are refused.
package oms

const (
	// Name is the signature of a folder, inside it.
	Name = "model.sig"
	// Suffix makes the name of a file's signature, beside it, from the file's.
	Suffix = ".sig"
	// MaxSize bounds a bundle, in bytes. A file takes about 250 of them.
	MaxSize = 32 << 20
)

const (
	bundleType    = "application/vnd.dev.sigstore.bundle.v0.3+json"
	payloadType   = "application/vnd.in-toto+json"
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://model_signing/signature/v1.0"
	predicateOld  = "https://model_signing/Digests/v0.1"
)

// wholeFile is the name under which a model that is one file lists itself.
const wholeFile = "."

// alwaysIgnored are no part of a model: what the reference leaves out, and what
// the hub's client leaves in a folder that it downloaded.
var alwaysIgnored = []string{".git", ".gitattributes", ".github", ".gitignore", ".cache/huggingface"}

// Progress is told how far hashing has come.
type Progress interface {
	// Stage begins a stage of total bytes.
	Stage(name string, total int64)
	// Add says that n more bytes are done; several goroutines call it.
	Add(n int64)
}

type silent struct{}

func (silent) Stage(string, int64) {}
func (silent) Add(int64)           {}

func orSilent(p Progress) Progress {
	if p == nil {
		return silent{}
	}
	return p
}
