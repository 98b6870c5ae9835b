package neuroseal

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"slices"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/oms"
)

// signatures are the names of what signs a sealed folder, or its manifest alone.
// No signature covers them.
var signatures = []string{oms.Name, manifest.Name + oms.Suffix}

// canSign refuses to sign an output in which a file of the original has the
// signature's name: unlock must bring that back.
func (o *LockOptions) canSign(ck *checkpoint.Checkpoint) error {
	if o.fileName != "" {
		return nil
	}
	for _, f := range ck.OtherFiles() {
		switch {
		case !slices.Contains(signatures, f.Path):
		case o.Signer == nil && o.Notice != nil:
			o.Notice(f.Path + " is a signature of the original: it stays, for unlock, and does not fit what is sealed")
		case o.Signer != nil:
			return fault.New(fault.Usage, "%s holds %s, which is the original's own and has to stay", o.Source, f.Path).
				WithHint("seal without --sign, then: neuroseal sign DST --signature DST.sig")
		}
	}
	return nil
}

// sign adds the signature to an output whose manifest is complete: of a folder,
// one of all files; of a model file, one of that and one of its manifest, which
// has the digest of all else. The digests are those of what was written, so that
// nothing is read again.
func (l *locker) sign(dir *atomicdir.Dir, man []byte) error {
	if l.o.Signer == nil {
		return nil
	}
	if l.o.fileName != "" {
		return l.signFile(dir, man)
	}
	abs, err := filepath.Abs(l.o.Output)
	if err != nil {
		return fault.Wrap(fault.General, err, "naming the output")
	}
	files := []oms.Resource{{Path: manifest.Name, SHA256: sha256.Sum256(man)}}
	for _, f := range l.man.Files {
		r, err := resource(f.Path, f.SHA256)
		if err != nil {
			return err
		}
		files = append(files, r)
	}
	return l.writeSignature(dir, oms.Name, filepath.Base(abs), files)
}

func (l *locker) signFile(dir *atomicdir.Dir, man []byte) error {
	i := slices.IndexFunc(l.man.Files, func(f manifest.File) bool { return f.Path == l.o.fileName })
	if i < 0 {
		return fault.New(fault.General, "the manifest lists no %s", l.o.fileName)
	}
	r, err := resource(".", l.man.Files[i].SHA256)
	if err != nil {
		return err
	}
	if err := l.writeSignature(dir, oms.Name, l.o.fileName, []oms.Resource{r}); err != nil {
		return err
	}
	r.SHA256 = sha256.Sum256(man)
	return l.writeSignature(dir, manifest.Name+oms.Suffix, besideFile(l.o.fileName), []oms.Resource{r})
}

func (l *locker) writeSignature(dir *atomicdir.Dir, name, model string, files []oms.Resource) error {
	s, err := oms.NewStatement(model, files, signatures)
	if err != nil {
		return err
	}
	data, err := l.o.Signer.Sign(s)
	if err != nil {
		return err
	}
	return writeFile(dir, name, data)
}

func resource(path, sum string) (oms.Resource, error) {
	raw, err := hex.DecodeString(sum)
	if err != nil || len(raw) != sha256.Size {
		return oms.Resource{}, fault.New(fault.General, "%s: no SHA-256 to sign", path)
	}
	return oms.Resource{Path: path, SHA256: oms.Digest(raw)}, nil
}

// signatureOf is where a signed output has its signature.
func (o *LockOptions) signatureOf() string {
	switch {
	case o.Signer == nil || o.DryRun:
		return ""
	case modelFile(o.Output):
		return o.Output + oms.Suffix
	}
	return filepath.Join(o.Output, oms.Name)
}
