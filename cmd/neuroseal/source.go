package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/hub"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/oms"
	"github.com/neuroseal/neuroseal/seal"
)

// sourceHelp is what the help of commands says of operands that may be on the hub.
const sourceHelp = `A checkpoint is a folder, a file, or a model on the Hugging Face hub: org/name,
org/name@revision or hf://org/name[@revision][/file], or one GGUF file of it by its
quantisation, org/name:Q4_K_M. A folder of that name here comes first. HF_TOKEN,
HF_HOME, HF_HUB_CACHE, HF_ENDPOINT and HF_HUB_OFFLINE are honoured; what is
downloaded goes into the cache that other tools share.`

// registerToken adds the one option of commands that read from the hub.
func (o *hubOptions) registerToken(f *pflag.FlagSet) {
	f.StringVar(&o.token, "token", "", "a `TOKEN` of the hub, if HF_TOKEN is not set; other users see it in the list of processes")
	o.workers = 8
}

// sources opens the operands of one command.
type sources struct {
	u        *ui.UI
	hub      *hubOptions
	progress *stages
	whole    bool        // every file of a repository, as a signature covers them all
	client   *hub.Client // made for the first operand on the hub
}

// source is what an operand means.
type source struct {
	operand string // as it was written
	path    string // on this machine; "" while it is not here
	ref     hub.Ref
	plan    *hub.Plan         // what there is to download; nil: nothing
	remote  *neuroseal.Remote // the same for the library; nil: only a download tells
	sums    map[string]string // SHA-256 of what is in the cache, by path in the repository; nil: not known
	of      *sources
}

// open finds out what an operand means. Of a model on the hub, only the listing
// and the config are read; offline, and where the hub cannot be reached, the
// cache's copy is used.
func (s *sources) open(ctx context.Context, operand string) (*source, error) {
	ref, ok, err := hub.ParseSource(operand)
	if err != nil {
		return nil, err
	}
	out := &source{operand: operand, path: operand, ref: ref, of: s}
	if !ok {
		return out, nil
	}
	if s.client == nil {
		if s.client, err = s.hub.client(s.u, s.progress); err != nil {
			return nil, err
		}
	}
	if ref, err = s.client.Locate(ctx, ref); err != nil {
		return nil, orFolder(operand, err)
	}
	out.ref = ref
	plan, here, err := s.client.Look(ctx, ref, hub.ResolveOptions{All: s.whole, Beside: companions(ref.Path)})
	switch {
	case err != nil:
		return nil, orFolder(operand, err)
	case here != nil:
		out.path = here.Path
		out.know(here.Files)
		return out, nil
	}
	out.path, out.plan = "", plan
	if ext := path.Ext(ref.Path); ref.Path == "" || ext == ".safetensors" {
		out.remote, err = remoteOf(ctx, plan)
	}
	return out, err
}

// orFolder tells who meant a folder that it does not exist.
func orFolder(operand string, err error) error {
	hint := fault.HintOf(err)
	if strings.HasPrefix(operand, "hf://") || strings.Contains(hint, "./"+operand) || fault.KindOf(err) != fault.General {
		return err
	}
	if hint != "" {
		hint += "; "
	}
	return fault.Wrap(fault.General, err, "").WithHint("%sthere is no folder ./%s here", hint, operand)
}

// splitGGUF are the names of the files that a large model in GGUF consists of.
var splitGGUF = regexp.MustCompile(`-[0-9]{5}-of-[0-9]{5}\.gguf$`)

// companions are the files that belong to a file: its manifest, the signatures of both, the rest of a split
// GGUF, and the external data of an ONNX model.
func companions(file string) []string {
	if file == "" {
		return nil
	}
	list := []string{file + oms.Suffix, file + ".neuroseal.json", file + ".neuroseal.json" + oms.Suffix, path.Join(path.Dir(file), manifest.Name)}
	if at := splitGGUF.FindStringIndex(file); at != nil {
		list = append(list, file[:at[0]]+"-[0-9][0-9][0-9][0-9][0-9]-of-"+file[at[1]-len("00000.gguf"):])
	}
	if path.Ext(file) == ".onnx" {
		list = append(list, file+"_data", file+".data")
	}
	return list
}

// remoteOf shows what there is to download to the library.
func remoteOf(ctx context.Context, plan *hub.Plan) (*neuroseal.Remote, error) {
	repo, dir := plan.Repo, path.Dir(plan.Repo.Ref.Path)
	files := plan.FS(ctx)
	if repo.Ref.Path != "" && dir != "." {
		var err error
		if files, err = fs.Sub(files, dir); err != nil {
			return nil, fault.Wrap(fault.General, err, "%s", repo.Ref)
		}
	}
	find := func(name string) hub.File {
		f, _ := repo.File(path.Join(dir, name))
		return f
	}
	return &neuroseal.Remote{
		Name:  repo.Ref.String(),
		Files: files,
		Sum:   func(name string) string { return find(name).Sum() },
		Here:  func(name string) bool { return repo.Cached(find(name)) },
		Fetch: func(ctx context.Context, name, path string, also func() io.Writer) error {
			return repo.Fetch(ctx, find(name), path, also)
		},
		Begun: func(name, path string) int64 { return repo.Begun(find(name), path) },
	}, nil
}

// here returns the checkpoint's path on this machine, for which a model on the
// hub is downloaded into the cache, after check has looked at it. What check
// cannot read in headers passes: the command itself will look.
func (s *source) here(ctx context.Context, check func(*neuroseal.Remote) error) (string, error) {
	if s.path != "" {
		return s.path, nil
	}
	if s.remote != nil && check != nil {
		if err := check(s.remote); err != nil {
			return "", err
		}
	}
	if s.plan.Download > 0 {
		s.of.u.Note("%s: %s of %s to download into the cache; %s free there",
			s.commit(), ui.Bytes(s.plan.Download), ui.Bytes(s.plan.Bytes), ui.Bytes(s.plan.Free))
	}
	snap, err := s.plan.Run(ctx)
	if err != nil {
		return "", err
	}
	s.path = snap.Path
	s.know(snap.Files)
	return s.path, nil
}

// know notes what the hub lists of files in the cache.
func (s *source) know(files []hub.File) {
	s.sums = map[string]string{}
	for _, f := range files {
		s.sums[f.Path] = f.SHA256
	}
}

// sum is what LockOptions.Sum is: nil for what is no copy of the hub's.
func (s *source) sum() func(string) string {
	if s.sums == nil {
		return nil
	}
	dir := "."
	if s.ref.Path != "" {
		dir = path.Dir(s.ref.Path)
	}
	return func(file string) string { return s.sums[path.Join(dir, file)] }
}

// commit names a model with the commit that its revision stands for.
func (s *source) commit() string {
	return fmt.Sprintf("%s at commit %.12s", s.ref, s.plan.Repo.Commit)
}

// local opens an operand and returns its path here, as here does; "" stays "".
func (s *sources) local(ctx context.Context, operand string, check func(*neuroseal.Remote) error) (string, error) {
	if operand == "" {
		return "", nil
	}
	src, err := s.open(ctx, operand)
	if err != nil {
		return "", err
	}
	return src.here(ctx, check)
}

// mustBeSealed refuses a model that holds no manifest before it is downloaded.
func mustBeSealed(r *neuroseal.Remote) error {
	_, err := r.ReadManifest()
	return err
}

// mustBeSupported returns a check that refuses a model whose network is not
// known before it is downloaded. A graph file may know it.
func mustBeSupported(graph string, allowUnsealed bool) func(*neuroseal.Remote) error {
	if graph != "" {
		return nil
	}
	return func(r *neuroseal.Remote) error {
		_, err := neuroseal.CheckRemote(r, allowUnsealed, true)
		return err
	}
}

// preflight checks, from headers, that a model on the hub can be sealed and that
// the disk has room, and says what will move. It reports whether the model can
// be sealed as it arrives, without a copy in the cache.
func (s *source) preflight(o *lockOptions) (streams bool, err error) {
	c, err := neuroseal.CheckRemote(s.remote, o.AllowUnsealed, false)
	if err != nil {
		return false, err
	}
	text := fmt.Sprintf("%s: %s, %s, shards: %d, to download: %s", s.commit(), c.ModelType, ui.Bytes(c.Bytes), c.Shards, ui.Bytes(c.Download))
	if o.DryRun {
		s.of.u.Note("%s", text)
		return c.Streams, nil
	}
	if c.Streams && c.Download > 0 {
		free, err := atomicdir.Free(filepath.Dir(filepath.Clean(o.Output)))
		if err != nil {
			return false, fault.Wrap(fault.General, err, "asking for free space at %s", o.Output)
		}
		s.of.u.Note("%s; sealing takes at most %s of disk, %s are free", text, ui.Bytes(c.Peak), ui.Bytes(free))
		return true, nil
	}
	return false, nil
}

// openSource finds out where the checkpoint to be sealed is. A model on the hub
// that can be sealed as it arrives becomes o.Remote; any other one is downloaded
// into the cache, unless nothing is to be written.
func (o *lockOptions) openSource(ctx context.Context, u *ui.UI) error {
	p := newStages(u)
	s := &sources{u: u, hub: &o.Hub, progress: p}
	err := o.place(ctx, s)
	if err != nil {
		p.end(false)
		return err
	}
	o.Progress = p
	return nil
}

func (o *lockOptions) place(ctx context.Context, s *sources) error {
	src, err := s.open(ctx, o.Source)
	if err != nil {
		return err
	}
	if src.ref.ID != "" && o.BaseModel == "" {
		o.BaseModel = src.ref.ID
	}
	whole := src.path != "" || src.remote == nil || src.plan.Download == 0 || o.Part != "" || o.Finish || o.Graph != ""
	if !whole {
		streams, err := src.preflight(o)
		if err != nil {
			return err
		}
		if streams || o.DryRun {
			o.Source, o.Remote = src.remote.Name, src.remote
			return nil
		}
	}
	o.Source, err = src.here(ctx, nil)
	o.Sum = src.sum()
	return err
}

// keepsWork reports whether an unfinished seal of a remote checkpoint left
// sealed shards, which only the same key completes.
func (o *lockOptions) keepsWork() bool {
	if o.Remote == nil {
		return false
	}
	_, err := os.Stat(filepath.Join(neuroseal.DownloadFolder(o.Output), "records"))
	return err == nil
}

// showHeaders prints what headers tell of a lock: all but what the weights
// leave room for.
func showHeaders(ctx context.Context, u *ui.UI, o lockOptions) error {
	profile := o.Profile
	if o.Method != seal.Gauge {
		profile = seal.Max // these methods have no blocks
	}
	in, err := neuroseal.Inspect(ctx, neuroseal.InspectOptions{Remote: o.Remote, Profile: profile, AllowUnsealed: o.AllowUnsealed})
	if err != nil {
		return err
	}
	const note = "headers only: how far the factors may go, and so which groups keep room, depends on the weights, which are not here; " +
		"lock --dry-run reads them once the model is in the cache (hf download)"
	rows := kinds(in.Groups, nil)
	object := lockJSON{
		DryRun: true, Method: string(o.Method), Profile: string(o.Profile), Scale: o.Scale, ModelType: in.ModelType,
		FreeDims: in.FreeDims, Coverage: in.Coverage, Bytes: in.Bytes, Kinds: rows, Holes: in.Holes,
		Notes: append(slices.Clip(in.Notes[:len(in.Notes)-1]), note),
	}
	return u.Result(object, "", func(w io.Writer) {
		fmt.Fprintf(w, "Dry run: %s (%s), from its headers; nothing was downloaded\n", in.ModelType, ui.Bytes(in.Bytes))
		writeKinds(w, rows, false)
		fmt.Fprintf(w, "Free dimensions: %d; up to %s of the %d parameters would move\n", in.FreeDims, percent(in.Coverage), in.Parameters)
		fmt.Fprintf(w, "The output would take %s\n", ui.Bytes(in.Bytes))
		writeHoles(w, in.Holes, false)
		writeNotes(w, object.Notes)
	})
}
