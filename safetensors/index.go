package safetensors

import (
	"github.com/neuroseal/neuroseal/internal/fault"
)

// IndexEntry says in which file of a split checkpoint a tensor lies.
type IndexEntry struct {
	Tensor string
	File   string // relative to the index, slash-separated, as written
}

// ParseIndex reads the weight_map of a model.safetensors.index.json, in the
// order of the text. Other keys are passed over. Duplicate tensors, a missing
// weight_map and more than MaxHeader bytes give fault.Mismatch. File names are
// not judged here.
func ParseIndex(data []byte) ([]IndexEntry, error) {
	if len(data) > MaxHeader {
		return nil, fault.New(fault.Mismatch, "index of %d bytes, at most %d are accepted", len(data), MaxHeader)
	}
	s := &scanner{b: data, what: "index"}
	var entries []IndexEntry
	found := false
	err := s.object(func(key string, at int) error {
		if key != "weight_map" {
			return s.skip(maxDepth)
		}
		if found {
			return s.errorf(at, "duplicate key %q", key)
		}
		found = true
		var err error
		entries, err = s.weightMap()
		return err
	})
	if err == nil {
		err = s.end()
	}
	if err == nil && !found {
		err = fault.New(fault.Mismatch, "index without weight_map")
	}
	if err != nil {
		return nil, err
	}
	return entries, nil
}

func (s *scanner) weightMap() ([]IndexEntry, error) {
	var entries []IndexEntry
	seen := make(map[string]struct{})
	files := make(map[string]string) // one string per file, however many tensors
	err := s.object(func(tensor string, at int) error {
		if _, dup := seen[tensor]; dup {
			return s.errorf(at, "duplicate tensor %q in weight_map", tensor)
		}
		seen[tensor] = struct{}{}
		file, err := s.str()
		if err != nil {
			return err
		}
		if shared, ok := files[file]; ok {
			file = shared
		}
		files[file] = file
		entries = append(entries, IndexEntry{Tensor: tensor, File: file})
		return nil
	})
	return entries, err
}
