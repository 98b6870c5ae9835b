package checkpoint

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/safetensors"
)

const (
	indexName  = "model.safetensors.index.json"
	singleName = "model.safetensors"
	configName = "config.json"
	extension  = ".safetensors"

	maxConfig = 64 << 20 // bytes; real ones have a few thousand
)

// Open opens the checkpoint at path: a folder with an index and its shards,
// with a model.safetensors, or with one other *.safetensors; or a single
// .safetensors file. An index decides over all other safetensors files, but for
// a model.safetensors that it does not name: transformers would load that one.
// Index and shards must agree both ways.
//
// A file or tensor that is missing, misplaced, truncated or corrupt gives
// fault.Mismatch; a checkpoint in pickles or in another format, one that is there
// twice, and an index that names a file outside its folder, fault.Unsupported.
func Open(path string) (*Checkpoint, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "opening checkpoint")
	}
	c := &Checkpoint{root: path}
	if info.IsDir() {
		err = c.openFolder()
	} else {
		err = c.openFile(path)
	}
	if err == nil {
		err = c.readConfig()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Checkpoint) openFile(file string) error {
	base := filepath.Base(file)
	c.root, c.single = filepath.Dir(file), true
	if !strings.EqualFold(filepath.Ext(base), extension) {
		f := classify(base, 0, func() []byte { return nil })
		if f.Pickle {
			return pickleOnly(file)
		}
		return fault.New(fault.Unsupported, "%s is not a safetensors file", file).
			WithHint("name a .safetensors file or the folder of a checkpoint")
	}
	if info, err := os.Stat(c.path(configName)); err == nil && info.Mode().IsRegular() {
		c.others = []File{{Path: configName, Size: info.Size()}}
	}
	return c.openShards([]string{base}, nil)
}

func (c *Checkpoint) openFolder() error {
	files, err := c.walk()
	if err != nil {
		return err
	}
	shards, index, err := c.findShards(files)
	if err != nil {
		return err
	}
	for _, f := range files {
		if !slices.Contains(shards, f.Path) {
			c.others = append(c.others, f)
		}
	}
	return c.openShards(shards, index)
}

// findShards returns the names of the shards, sorted, and the index if there is
// one.
func (c *Checkpoint) findShards(files []File) ([]string, []safetensors.IndexEntry, error) {
	has := make(map[string]bool, len(files))
	var top []string
	for _, f := range files {
		has[f.Path] = true
		if path.Ext(f.Path) == extension && !strings.Contains(f.Path, "/") {
			top = append(top, f.Path)
		}
	}
	switch {
	case has[indexName]:
		shards, index, err := c.readIndex(has)
		if err == nil && has[singleName] && !slices.Contains(shards, singleName) {
			err = fault.New(fault.Unsupported, "%s holds both %s and %s, which does not name it; runtimes differ in which they load", c.root, singleName, indexName).
				WithHint("remove the one that is not the model")
		}
		return shards, index, err
	case c.skips(indexName) != "":
		return nil, nil, fault.New(fault.Mismatch, "%s: %s", c.path(indexName), c.skips(indexName))
	case has[singleName]:
		return []string{singleName}, nil, nil
	case len(top) == 1:
		return top, nil, nil
	case len(top) > 1:
		return nil, nil, fault.New(fault.Mismatch, "%s holds %d safetensors files (%s, …) and no %s", c.root, len(top), top[0], indexName).
			WithHint("download %s too, or name one file", indexName)
	}
	return nil, nil, c.noShards(files)
}

// noShards says what the folder holds instead.
func (c *Checkpoint) noShards(files []File) error {
	for _, f := range files {
		if f.Pickle {
			return pickleOnly(c.path(f.Path))
		}
	}
	for _, f := range files {
		if f.Weights {
			return fault.New(fault.Unsupported, "%s holds no safetensors, but %s", c.root, f.Path).
				WithHint("name that file itself if its format is supported, or download the safetensors of the model")
		}
	}
	for _, s := range c.skipped {
		if path.Ext(s.Path) == extension {
			return fault.New(fault.Mismatch, "%s: %s", c.path(s.Path), s.Why).
				WithHint("the download is incomplete; fetch the model again")
		}
	}
	return fault.New(fault.Unsupported, "%s holds no safetensors", c.root).
		WithHint("name the folder that holds model.safetensors or %s", indexName)
}

func pickleOnly(file string) error {
	return fault.New(fault.Unsupported, "%s is a Python pickle, which can run code when it is loaded; there are no safetensors", file).
		WithHint("convert it in a sandbox: load it with torch.load(…, weights_only=True) into the model and call " +
			"save_pretrained(…, safe_serialization=True), or use the hub's safetensors conversion space (huggingface.co/spaces/safetensors/convert)")
}

func (c *Checkpoint) readIndex(has map[string]bool) ([]string, []safetensors.IndexEntry, error) {
	file := c.path(indexName)
	data, err := c.ReadFile(indexName, safetensors.MaxHeader)
	if err != nil {
		return nil, nil, err
	}
	index, err := safetensors.ParseIndex(data)
	if err != nil {
		return nil, nil, fault.Wrap(fault.KindOf(err), err, "%s", file)
	}
	var shards []string
	seen := make(map[string]bool)
	for _, e := range index {
		if seen[e.File] {
			continue
		}
		seen[e.File] = true
		if err := atomicdir.CheckName(e.File); err != nil {
			return nil, nil, fault.Wrap(fault.KindOf(err), err, "%s: tensor %q", file, e.Tensor)
		}
		if !has[e.File] {
			return nil, nil, c.missingShard(e)
		}
		shards = append(shards, e.File)
	}
	if len(shards) == 0 {
		return nil, nil, fault.New(fault.Mismatch, "%s names no tensors", file)
	}
	slices.Sort(shards)
	return shards, index, nil
}

func (c *Checkpoint) missingShard(e safetensors.IndexEntry) error {
	err := fault.New(fault.Mismatch, "shard %s, which the index names for tensor %q, is missing", c.path(e.File), e.Tensor).
		WithHint("the download is incomplete; fetch the missing file")
	if why := c.skips(e.File); why != "" {
		err.Msg += " (" + why + ")"
	}
	return err
}

// skips returns why rel, or a folder above it, was passed over.
func (c *Checkpoint) skips(rel string) string {
	for _, s := range c.skipped {
		if s.Path == rel || strings.HasPrefix(rel, s.Path+"/") {
			return s.Path + " is a " + s.Why
		}
	}
	return ""
}

// openShards opens the files, checks them and lists their tensors. A nil index
// stands for a single shard without one.
func (c *Checkpoint) openShards(names []string, index []safetensors.IndexEntry) error {
	for _, name := range names {
		if err := c.openShard(name); err != nil {
			return err
		}
	}
	c.byName = make(map[string]int)
	for i, s := range c.shards {
		for _, j := range s.Header.Order {
			t := s.Header.Tensors[j]
			if first, dup := c.byName[t.Name]; dup {
				return fault.New(fault.Mismatch, "tensor %q lies in two shards, %s and %s",
					t.Name, c.path(c.shards[c.tensors[first].Shard].Path), c.path(s.Path))
			}
			c.byName[t.Name] = len(c.tensors)
			c.tensors = append(c.tensors, Tensor{Name: t.Name, DType: t.DType, Shape: t.Shape, Shard: i,
				Offset: s.Header.DataStart + t.Begin, Size: t.Size()})
		}
	}
	if index == nil {
		return nil
	}
	return c.checkIndex(index)
}

func (c *Checkpoint) openShard(name string) error {
	f, err := c.open(name)
	if err != nil {
		return fault.Wrap(fault.KindOf(err), err, "opening shard")
	}
	c.shards = append(c.shards, Shard{Path: name, file: f})
	s := &c.shards[len(c.shards)-1]
	info, err := f.Stat()
	if err != nil {
		return fault.Wrap(fault.General, err, "opening shard")
	}
	s.Size = info.Size()
	if s.Header, err = safetensors.Parse(f, s.Size); err != nil {
		return fault.Wrap(fault.KindOf(err), err, "%s", c.path(name))
	}
	return nil
}

// checkIndex demands that index and shards name the same tensors in the same
// files.
func (c *Checkpoint) checkIndex(index []safetensors.IndexEntry) error {
	const hint = "index and shards are of different versions; download both again"
	listed := make(map[string]bool, len(index))
	for _, e := range index {
		listed[e.Tensor] = true
		i, ok := c.byName[e.Tensor]
		if !ok {
			return fault.New(fault.Mismatch, "tensor %q, which the index places in %s, is not there", e.Tensor, c.path(e.File)).WithHint(hint)
		}
		if at := c.shards[c.tensors[i].Shard].Path; at != e.File {
			return fault.New(fault.Mismatch, "tensor %q lies in %s, the index places it in %s", e.Tensor, c.path(at), e.File).WithHint(hint)
		}
	}
	for _, t := range c.tensors {
		if !listed[t.Name] {
			return fault.New(fault.Mismatch, "tensor %q of %s is not in the index", t.Name, c.path(c.shards[t.Shard].Path)).WithHint(hint)
		}
	}
	return nil
}

func (c *Checkpoint) readConfig() error {
	for _, f := range c.others {
		if f.Path == configName {
			var err error
			c.config, err = c.ReadFile(configName, maxConfig)
			return err
		}
	}
	return nil
}
