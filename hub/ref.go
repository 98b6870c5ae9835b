package hub

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// scheme begins the addresses of the hub.
const scheme = "hf://"

// DefaultRevision is the branch that a reference without a revision means.
const DefaultRevision = "main"

// Ref names a model on the hub, or one file of it.
type Ref struct {
	ID       string // org/name; name alone for the hub's oldest models
	Revision string // branch, tag or commit; "" means DefaultRevision
	Path     string // file within the repository; "" means all of it
	// Quant names one file by its quantisation, such as Q4_K_M, as llama.cpp's
	// users do. It is not part of an address: [Client.Locate] makes it a Path.
	Quant string
}

// String returns the address in its hf:// form.
func (r Ref) String() string {
	s := scheme + r.ID
	if rev := r.Revision; rev != "" {
		if wideRev.FindString(rev) != rev {
			rev = strings.ReplaceAll(rev, "/", "%2F")
		}
		s += "@" + rev
	}
	if r.Path != "" {
		s += "/" + r.Path
	}
	return s
}

func (r Ref) revision() string {
	if r.Revision == "" {
		return DefaultRevision
	}
	return r.Revision
}

var (
	// idPart is huggingface_hub's rule for organisations and names.
	idPart   = regexp.MustCompile(`^[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?$`)
	revPart  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}$`)
	commitID = regexp.MustCompile(`^[0-9a-f]{40}$`)
	// wideRev are the revisions with slashes that may stand before a path.
	wideRev = regexp.MustCompile(`^refs/(?:convert/[A-Za-z0-9_.-]+|pr/[0-9]+)`)
	// quantName is the name of a quantisation in those of files.
	quantName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
	kinds     = []string{"models", "datasets", "spaces", "kernels", "buckets"}
)

// ParseSource tells what a source operand means: a reference to the hub, or (ok
// is false) a path on this machine. hf://org/name[@rev][/file] is always a
// reference; org/name[@rev] is one if no file or folder of that name exists
// here; so is org/name[@rev]:QUANT. A reference that is malformed gives
// fault.Usage, and a place here that may not be looked at fault.General: what is
// there is not to be taken for absent, and something else downloaded.
func ParseSource(s string) (ref Ref, ok bool, err error) {
	if strings.HasPrefix(s, scheme) {
		ref, err = parseQuant(s)
		return ref, err == nil, err
	}
	if strings.ContainsAny(s, `\`) || filepath.IsAbs(s) || strings.HasPrefix(s, ".") || strings.HasPrefix(s, "~") {
		return Ref{}, false, nil
	}
	_, err = os.Lstat(s)
	if id, _, _ := strings.Cut(s, "@"); err == nil || strings.Count(id, "/") != 1 {
		return Ref{}, false, nil
	}
	ref, wrong := parseQuant(s)
	switch {
	case wrong != nil:
		return Ref{}, false, nil // what is no reference is a path that does not exist
	case errors.Is(err, fs.ErrPermission):
		return Ref{}, false, fault.Wrap(fault.General, err, "whether %s is a folder here cannot be seen", s).
			WithHint("let yourself read its parent folder; if the model on the hub is meant: %s", ref)
	}
	return ref, true, nil
}

// parseQuant is ParseRef for what may end in the name of a quantisation.
func parseQuant(s string) (Ref, error) {
	at := strings.LastIndexByte(s, ':')
	if at < 0 || strings.HasPrefix(s[at:], "://") || !quantName.MatchString(s[at+1:]) {
		return ParseRef(s)
	}
	r, err := ParseRef(s[:at])
	if err == nil && r.Path != "" {
		err = fault.New(fault.Usage, "%q names a file and a quantisation", s)
	}
	r.Quant = s[at+1:]
	return r, err
}

// ParseRef reads [hf://]org/name[@rev]; with hf:// also a path behind it and the
// prefix models/. Errors are of kind fault.Usage.
func ParseRef(s string) (Ref, error) {
	rest, uri := strings.CutPrefix(s, scheme)
	parts := strings.Split(rest, "/")
	if uri && len(parts) > 1 {
		for _, k := range kinds {
			if parts[0] == k && k != "models" {
				return Ref{}, fault.New(fault.Usage, "%q is in the hub's %s; only models can be read", s, k)
			}
		}
		if parts[0] == "models" {
			parts = parts[1:]
		}
	}
	id, rev, hasRev, path := splitRef(parts)
	r := Ref{ID: id, Revision: rev, Path: path}
	if err := r.check(hasRev); err != nil {
		return Ref{}, fault.Wrap(fault.Usage, err, "%q is not a model of the hub", s).
			WithHint("write org/name, org/name@revision or hf://org/name@revision")
	}
	if path != "" && !uri {
		return Ref{}, fault.New(fault.Usage, "%q names a file of a model: write %s%s", s, scheme, s)
	}
	return r, nil
}

// splitRef takes an address apart. The revision stands behind the first "@" of
// the name.
func splitRef(parts []string) (id, rev string, hasRev bool, path string) {
	n := 1 // of the hub's oldest models
	if len(parts) > 1 && !strings.Contains(parts[0], "@") {
		n = 2
	}
	name, rev, hasRev := strings.Cut(parts[n-1], "@")
	path = strings.Join(parts[n:], "/")
	if hasRev && rev == "refs" {
		if wide := wideRev.FindString(rev + "/" + path); wide != "" {
			path = strings.TrimPrefix((rev + "/" + path)[len(wide):], "/")
			rev = wide
		}
	}
	return strings.Join(append(append([]string(nil), parts[:n-1]...), name), "/"), strings.ReplaceAll(rev, "%2F", "/"), hasRev, path
}

func (r Ref) check(hasRev bool) error {
	if err := checkID(r.ID); err != nil {
		return err
	}
	if hasRev || r.Revision != "" {
		if !revPart.MatchString(r.Revision) || strings.Contains(r.Revision, "..") || strings.Contains(r.Revision, "//") ||
			strings.HasSuffix(r.Revision, "/") || strings.HasSuffix(r.Revision, ".") {
			return fault.New(fault.Usage, "revision %q is not the name of a branch, tag or commit", r.Revision)
		}
	}
	if r.Path != "" {
		return atomicdir.CheckName(r.Path)
	}
	return nil
}

// checkID is strict: an ID becomes part of addresses and of folder names.
func checkID(id string) error {
	parts := strings.Split(id, "/")
	if len(parts) > 2 {
		return fault.New(fault.Usage, "%q has more than one slash", id)
	}
	for _, p := range parts {
		if !idPart.MatchString(p) || strings.Contains(p, "--") || strings.Contains(p, "..") || strings.HasSuffix(p, ".git") {
			return fault.New(fault.Usage, "%q is not a name on the hub", p)
		}
	}
	return nil
}
