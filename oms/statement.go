package oms

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Digest is a SHA-256.
type Digest [sha256.Size]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Resource is a signed file, or a piece of one.
type Resource struct {
	Path   string // relative and slash-separated; "." for a model that is one file
	SHA256 Digest
	// Start and End bound a piece, in bytes; both are 0 for a whole file.
	Start, End int64
}

// Statement is what a signature says of a model.
type Statement struct {
	Model         string     // its name when it was signed; for people only
	Resources     []Resource // in the order of paths, pieces in the order of bytes
	Sharded       bool       // resources are pieces of files
	AllowSymlinks bool
	Ignore        []string // files and folders, relative to the model, that it says nothing of
}

// NewStatement makes the statement of a model whose files have been hashed.
// ignore is what the signature says nothing of besides what it never does: the
// files of Git and of the hub's client. Of files below those nothing is said.
func NewStatement(model string, files []Resource, ignore []string) (*Statement, error) {
	s := &Statement{Model: model, Ignore: ignoring(ignore)}
	for _, r := range files {
		if !Ignored(r.Path, s.Ignore) {
			s.Resources = append(s.Resources, r)
		}
	}
	s.sort()
	if len(s.Resources) == 0 {
		return nil, fault.New(fault.Usage, "%s holds no file to sign", model)
	}
	return s, s.check()
}

// ignoring adds what is always ignored.
func ignoring(names []string) []string {
	all := slices.Concat(names, alwaysIgnored)
	slices.Sort(all)
	return slices.Compact(all)
}

// sort orders resources as the reference does: by the parts of their paths.
func (s *Statement) sort() {
	slices.SortFunc(s.Resources, func(a, b Resource) int {
		return cmp.Or(comparePaths(a.Path, b.Path), cmp.Compare(a.Start, b.Start))
	})
}

// single reports whether the model is one file.
func (s *Statement) single() bool {
	return !s.Sharded && len(s.Resources) == 1 && s.Resources[0].Path == wholeFile
}

// Lists reports whether the file at path is among those signed.
func (s *Statement) Lists(path string) bool {
	return slices.ContainsFunc(s.Resources, func(r Resource) bool { return r.Path == path })
}

// Files returns how many files are signed.
func (s *Statement) Files() int {
	n, last := 0, ""
	for _, r := range s.Resources {
		if r.Path != last {
			n, last = n+1, r.Path
		}
	}
	return n
}

// check refuses statements whose names leave the model or meet.
func (s *Statement) check() error {
	for _, p := range s.Ignore {
		if err := checkPath(p); err != nil {
			return fault.Wrap(fault.Mismatch, err, "ignored path")
		}
	}
	for i, r := range s.Resources {
		if r.Path != wholeFile || len(s.Resources) > 1 || s.Sharded {
			if err := checkPath(r.Path); err != nil {
				return fault.Wrap(fault.Mismatch, err, "signed file")
			}
		}
		first := i == 0 || s.Resources[i-1].Path != r.Path
		switch {
		case !s.Sharded && !first:
			return fault.New(fault.Mismatch, "signed file %q is listed twice", r.Path)
		case s.Sharded && (r.End <= r.Start || first && r.Start != 0 || !first && r.Start != s.Resources[i-1].End):
			return fault.New(fault.Mismatch, "signed file %q: its pieces leave a gap or overlap at byte %d", r.Path, r.Start)
		}
	}
	return nil
}

type statementJSON struct {
	Type          string        `json:"_type"`
	Subject       []subjectJSON `json:"subject"`
	PredicateType string        `json:"predicateType"`
	Predicate     predicateJSON `json:"predicate"`
}

type subjectJSON struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

type predicateJSON struct {
	Serialization serializationJSON `json:"serialization"`
	Resources     []resourceJSON    `json:"resources"`
}

type serializationJSON struct {
	Method        string   `json:"method"`
	HashType      string   `json:"hash_type"`
	AllowSymlinks bool     `json:"allow_symlinks"`
	IgnorePaths   []string `json:"ignore_paths,omitempty"`
}

type resourceJSON struct {
	Name      string `json:"name"`
	Algorithm string `json:"algorithm"`
	Digest    string `json:"digest"`
}

// payload writes the statement, which must not be of pieces.
func (s *Statement) payload() ([]byte, error) {
	list := make([]resourceJSON, len(s.Resources))
	for i, r := range s.Resources {
		list[i] = resourceJSON{r.Path, "sha256", r.SHA256.String()}
	}
	data, err := json.Marshal(statementJSON{
		Type: statementType, PredicateType: predicateType,
		Subject: []subjectJSON{{s.Model, map[string]string{"sha256": s.root().String()}}},
		Predicate: predicateJSON{
			serializationJSON{"files", "sha256", s.AllowSymlinks, s.Ignore}, list,
		},
	})
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "writing the statement")
	}
	return data, nil
}

// root is the digest of the model as a whole: of all digests, one after the other.
func (s *Statement) root() Digest {
	h := sha256.New()
	for _, r := range s.Resources {
		h.Write(r.SHA256[:])
	}
	return Digest(h.Sum(nil))
}

// parseStatement reads a payload.
func parseStatement(data []byte) (*Statement, error) {
	var j statementJSON
	if err := decode(data, "the signed statement", &j); err != nil {
		return nil, err
	}
	if err := j.known(); err != nil {
		return nil, err
	}
	ser := j.Predicate.Serialization
	s := &Statement{
		Model: j.Subject[0].Name, Sharded: ser.Method == "shards",
		AllowSymlinks: ser.AllowSymlinks, Ignore: ser.IgnorePaths,
	}
	for _, r := range j.Predicate.Resources {
		res, err := s.resource(r)
		if err != nil {
			return nil, err
		}
		s.Resources = append(s.Resources, res)
	}
	if got, want := s.root().String(), strings.ToLower(j.Subject[0].Digest["sha256"]); got != want {
		return nil, fault.New(fault.Mismatch, "the signed statement contradicts itself: its files' digests make %.16s…, not %.16s…", got, want)
	}
	s.sort()
	return s, s.check()
}

// known refuses statements of other kinds.
func (j *statementJSON) known() error {
	ser := j.Predicate.Serialization
	switch {
	case j.Type != statementType:
		return fault.New(fault.Unsupported, "the signed statement is of type %q, not %s", j.Type, statementType)
	case j.PredicateType == predicateOld:
		return fault.New(fault.Unsupported, "the signature is of model signing before its version 1.0").WithHint("sign the model again")
	case j.PredicateType != predicateType:
		return fault.New(fault.Unsupported, "the signature states %q, not %s", j.PredicateType, predicateType)
	case len(j.Subject) != 1:
		return fault.New(fault.Mismatch, "the signed statement has %d subjects, not one", len(j.Subject))
	case ser.Method != "files" && ser.Method != "shards":
		return fault.New(fault.Unsupported, "the signature lists a model by %q; files and shards are known", ser.Method)
	case ser.HashType != "sha256":
		return fault.New(fault.Unsupported, "the signature uses hash %q; only sha256 is supported", ser.HashType).
			WithHint("sign the model again, with sha256")
	case len(j.Predicate.Resources) == 0:
		return fault.New(fault.Mismatch, "the signed statement lists no file")
	}
	return nil
}

// resource reads one entry. A piece is named path:start:end, and its algorithm
// names the size of pieces.
func (s *Statement) resource(j resourceJSON) (Resource, error) {
	r := Resource{Path: j.Name}
	plain := j.Algorithm == "sha256"
	if s.Sharded {
		plain = strings.HasPrefix(j.Algorithm, "sha256-sharded-")
	}
	if !plain {
		return r, fault.New(fault.Unsupported, "signed file %q: algorithm %q is not supported", j.Name, j.Algorithm)
	}
	raw, err := hex.DecodeString(j.Digest)
	if err != nil || len(raw) != len(r.SHA256) {
		return r, fault.New(fault.Mismatch, "signed file %q: %q is no SHA-256", j.Name, j.Digest)
	}
	r.SHA256 = Digest(raw)
	if !s.Sharded {
		return r, nil
	}
	parts := strings.Split(j.Name, ":")
	if len(parts) != 3 {
		return r, fault.New(fault.Mismatch, "signed piece %q is not named path:start:end", j.Name)
	}
	r.Path = parts[0]
	for i, to := range []*int64{&r.Start, &r.End} {
		n, err := strconv.ParseInt(parts[i+1], 10, 64)
		if err != nil || n < 0 || fmt.Sprint(n) != parts[i+1] {
			return r, fault.New(fault.Mismatch, "signed piece %q is not named path:start:end", j.Name)
		}
		*to = n
	}
	return r, nil
}
