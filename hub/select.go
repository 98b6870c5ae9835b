package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/neuroseal/neuroseal/internal/fault"
)

const (
	configName = "config.json"
	indexName  = "model.safetensors.index.json"
	singleName = "model.safetensors"
	weights    = ".safetensors"
)

// otherWeights are the extensions of weights in formats that stand beside
// safetensors in many repositories, as checkpoint knows them.
var otherWeights = []string{".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".ptl", ".distcp", ".gguf", ".ggml", ".onnx",
	".onnx_data", ".pt2", ".h5", ".hdf5", ".keras", ".msgpack", ".npz", ".npy", ".tflite", ".pb", ".ot", ".nemo", ".engine", ".plan",
	".mlmodel", ".llamafile", ".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar"}

// pick chooses what to download: a single file and the config beside it; what
// patterns say; or, with neither, what makes up a checkpoint in safetensors.
func (r *Repo) pick(ctx context.Context, opt ResolveOptions) ([]File, error) {
	if r.Ref.Path != "" {
		return r.pickFile(opt.Beside)
	}
	include, err := globs(opt.Include)
	if err != nil {
		return nil, err
	}
	exclude, err := globs(opt.Exclude)
	if err != nil {
		return nil, err
	}
	files := r.Files
	if len(opt.Include) == 0 && !opt.All {
		if files, err = r.pickModel(ctx); err != nil {
			return nil, err
		}
	}
	files = slices.DeleteFunc(slices.Clone(files), func(f File) bool {
		return len(include) > 0 && !matches(include, f.Path) || matches(exclude, f.Path)
	})
	if len(files) == 0 {
		return nil, fault.New(fault.Usage, "no file of %s is chosen", r.Ref)
	}
	return files, nil
}

func (r *Repo) pickFile(beside []string) ([]File, error) {
	f, ok := r.File(r.Ref.Path)
	if !ok {
		return nil, fault.New(fault.General, "%s at %s has no file %s", r.Ref.ID, r.Ref.revision(), r.Ref.Path).
			WithHint("its files are listed at %s/%s/tree/%s", r.client.cfg.Endpoint, r.Ref.ID, r.Ref.revision())
	}
	with, err := globs(beside)
	if err != nil {
		return nil, err
	}
	config := path.Join(path.Dir(f.Path), configName)
	var files []File
	for _, g := range r.Files {
		if g.Path == f.Path || g.Path == config && path.Ext(f.Path) == weights || matches(with, g.Path) {
			files = append(files, g)
		}
	}
	return files, nil
}

// pickModel takes the shards that transformers would load and every file that
// holds no weights.
func (r *Repo) pickModel(ctx context.Context) ([]File, error) {
	shards, err := r.shards(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(r.Files), func(f File) bool {
		ext := strings.ToLower(path.Ext(f.Path))
		return ext == weights && !slices.Contains(shards, f.Path) || slices.Contains(otherWeights, ext)
	}), nil
}

// shards names the files that hold the model, and demands that the index and
// the listing agree.
func (r *Repo) shards(ctx context.Context) ([]string, error) {
	_, single := r.File(singleName)
	if f, ok := r.File(indexName); ok {
		shards, err := r.indexed(ctx, f)
		if err == nil && single && !slices.Contains(shards, singleName) {
			err = fault.New(fault.Unsupported, "%s holds both %s and %s, which does not name it; runtimes differ in which they load", r.Ref.ID, singleName, indexName).
				WithHint("if the single file is the model: hf://%s/%s; else tell its authors", r.Ref.ID, singleName)
		}
		return shards, err
	}
	if single {
		return []string{singleName}, nil
	}
	var top []string
	for _, f := range r.Files {
		if path.Ext(f.Path) == weights && !strings.Contains(f.Path, "/") {
			top = append(top, f.Path)
		}
	}
	switch {
	case len(top) == 1:
		return top, nil
	case len(top) > 1:
		return nil, fault.New(fault.Mismatch, "%s holds %d safetensors files (%s, …) and no %s", r.Ref.ID, len(top), top[0], indexName).
			WithHint("name one of them: hf://%s/%s", r.Ref.ID, top[0])
	}
	return nil, r.noShards()
}

func (r *Repo) noShards() error {
	if list, _ := r.models(); len(list) > 0 {
		hint := choose(r.Ref, list[0])
		if len(list) > 1 {
			hint += fmt.Sprintf(", or its quantisation: %s:Q4_K_M", r.Ref.ID)
		}
		return fault.New(fault.Unsupported, "%s holds no safetensors, but %d in GGUF: %s", r.Ref.ID, len(list), r.choices(list)).WithHint("%s", hint)
	}
	for _, f := range r.Files {
		switch ext := strings.ToLower(path.Ext(f.Path)); {
		case ext == ".onnx":
			return fault.New(fault.Unsupported, "%s holds no safetensors, but %s", r.Ref.ID, f.Path).
				WithHint("name the file: hf://%s/%s", r.Ref.ID, f.Path)
		case slices.Contains(otherWeights, ext):
			return fault.New(fault.Unsupported, "%s holds its weights as %s, not as safetensors", r.Ref.ID, f.Path).
				WithHint("many such models have safetensors at another revision, such as refs/pr/1; else convert it")
		}
	}
	return fault.New(fault.Unsupported, "%s holds no safetensors", r.Ref.ID)
}

const maxIndex = 100 << 20 // bytes, as safetensors bounds a header

func (r *Repo) indexed(ctx context.Context, f File) ([]string, error) {
	data, err := r.ReadFile(ctx, f, maxIndex)
	if err != nil {
		return nil, err
	}
	var index struct {
		Weights map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &index); err != nil || len(index.Weights) == 0 {
		return nil, fault.New(fault.Mismatch, "%s of %s names no tensors", f.Path, r.Ref.ID)
	}
	seen := map[string]bool{}
	var shards []string
	for tensor, shard := range index.Weights {
		if seen[shard] {
			continue
		}
		seen[shard] = true
		if _, ok := r.File(shard); !ok {
			return nil, fault.New(fault.Mismatch, "%s lacks shard %q, which its index names for tensor %q", r.Ref, shard, tensor).
				WithHint("the upload is incomplete; try another revision or tell its authors")
		}
		shards = append(shards, shard)
	}
	slices.Sort(shards)
	return shards, nil
}

// globs compiles patterns as Python's fnmatch understands them: "*" and "?" also
// match slashes, and a pattern that ends in a slash means all that is below.
func globs(patterns []string) ([]*regexp.Regexp, error) {
	var out []*regexp.Regexp
	for _, p := range patterns {
		if strings.HasSuffix(p, "/") {
			p += "*"
		}
		re, err := regexp.Compile(globRegexp(p))
		if err != nil {
			return nil, fault.New(fault.Usage, "pattern %q cannot be read", p)
		}
		out = append(out, re)
	}
	return out, nil
}

func globRegexp(p string) string {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteString(".")
		case '[':
			class, n := globClass(p[i:])
			b.WriteString(class)
			i += n - 1
		default:
			_, n := utf8.DecodeRuneInString(p[i:])
			b.WriteString(regexp.QuoteMeta(p[i : i+n]))
			i += n - 1
		}
	}
	b.WriteString(`\z`)
	return b.String()
}

// globClass translates [abc] and [!abc] at the beginning of p, and returns how
// long it is. A bracket that is never closed stands for itself.
func globClass(p string) (string, int) {
	end := strings.IndexByte(p[min(2, len(p)):], ']')
	if end < 0 {
		return `\[`, 1
	}
	inner := p[1 : 2+end]
	not := ""
	if strings.HasPrefix(inner, "!") {
		not, inner = "^", inner[1:]
	}
	inner = strings.NewReplacer(`\`, `\\`, `[`, `\[`, `]`, `\]`, `^`, `\^`).Replace(inner)
	return "[" + not + inner + "]", 2 + end + 1
}

func matches(patterns []*regexp.Regexp, name string) bool {
	return slices.ContainsFunc(patterns, func(re *regexp.Regexp) bool { return re.MatchString(name) })
}
