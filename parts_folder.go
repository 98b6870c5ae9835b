package neuroseal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

// The folder of a seal in parts. Every file in it appears complete or not at
// all, and belongs to one shard or to the whole:
//
//	seal.json                 what is sealed, and how; the first part writes it
//	measured/SHARD.json       statistics of a shard's weights
//	activations.json          what portable measures
//	sealed/SHARD              the sealed shard
//	records/SHARD.json        written when the sealed shard is on the disk
//	.part-I-of-N.neuroseal-…  held by the process that seals that part
const (
	setupName       = "seal.json"
	activationsName = "activations.json"
	measuredFolder  = "measured"
	sealedFolder    = "sealed"
	recordsFolder   = "records"
)

// partsSchema is the version of the records.
const partsSchema = 1

// maxRecord bounds a record that is read, in bytes.
const maxRecord = 64 << 20

// partsFolder is the folder of one seal.
type partsFolder struct {
	dir    string
	digest string // of the setup
}

// openForShards opens the source of a lock that seals shards one by one, and
// works in a folder of its own.
func openForShards(o LockOptions, dir string) (*locker, error) {
	if err := ownFolder(dir); err != nil {
		return nil, err
	}
	l, err := openLocker(o)
	if err != nil {
		return nil, err
	}
	if err := l.m.wholeOnly(); err != nil {
		l.m.ck.Close()
		return nil, err
	}
	return l, nil
}

// ownFolder demands that nothing in the way is lost when the folder of the work
// is removed in the end: no link, and nothing that a lock did not put there.
func ownFolder(dir string) error {
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Wrap(fault.General, err, "looking at %s", dir)
	}
	const hint = "sealing needs this name, and removes the folder in the end: move what is there, or choose another output"
	if !info.IsDir() {
		return fault.New(fault.Usage, "%s is in the way, and is no folder", dir).WithHint(hint)
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return fault.Wrap(fault.General, err, "looking at %s", dir)
	}
	ours := []string{sourceFolder, setupName, activationsName, measuredFolder, sealedFolder, recordsFolder}
	for _, e := range list {
		if !slices.Contains(ours, e.Name()) && !strings.Contains(e.Name(), ".neuroseal-") {
			return fault.New(fault.Usage, "%s holds %s, which no lock put there", dir, e.Name()).WithHint(hint)
		}
	}
	return nil
}

func (f *partsFolder) path(kind, shard string) string {
	return filepath.Join(f.dir, kind, filepath.FromSlash(shard))
}

func (f *partsFolder) exists() bool {
	info, err := os.Stat(f.dir)
	return err == nil && info.IsDir()
}

// partsSetup is what all parts must agree on.
type partsSetup struct {
	Schema        int         `json:"schema"`
	Tool          string      `json:"tool"`
	Method        seal.Method `json:"method"`
	Profile       string      `json:"profile"`
	Scale         float64     `json:"scale"`
	Include       []string    `json:"include"`
	Exclude       []string    `json:"exclude"`
	Signs         bool        `json:"signs"`
	Permute       bool        `json:"permute"`
	AllowUnsealed bool        `json:"allow-unsealed"`
	AllowSealed   bool        `json:"allow-sealed"`
	NoMetadata    bool        `json:"no-metadata"`
	Key           string      `json:"key"`    // its public check; "": none is used
	Config        string      `json:"config"` // SHA-256 of the source's config.json
	Shards        []partShard `json:"shards"` // of the source
}

type partShard struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	Header string `json:"header"` // SHA-256
}

// setup describes a lock for all its parts.
func (l *locker) setup() (partsSetup, error) {
	s := partsSetup{
		Schema: partsSchema, Tool: "neuroseal " + Version, Method: l.o.Method, Profile: string(l.o.Profile), Scale: l.o.Scale,
		Include: append([]string{}, l.o.Include...), Exclude: append([]string{}, l.o.Exclude...),
		Signs: l.o.Signs, Permute: l.o.Permute, AllowUnsealed: l.o.AllowUnsealed, AllowSealed: l.o.AllowSealed, NoMetadata: l.o.NoMetadata,
		Config: hexSum(l.m.conf),
	}
	if l.o.Method != seal.Static {
		s.Key = l.o.Key.Check()
	}
	headers, err := l.m.headers()
	if err != nil {
		return s, err
	}
	for i, sh := range l.m.ck.Shards() {
		s.Shards = append(s.Shards, partShard{sh.Path, sh.Size, headers[i]})
	}
	return s, nil
}

// headers returns the SHA-256 of the shards' headers.
func (m *model) headers() (sums []string, err error) {
	if gguf.Is(m.path) {
		return headersGGUF(m.path)
	}
	for _, sh := range m.ck.Shards() {
		sums = append(sums, hexSum(sh.Header.Raw))
	}
	return sums, nil
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// digestJSON is the SHA-256 of a value's JSON.
func digestJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain data: cannot fail
	}
	return hexSum(b)
}

// setupPatience is how long a part waits for another to write the setup, which
// on a network file system may take a while to reach the disk.
const setupPatience = time.Minute

// agree demands that the folder holds parts of this very seal. With begin, a
// folder that holds none yet becomes this seal's; where several parts begin at
// once, one of them writes the setup and the others wait for it.
func (f *partsFolder) agree(ctx context.Context, l *locker, begin bool) error {
	want, err := l.setup()
	if err != nil {
		return err
	}
	f.digest = digestJSON(want)
	path := filepath.Join(f.dir, setupName)
	for end := time.Now().Add(setupPatience); ; {
		var got partsSetup
		err := readRecord(path, &got)
		switch {
		case err == nil && digestJSON(got) == f.digest:
			return nil
		case err == nil:
			return f.disagree(got, want)
		case !errors.Is(err, fs.ErrNotExist):
			return fault.Wrap(fault.Mismatch, err, "%s", path).WithHint("remove the folder %s and seal all parts again", f.dir)
		case !begin:
			return fault.New(fault.Usage, "%s holds no part of a seal: it has no %s", f.dir, setupName).
				WithHint("seal the parts first: neuroseal lock SRC DST --part 1/n, and so on")
		}
		err = writeRecord(path, want, false)
		if err == nil {
			continue // what is there counts
		}
		if fault.KindOf(err) == fault.NoSpace || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return fault.Wrap(fault.Interrupted, context.Cause(ctx), "interrupted")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// disagree names what differs between the seal in the folder and this one.
func (f *partsFolder) disagree(got, want partsSetup) error {
	var source, options []string
	a, b := fields(got), fields(want)
	for _, k := range slices.Sorted(maps.Keys(b)) {
		switch {
		case reflect.DeepEqual(a[k], b[k]):
		case k == "config", k == "shards":
			source = append(source, k)
		case k == "key":
			options = append(options, "the key is another")
		default:
			options = append(options, fmt.Sprintf("%s is %v there and %v here", k, a[k], b[k]))
		}
	}
	if len(options) > 0 {
		return fault.New(fault.Usage, "%s holds parts of another seal: %s", f.dir, join(options)).
			WithHint("give every part and --finish the same options and key file, or remove that folder to begin anew")
	}
	what := "config.json"
	for i, s := range want.Shards {
		if i >= len(got.Shards) || got.Shards[i] != s {
			what = "shard " + s.Path
			break
		}
	}
	if len(got.Shards) > len(want.Shards) {
		what = "shard " + got.Shards[len(want.Shards)].Path
	}
	if len(source) == 0 {
		what = setupName
	}
	return fault.New(fault.Mismatch, "%s holds parts of another checkpoint: %s differs", f.dir, what).
		WithHint("if the checkpoint was changed, remove that folder and seal all parts again")
}

func join(list []string) string {
	out := ""
	for i, s := range list {
		if i > 0 {
			out += "; "
		}
		out += s
	}
	return out
}

func fields(v partsSetup) map[string]any {
	b, _ := json.Marshal(v)
	out := map[string]any{}
	_ = json.Unmarshal(b, &out)
	return out
}

// stamp is the state of a file of the source, to tell whether it was changed.
type stamp struct {
	Size     int64 `json:"size"`
	Modified int64 `json:"modified"` // nanoseconds since 1970
	// Sum is the checksum that names the content, of a file that is elsewhere.
	Sum string `json:"sum,omitempty"`
}

func (l *locker) stamp(s checkpoint.Shard) (stamp, error) {
	if l.remote != nil {
		return stamp{Size: s.Size, Sum: l.remote.Sum(s.Path)}, nil
	}
	info, err := os.Stat(filepath.Join(l.m.ck.Root(), filepath.FromSlash(s.Path)))
	if err != nil {
		return stamp{}, fault.Wrap(fault.General, err, "reading checkpoint")
	}
	return stamp{Size: info.Size(), Modified: info.ModTime().UnixNano()}, nil
}

// shardRecord says how a shard was sealed.
type shardRecord struct {
	Schema    int                 `json:"schema"`
	Part      string              `json:"part"`  // "2/3"
	Setup     string              `json:"setup"` // digest of seal.json's content
	Plan      string              `json:"plan"`  // digest
	Source    stamp               `json:"source"`
	Size      int64               `json:"size"` // of the sealed file, in bytes
	Original  string              `json:"original_sha256"`
	Sealed    string              `json:"sha256"`
	Checksums []manifest.Checksum `json:"checksums"`
}

func (f *partsFolder) recordPath(shard string) string { return f.path(recordsFolder, shard+".json") }

// record reads the record of a shard.
func (f *partsFolder) record(shard string) (*shardRecord, error) {
	r := new(shardRecord)
	if err := readRecord(f.recordPath(shard), r); err != nil {
		return nil, err
	}
	if _, err := ParsePart(r.Part); err != nil || r.Schema != partsSchema || r.Size <= 0 || len(r.Original) != 64 || len(r.Sealed) != 64 {
		return nil, fault.New(fault.Mismatch, "%s is not a record of a sealed shard", f.recordPath(shard))
	}
	return r, nil
}

// present reports whether the sealed shard is there with its full size, which
// its record tells.
func (f *partsFolder) present(s checkpoint.Shard) bool {
	r, err := f.record(s.Path)
	if err != nil {
		return false
	}
	info, err := os.Stat(f.path(sealedFolder, s.Path))
	return err == nil && info.Mode().IsRegular() && info.Size() == r.Size
}

// readRecord reads a JSON file of known form; a missing one is fs.ErrNotExist.
func readRecord(path string, v any) error {
	file, err := os.Open(path)
	if err != nil {
		return fault.Wrap(fault.General, err, "reading parts")
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxRecord+1))
	if err != nil {
		return fault.Wrap(fault.General, err, "reading parts")
	}
	return decodeRecord(b, v)
}

func decodeRecord(b []byte, v any) error {
	if len(b) > maxRecord {
		return fault.New(fault.Mismatch, "more than %d bytes", maxRecord)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fault.Wrap(fault.Mismatch, err, "not a record of a seal in parts")
	}
	if dec.More() {
		return fault.New(fault.Mismatch, "not a record of a seal in parts: something follows it")
	}
	return nil
}

func writeRecord(path string, v any, replace bool) error {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain data: cannot fail
	}
	return atomicdir.WriteFile(path, append(b, '\n'), 0o666, replace)
}
